"""Many runs by one command, `python -m mlic.train -m ...`: Hydra's sweeps, their failures and their end."""

from mlic.sweeps.folders import FolderNames

__all__ = ["FolderNames"]

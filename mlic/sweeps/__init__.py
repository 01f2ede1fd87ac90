"""Hydra sweeps, `python -m mlic.train -m ...`: folder names, failing jobs, and the table of jobs."""

from mlic.sweeps.folders import FolderNames

__all__ = ["FolderNames"]

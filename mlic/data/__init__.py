"""Data: label tables read from annotations, then curated, split and weighted."""

import lazy_loader

# The names in __init__.pyi are imported when they are first used: reading and checking data does not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

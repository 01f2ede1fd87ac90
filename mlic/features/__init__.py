"""Features of a frozen backbone, computed once and stored on disk."""

import lazy_loader

# The names in __init__.pyi are imported on first use, so that listing the stores does not have to wait for lightning.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

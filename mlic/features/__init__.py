"""Features of a frozen backbone, computed once and kept on disk."""

import lazy_loader

# The names in __init__.pyi are imported when they are first used: listing the stores does not wait for lightning.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Multi-label image classification by transfer learning: frozen backbones, small heads, honest figures."""

import lazy_loader

# The names in __init__.pyi are imported when they are first used: `--help` does not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

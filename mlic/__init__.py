"""Multi-label image classification by transfer learning, with frozen backbones and small heads."""

import lazy_loader

# The names in __init__.pyi are imported on first use, so that `--help` does not have to wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Frozen backbones, heads, losses, and the LightningModule that trains a head."""

import lazy_loader

# The names in __init__.pyi are imported on first use: predicting does not wait for Lightning, which training needs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Metrics, thresholds, calibration, intervals and errors, computed from scores and targets without torch."""

import lazy_loader

# The names in __init__.pyi are imported when they are first used: commands that only list or check do not wait.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

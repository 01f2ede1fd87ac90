"""Use trained runs: score new photographs, and evaluate on labelled sets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlic.inference.classifier import Classifier
    from mlic.inference.evaluating import evaluate_run
    from mlic.inference.listing import list_images

# name -> module; imported on first use, so that listing files does not wait for torch
_PUBLIC = {"Classifier": "classifier", "evaluate_run": "evaluating", "list_images": "listing"}
__all__ = ["Classifier", "evaluate_run", "list_images"]


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)

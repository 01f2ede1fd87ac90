"""Class weights of the loss, computed from the counts of the training rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlic.errors import InputError, check_choice

SCHEMES = ("none", "inverse_sqrt", "inverse")


def class_weights(
    counts: np.ndarray,
    classes: Sequence[str],
    *,
    scheme: str = "inverse_sqrt",
    scale: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Compute one weight per class, `scale_c * f(n_c)`.

    `f` is 1 for `none`, `1 / sqrt(n)` for `inverse_sqrt`, and `1 / n` for `inverse`.

    Args:
        counts: number of training images known to have each class (C,); 0 counts as 1, so that the weight stays finite.
        classes: C names.
        scheme: `none`, `inverse_sqrt` or `inverse`.
        scale: factors by class name; 1 for other classes.

    Returns:
        (C,) float32.

    Raises:
        InputError: `scheme` is unknown, `scale` has a class that is not in `classes`, or a factor is out of range.
    """
    scale = dict(scale or {})
    _check(classes, scheme, scale)
    images = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    if scheme == "none":
        weights = np.ones_like(images)
    elif scheme == "inverse_sqrt":
        weights = 1 / np.sqrt(images)
    else:
        weights = 1 / images
    weights *= [scale.get(name, 1.0) for name in classes]
    return weights.astype(np.float32)


def _check(classes: Sequence[str], scheme: str, scale: Mapping[str, float]) -> None:
    check_choice("data.class_weights.scheme", scheme, SCHEMES)
    unknown = sorted(set(scale) - set(classes))
    if unknown:
        raise InputError(
            f"data.class_weights.scale: no class named {', '.join(unknown)}. "
            f"The classes after curation are: {', '.join(classes)}."
        )
    for name, factor in scale.items():
        if not isinstance(factor, int | float) or not (np.isfinite(factor) and factor >= 0):
            raise InputError(f"data.class_weights.scale.{name}={factor}: expected a number of at least 0.")
    if scale and all(scale.get(name, 1.0) == 0 for name in classes):
        raise InputError("data.class_weights.scale is 0 for every class; leave at least one above 0.")

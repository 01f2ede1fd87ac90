"""Class weights of the loss, computed from the counts of the training rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlic.errors import InputError, check_choice

SCHEMES = {"none": 0.0, "inverse_sqrt": -0.5, "inverse": -1.0}  # powers of the number of images


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
    check_choice("data.class_weights.scheme", scheme, tuple(SCHEMES))
    scale = dict(scale or {})
    factors = np.array([scale.get(name, 1.0) for name in classes], dtype=np.float64)
    if unknown := sorted(set(scale) - set(classes)):
        raise InputError(
            f"data.class_weights.scale: no class named {', '.join(unknown)}. The classes after curation are: "
            f"{', '.join(classes)}."
        )
    if not (np.isfinite(factors) & (factors >= 0)).all() or not factors.any():
        raise InputError(
            f"data.class_weights.scale={scale}: expected numbers of at least 0, and one above 0."
        )
    images = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    return (images ** SCHEMES[scheme] * factors).astype(np.float32)

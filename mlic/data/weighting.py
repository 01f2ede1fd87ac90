"""Class weights of the loss, from the counts of the training rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from mlic.errors import InputError

SCHEMES = ("none", "inverse_sqrt", "inverse", "effective_number")


def class_weights(
    counts: np.ndarray,
    classes: Sequence[str],
    *,
    scheme: str = "inverse_sqrt",
    scale: Mapping[str, float] | None = None,
    normalize: bool = False,
    beta: float = 0.999,
) -> np.ndarray:
    """One weight a class, `scale_c * f(n_c)`.

    `f` is 1 for `none`, `1 / sqrt(n)` for `inverse_sqrt`, `1 / n` for `inverse`, and `(1 - beta) / (1 -
    beta^n)` for `effective_number` (Cui et al., Class-Balanced Loss Based on Effective Number of Samples,
    CVPR 2019, eq. 2 and 4).

    Args:
        counts: (C,) training images with each class; 0 is taken as 1, so that the weight stays finite.
        classes: C names.
        scheme: one of the above.
        scale: class -> factor; 1 for classes not in it.
        normalize: divide by the mean, so that the mean weight is 1.
        beta: of `effective_number`, in [0, 1).

    Returns:
        (C,) float32.

    Raises:
        InputError: an unknown scheme, a class in `scale` that is not in `classes`, or a factor or beta out of
            range.
    """
    scale = dict(scale or {})
    _check(classes, scheme, scale, beta)
    images = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    if scheme == "none":
        weights = np.ones_like(images)
    elif scheme == "inverse_sqrt":
        weights = 1 / np.sqrt(images)
    elif scheme == "inverse":
        weights = 1 / images
    else:
        weights = (1 - beta) / (1 - beta**images)
    weights *= [scale.get(name, 1.0) for name in classes]
    if normalize:
        weights /= weights.mean()
    return weights.astype(np.float32)


def _check(classes: Sequence[str], scheme: str, scale: Mapping[str, float], beta: float) -> None:
    if scheme not in SCHEMES:
        raise InputError(f"data.class_weights.scheme: '{scheme}' is none of {', '.join(SCHEMES)}.")
    unknown = sorted(set(scale) - set(classes))
    if unknown:
        raise InputError(
            f"data.class_weights.scale: no class named {', '.join(unknown)}. "
            f"The classes after curation are: {', '.join(classes)}."
        )
    for name, factor in scale.items():
        if not (np.isfinite(factor) and factor >= 0):
            raise InputError(f"data.class_weights.scale.{name}={factor}: expected a number of at least 0.")
    if scale and all(scale.get(name, 1.0) == 0 for name in classes):
        raise InputError("data.class_weights.scale is 0 for every class; leave at least one above 0.")
    if not 0 <= beta < 1:
        raise InputError(
            f"data.class_weights.beta={beta}: expected a number from 0 up to, but not including, 1."
        )

"""Small made-up scores and targets."""

from collections.abc import Callable

import numpy as np
import pytest

ODD_NAMES = ("apple", "bär", "<script>", 'a "quoted": name', "score:e")


def _simulate(
    seed: int, images: int = 60, classes: int = 5, *, levels: int = 0, share: float = 0.3, unknown: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random((images, classes)) < share).astype(np.int8)
    scores = 1 / (1 + np.exp(-(random.normal(size=targets.shape) + 1.5 * targets - 1)))
    if levels:
        scores = np.round(scores * levels) / levels
    targets[random.random(targets.shape) < unknown] = -1
    if unknown:
        targets[0] = -1
    return scores.astype(np.float32), targets


@pytest.fixture
def simulate() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """(seed, images, classes) -> scores float32 in (0, 1), higher for positives, and targets int8.

    `levels` above 0 rounds the scores to so many values, which makes ties; a share of the labels is `unknown` (-1),
    and with it all of the first image.
    """
    return _simulate


@pytest.fixture
def names() -> Callable[[int], list[str]]:
    """count -> class names, the first few of them odd."""
    return lambda count: [*ODD_NAMES, *(f"class {index}" for index in range(count))][:count]

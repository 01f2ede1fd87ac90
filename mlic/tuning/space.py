"""The search space: ranges and choices of keys of the config."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
from scipy.stats import qmc

from mlic.errors import InputError

RANGES = ("uniform", "log_uniform", "integers")
KINDS = (*RANGES, "choice")


@dataclass(frozen=True)
class Dimension:
    """One setting of the search space.

    Attributes:
        key: key of the config, such as `optimizer.lr`.
        kind: one of KINDS.
        values: the two bounds of a range, or the values of a choice.
        branches: for a choice among configs of a group (`loss`, `optimizer`), the dimensions of each.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    branches: Mapping[str, tuple["Dimension", ...]]

    def value_at(self, share: float) -> Any:
        """Return the value at `share` in [0, 1) of the range or list."""
        if self.kind == "choice":
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = self.values
        if self.kind == "integers":
            return min(low + int(share * (high - low + 1)), high)
        if self.kind == "log_uniform":
            return exp(log(low) + share * (log(high) - log(low)))
        return low + share * (high - low)


def parse_space(space: Mapping[str, Any], prefix: str = "") -> tuple[Dimension, ...]:
    """Read a search space.

    Args:
        space: nested like the config. A mapping whose only key is one of KINDS is a dimension:
            `{uniform: [0, 0.8]}`, `{log_uniform: [0.0001, 0.01]}`, `{integers: [1, 4]}`, `{choice: [a, b]}`. A choice
            given as a mapping selects a config of a group, each with its own settings:
            `loss: {choice: {weighted_bce: {}, focal: {gamma: {uniform: [0.5, 3]}}}}`. Any other value is fixed.
        prefix: prefix of the keys, including the dot.

    Returns:
        The dimensions in the order of their keys.

    Raises:
        InputError: bounds are not a range, or a choice is empty; the message names the key.
    """
    return tuple(dimension for key, value in space.items() for dimension in _parse(f"{prefix}{key}", value))


def _parse(key: str, value: Any) -> Iterator[Dimension]:
    kinds = [kind for kind in KINDS if isinstance(value, Mapping) and kind in value]
    if kinds and len(value) > 1:
        raise InputError(
            f"tune.space.{key}: {', '.join(map(str, value))} cannot be combined. Remove one with "
            f"~tune.space.{key}.{kinds[0]}."
        )
    kind = kinds[0] if kinds else None
    if kind == "choice":
        yield _parse_choice(key, value["choice"])
    elif kind:
        yield Dimension(key, kind, _bounds(key, kind, value[kind]), {})
    elif isinstance(value, Mapping):
        yield from parse_space(value, f"{key}.")
    else:
        yield Dimension(key, "choice", (value,), {})


def _parse_choice(key: str, options: Any) -> Dimension:
    if not isinstance(options, Mapping | list | tuple) or not options:
        raise InputError(
            f"tune.space.{key}.choice: expected a list of values or a mapping of configs, got {options!r}."
        )
    branches = {}
    if isinstance(options, Mapping):
        branches = {str(name): parse_space(own or {}, f"{key}.") for name, own in options.items()}
    return Dimension(key, "choice", tuple(options), branches)


def _bounds(key: str, kind: str, bounds: Any) -> tuple[float, float]:
    is_pair = isinstance(bounds, list | tuple) and len(bounds) == 2
    kinds = int if kind == "integers" else int | float
    if not is_pair or not all(isinstance(bound, kinds) for bound in bounds) or not bounds[0] <= bounds[1]:
        raise InputError(f"tune.space.{key}.{kind}: expected [low, high], got {bounds!r}.")
    if kind == "log_uniform" and bounds[0] <= 0:
        raise InputError(f"tune.space.{key}.log_uniform: bounds must be above 0, got {bounds[0]}.")
    return bounds[0], bounds[1]


def draw_settings(dimensions: Sequence[Dimension], number: int, seed: int) -> list[dict[str, Any]]:
    """Draw the settings of `number` trials, spread evenly over the space by a scrambled Halton sequence.

    A quasi-random sequence leaves fewer gaps than independent draws (Bergstra and Bengio, Random Search for
    Hyper-Parameter Optimization, 2012, section 4). With the same seed, a larger number begins with the same trials.

    Args:
        dimensions: result of `parse_space`.
        number: number of trials.
        seed: seed of the scrambling.

    Returns:
        The settings of each trial by key, for the dimensions on the branches that it takes.
    """
    places = {dimension.key + path: place for place, (path, dimension) in enumerate(_walk(dimensions))}
    if not places:
        return [{} for _ in range(number)]
    points = qmc.Halton(len(places), scramble=True, rng=np.random.default_rng(seed)).random(number)
    return [dict(_settle(dimensions, places, point, "")) for point in points]


def _walk(dimensions: Sequence[Dimension], path: str = "") -> Iterator[tuple[str, Dimension]]:
    """Yield all dimensions, including those of branches, with their paths."""
    for dimension in dimensions:
        yield path, dimension
        for name, branch in dimension.branches.items():
            yield from _walk(branch, f"{path}|{dimension.key}={name}")


def _settle(
    dimensions: Sequence[Dimension], places: Mapping[str, int], point: Sequence[float], path: str
) -> Iterator[tuple[str, Any]]:
    for dimension in dimensions:
        value = dimension.value_at(float(point[places[dimension.key + path]]))
        yield dimension.key, value
        if dimension.branches:
            own = dimension.branches[str(value)]
            yield from _settle(own, places, point, f"{path}|{dimension.key}={value}")

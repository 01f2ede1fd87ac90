"""The settings that trials are drawn from: ranges and choices over the config's own keys."""

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
    """One setting that varies.

    Attributes:
        key: of the config, such as `optimizer.lr`.
        kind: one of KINDS.
        values: the two bounds of a range, or the values of a choice.
        branches: for a choice among configs of a group (`loss`, `optimizer`), the dimensions that go with each.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    branches: Mapping[str, tuple["Dimension", ...]]

    def value_at(self, share: float) -> Any:
        """The value at `share` in [0, 1) of the range or of the list."""
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
            given as a mapping picks a config of a group, each with settings of its own:
            `loss: {choice: {weighted_bce: {}, focal: {gamma: {uniform: [0.5, 3]}}}}`. Any other value is fixed.
        prefix: of the keys, with its dot.

    Returns:
        The dimensions in the order of their keys.

    Raises:
        InputError: bounds that are no range, or an empty choice, with the key.
    """
    return tuple(dimension for key, value in space.items() for dimension in _parse(f"{prefix}{key}", value))


def _parse(key: str, value: Any) -> Iterator[Dimension]:
    kinds = [kind for kind in KINDS if isinstance(value, Mapping) and kind in value]
    if kinds and len(value) > 1:
        raise InputError(
            f"tune.space.{key}: {', '.join(map(str, value))} together say nothing. Remove one with "
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
            f"tune.space.{key}.choice: {options!r} is no list of values, and no mapping of configs."
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
        raise InputError(f"tune.space.{key}.log_uniform: {bounds[0]} is not above 0.")
    return bounds[0], bounds[1]


def draw_settings(dimensions: Sequence[Dimension], number: int, seed: int) -> list[dict[str, Any]]:
    """Settings of `number` trials, spread evenly over the space by a scrambled Halton sequence.

    A quasi-random sequence leaves fewer gaps than independent draws (Bergstra and Bengio, Random Search for
    Hyper-Parameter Optimization, 2012, section 4). More trials of one seed begin with the same ones.

    Args:
        dimensions: from `parse_space`.
        number: of trials.
        seed: of the scrambling.

    Returns:
        Key -> value for each trial, of the dimensions that its choices lead to.
    """
    places = {dimension.key + path: place for place, (path, dimension) in enumerate(_walk(dimensions))}
    if not places:
        return [{} for _ in range(number)]
    points = qmc.Halton(len(places), scramble=True, rng=np.random.default_rng(seed)).random(number)
    return [dict(_settle(dimensions, places, point, "")) for point in points]


def _walk(dimensions: Sequence[Dimension], path: str = "") -> Iterator[tuple[str, Dimension]]:
    """All dimensions, those of branches too, with the branches taken on the way."""
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

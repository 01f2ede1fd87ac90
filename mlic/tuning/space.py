"""The search space: ranges and choices of keys of the config, and the values that a trial takes from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import BaseTrial

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
        name: name of the parameter in the study: the key or, if branches have different dimensions with this key, the
            key with the branch.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    branches: Mapping[str, tuple["Dimension", ...]]
    name: str = ""

    def suggest(self, trial: BaseTrial) -> Any:
        """Return the value of a trial."""
        if self.kind == "choice":
            if len(self.values) == 1:  # a study need not know of settings that never vary
                return self.values[0]
            options = {encode(value): value for value in self.values}
            return options[trial.suggest_categorical(self.name, list(options))]
        low, high = self.values
        if self.kind == "integers":
            return trial.suggest_int(self.name, low, high)
        return trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")

    def contains(self, value: Any) -> bool:
        """Return True if a value is one of the choices, or a number in the range."""
        if self.kind == "choice":
            return value in self.values
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.values[0] <= value <= self.values[1]


def encode(value: Any) -> Any:
    """Return a choice as a parameter of a study, which must be a plain value."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def parse_space(space: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Read a search space.

    Args:
        space: nested like the config. A mapping whose only key is one of KINDS is a dimension:
            `{uniform: [0, 0.8]}`, `{log_uniform: [0.0001, 0.01]}`, `{integers: [1, 4]}`, `{choice: [a, b]}`. A choice
            given as a mapping selects a config of a group, each with its own settings:
            `loss: {choice: {weighted_bce: {}, focal: {gamma: {uniform: [0.5, 3]}}}}`. Any other value is fixed.

    Returns:
        The dimensions in the order of their keys.

    Raises:
        InputError: bounds are not a range, or a choice is empty; the message names the key.
    """
    dimensions = tuple(_parse(space, ""))
    ranges: dict[str, set[str]] = {}
    for dimension in _walk(dimensions):
        ranges.setdefault(dimension.key, set()).add(f"{dimension.kind} {dimension.values}")
    return _with_names(dimensions, "", {key for key, own in ranges.items() if len(own) > 1})


def _parse(space: Mapping[str, Any], prefix: str) -> Iterator[Dimension]:
    for name, value in space.items():
        key = f"{prefix}{name}"
        kinds = [kind for kind in KINDS if isinstance(value, Mapping) and kind in value]
        if kinds and len(value) > 1:
            raise InputError(
                f"tune.space.{key}: {', '.join(map(str, value))} cannot be combined. Remove one with "
                f"~tune.space.{key}.{kinds[0]}."
            )
        if kinds:
            kind = kinds[0]
            yield _choice(key, value[kind]) if kind == "choice" else _range(key, kind, value[kind])
        elif isinstance(value, Mapping):
            yield from _parse(value, f"{key}.")
        else:
            yield Dimension(key, "choice", (value,), {})


def _choice(key: str, options: Any) -> Dimension:
    if not isinstance(options, Mapping | list | tuple) or not options:
        raise InputError(
            f"tune.space.{key}.choice: expected a list of values or a mapping of configs, got {options!r}."
        )
    branches = {}
    if isinstance(options, Mapping):
        branches = {str(name): tuple(_parse(own or {}, f"{key}.")) for name, own in options.items()}
    return Dimension(key, "choice", tuple(options), branches)


def _range(key: str, kind: str, bounds: Any) -> Dimension:
    is_pair = isinstance(bounds, list | tuple) and len(bounds) == 2
    kinds = int if kind == "integers" else int | float
    if not is_pair or not all(isinstance(bound, kinds) for bound in bounds) or not bounds[0] <= bounds[1]:
        raise InputError(f"tune.space.{key}.{kind}: expected [low, high], got {bounds!r}.")
    if kind == "log_uniform" and bounds[0] <= 0:
        raise InputError(f"tune.space.{key}.log_uniform: bounds must be above 0, got {bounds[0]}.")
    return Dimension(key, kind, tuple(bounds), {})


def _walk(dimensions: Sequence[Dimension]) -> Iterator[Dimension]:
    for dimension in dimensions:
        yield dimension
        for branch in dimension.branches.values():
            yield from _walk(branch)


def _with_names(dimensions: Sequence[Dimension], branch: str, ambiguous: set[str]) -> tuple[Dimension, ...]:
    return tuple(
        replace(
            own,
            name=f"{own.key} ({branch})" if own.key in ambiguous else own.key,
            branches={name: _with_names(below, name, ambiguous) for name, below in own.branches.items()},
        )
        for own in dimensions
    )


def suggest(trial: BaseTrial, dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return the settings of a trial by key, for the dimensions on the branches that it takes."""
    settings: dict[str, Any] = {}
    for dimension in dimensions:
        value = settings[dimension.key] = dimension.suggest(trial)
        settings |= suggest(trial, dimension.branches.get(str(value), ()))
    return settings


def contained(
    dimensions: Sequence[Dimension], value_of: Callable[[str], Any]
) -> Iterator[tuple[Dimension, Any]]:
    """Yield the dimensions that contain the value of their key, with this value."""
    for dimension in dimensions:
        value = value_of(dimension.key)
        if dimension.contains(value):
            yield dimension, value
            yield from contained(dimension.branches.get(str(value), ()), value_of)

"""The search space: ranges and choices of keys of the config, and the values that a trial takes from it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from optuna.trial import BaseTrial

from mlic.errors import InputError

KINDS = ("uniform", "log_uniform", "integers", "choice")
OUTSIDE = object()  # value of a setting that the search space does not contain

Take = Callable[[str, str, str, Any], Any]  # (key, name of the parameter, kind, bounds or choices) -> value


class Space:
    """The search space.

    It is nested like the config. A mapping whose only key is one of KINDS is searched: `{uniform: [0, 0.8]}`,
    `{log_uniform: [0.0001, 0.01]}`, `{integers: [1, 4]}`, `{choice: [a, b]}`. A choice given as a mapping selects a
    config of a group, each with its own settings:
    `loss: {choice: {weighted_bce: {}, focal: {gamma: {uniform: [0.5, 3]}}}}`. null is not searched, any other value is
    fixed.
    """

    def __init__(self, space: Mapping[str, Any]) -> None:
        """Read a search space from plain containers.

        Raises:
            InputError: kinds are combined, or a choice is empty; the message names the key.
        """
        self._space = space
        # a key whose range differs between branches is a parameter of its own in each
        different = {(key, f"{kind} {values}") for key, kind, values in _leaves(space, "")}
        self._ambiguous = {key for key, count in Counter(key for key, _ in different).items() if count > 1}

    def suggest(self, trial: BaseTrial, given: Callable[[str], Any] | None = None) -> dict[str, Any]:
        """Return the settings of a trial by key.

        Args:
            trial: trial that suggests the values.
            given: returns the value of a key in the given config; what the space does not contain is left out.

        Raises:
            InputError: bounds are not a range; the message names the key.
        """

        def take(key: str, name: str, kind: str, values: Any) -> Any:
            if given is not None and not _contains(kind, values, given(key)):
                return OUTSIDE
            try:
                return _draw(trial, name, kind, values)
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"tune.space.{key}.{kind}: expected [low, high], got {values}: {error}"
                ) from error

        return self._walk(self._space, take, "", "")

    def parameters(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """Return the parameters of a study for the values of keys, without those outside of the space."""
        parameters: dict[str, Any] = {}

        def take(key: str, name: str, kind: str, values: Any) -> Any:
            if not _contains(kind, values, value := value_of(key)):
                return OUTSIDE
            parameters[name] = _encode(value)
            return value

        self._walk(self._space, take, "", "")
        return parameters

    def _walk(self, space: Mapping[str, Any], take: Take, prefix: str, branch: str) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key, kind, values in _leaves(space, prefix, within_branches=False):
            name = f"{key} ({branch})" if key in self._ambiguous else key
            if (value := take(key, name, kind, values)) is not OUTSIDE:
                settings[key] = value
                if isinstance(values, Mapping):
                    settings |= self._walk(values[value] or {}, take, f"{key}.", str(value))
        return settings


def _leaves(
    space: Mapping[str, Any], prefix: str, *, within_branches: bool = True
) -> Iterator[tuple[str, str, Any]]:
    """Yield key, kind, and bounds or choices of each setting."""
    for name, own in space.items():
        key, kinds = f"{prefix}{name}", [kind for kind in KINDS if isinstance(own, Mapping) and kind in own]
        if kinds and (len(own) > 1 or not isinstance(own[kinds[0]], Mapping | list) or not own[kinds[0]]):
            raise InputError(
                f"tune.space.{key}: expected one of {', '.join(KINDS)} with a list or, for a choice, a mapping of "
                f"configs, got {own}. Remove what is too much with ~tune.space.{key}.{kinds[0]}."
            )
        if kinds:
            yield key, kinds[0], own[kinds[0]]
            if within_branches and isinstance(own[kinds[0]], Mapping):
                for branch in own[kinds[0]].values():
                    yield from _leaves(branch or {}, f"{key}.")
        elif isinstance(own, Mapping):
            yield from _leaves(own, f"{key}.", within_branches=within_branches)
        elif own is not None:
            yield key, "choice", [own]


def _draw(trial: BaseTrial, name: str, kind: str, values: Any) -> Any:
    if kind == "choice":
        options = {_encode(value): value for value in values}
        if len(options) == 1:  # a study need not know of settings that never vary
            return next(iter(values))
        return options[trial.suggest_categorical(name, list(options))]
    low, high = values
    if kind == "integers":
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=kind == "log_uniform")


def _contains(kind: str, values: Any, value: Any) -> bool:
    if kind == "choice":
        return value in values
    return isinstance(value, int | float) and values[0] <= value <= values[1]


def _encode(value: Any) -> Any:
    """Return a choice as a parameter of a study, which must be a plain value."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)

"""Safe construction of the objects that a checkpoint names.

A checkpoint may come from anyone. Hydra's `instantiate` would call any `_target_`, even through the imports of a
module (`mlic.models.weights.logging.os.system`). Here a target must be a class of a network or loss that is defined
in an allowed package. Packages other than mlic are allowed only by the settings of the user, never by a checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, TypeGuard

from torch import nn

import mlic.data
from mlic.errors import InputError

PACKAGES = ("mlic.models",)
HYDRA_KEYS = ("_target_", "_partial_", "_recursive_", "_convert_")


def check_packages(packages: Any) -> tuple[str, ...]:
    """Return the names in the setting `packages`, a list of names or one name.

    Raises:
        InputError: the setting is neither.
    """
    names = (packages,) if isinstance(packages, str) else packages
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"packages: expected a list of names of Python packages, such as packages=[mine], got '{packages}'."
        )
    return tuple(names)


def build(config: Any, *arguments: Any, packages: Sequence[str] = ()) -> Any:
    """Build an object like Hydra's `instantiate`, restricted to network classes of allowed packages.

    Args:
        config: `_target_` and keyword arguments, which may contain nested configs.
        arguments: positional arguments, passed first.
        packages: packages of the user whose `nn.Module` classes may be built besides those of mlic.

    Raises:
        InputError: a target is refused, or the arguments do not fit it.
    """
    target = config.get("_target_") if isinstance(config, Mapping) else None
    made = find_module_class(target, packages)
    options = {key: _build_nested(value, packages) for key, value in config.items() if key not in HYDRA_KEYS}
    try:
        return made(*arguments, **options)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the settings of the checkpoint do not fit '{target}': {error}.") from error


def _build_nested(value: Any, packages: Sequence[str]) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        if value.get("_partial_"):
            return partial(build, value, packages=packages)
        return build(value, packages=packages)
    if isinstance(value, Mapping):
        return {key: _build_nested(item, packages) for key, item in value.items()}
    return [_build_nested(item, packages) for item in value] if isinstance(value, list | tuple) else value


def find_module_class(target: Any, packages: Sequence[str] = ()) -> type[nn.Module]:
    """Return the `nn.Module` class with a full name.

    Args:
        target: full name of the class.
        packages: see `build`.

    Raises:
        InputError: the class does not exist, or is not defined in mlic or one of the packages.
    """
    module_name, _, name = str(target).rpartition(".")
    allowed = tuple(dict.fromkeys((*PACKAGES, *packages)))
    if _is_inside(module_name, allowed):
        try:
            found = getattr(import_module(module_name), name, None)
        except ImportError as error:
            if not _is_inside(module_name, PACKAGES):
                raise InputError(
                    f"the checkpoint uses '{target}' in its network, which cannot be imported "
                    f"({error}). Install its package, or put its folder on PYTHONPATH."
                ) from error
            found = None
        if _is_network(found) and _is_inside(found.__module__, allowed):
            return found
    own = str(target).partition(".")[0]
    raise InputError(
        f"the checkpoint uses '{target}' in its network. Only torch.nn.Module classes of {', '.join(allowed)} "
        "are built from checkpoints, because anything else could run code of the author of the file. "
        "Allow a package that you trust, such as your own, with "
        f"packages=[{own if own.isidentifier() and own not in allowed else 'mine'}]."
    )


def _is_network(found: Any) -> TypeGuard[type[nn.Module]]:
    return isinstance(found, type) and issubclass(found, nn.Module)


def _is_inside(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def find_reader(
    target: Any,
) -> "Callable[..., mlic.data.LabelTable]":  # whose import takes longer than a prediction
    """Return the annotation reader with a name, one of `mlic.data.read_*`.

    Raises:
        InputError: the name is not one of them.
    """
    module_name, _, name = str(target).rpartition(".")
    if module_name == "mlic.data" and name.startswith("read_") and name in dir(mlic.data):
        return getattr(mlic.data, name)
    raise InputError(
        f"the run read its data with '{target}', which is not one of mlic.data.read_* and is therefore not called "
        "for a checkpoint. Specify the data set with data=... data.annotations=... data.images=..."
    )

"""Build what a checkpoint names, and nothing that it should not name.

A checkpoint may come from anyone. Hydra's `instantiate` would call whatever its `_target_` leads to, also
through the modules that a module imports (`mlic.models.weights.logging.os.system`). Here a target is a class,
of an allowed package itself, that is a network or a loss. Packages beside mlic's own are allowed by the user's
settings alone, never by a checkpoint.
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
    """The setting `packages`: a list of names, or one name.

    Raises:
        InputError: something else.
    """
    names = (packages,) if isinstance(packages, str) else packages
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"packages: '{packages}' must be a list of names of Python packages, such as packages=[mine]."
        )
    return tuple(names)


def build(config: Any, *arguments: Any, packages: Sequence[str] = ()) -> Any:
    """Equivalent to Hydra's `instantiate` for a plain config, restricted to modules of some packages.

    Args:
        config: `_target_` and the keyword arguments; further ones may be nested in them.
        arguments: positional ones, put in front.
        packages: the user's own ones, whose `nn.Module` classes may be built beside those of mlic.

    Raises:
        InputError: a target that is refused, or arguments that do not fit it.
    """
    target = config.get("_target_") if isinstance(config, Mapping) else None
    made = find_module_class(target, packages)
    options = {key: _build_nested(value, packages) for key, value in config.items() if key not in HYDRA_KEYS}
    try:
        return made(*arguments, **options)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"the checkpoint's settings do not fit '{target}': {error}.") from error


def _build_nested(value: Any, packages: Sequence[str]) -> Any:
    if isinstance(value, Mapping) and "_target_" in value:
        if value.get("_partial_"):
            return partial(build, value, packages=packages)
        return build(value, packages=packages)
    if isinstance(value, Mapping):
        return {key: _build_nested(item, packages) for key, item in value.items()}
    return [_build_nested(item, packages) for item in value] if isinstance(value, list | tuple) else value


def find_module_class(target: Any, packages: Sequence[str] = ()) -> type[nn.Module]:
    """The `nn.Module` class with that full name.

    Args:
        target: the name.
        packages: see `build`.

    Raises:
        InputError: the class is not there, or not defined in mlic or one of the packages.
    """
    module_name, _, name = str(target).rpartition(".")
    allowed = tuple(dict.fromkeys((*PACKAGES, *packages)))
    if _is_inside(module_name, allowed):
        try:
            found = getattr(import_module(module_name), name, None)
        except ImportError as error:
            if not _is_inside(module_name, PACKAGES):
                raise InputError(
                    f"the checkpoint names '{target}' as a part of its network, which cannot be imported "
                    f"({error}). Install its package, or put its folder on PYTHONPATH."
                ) from error
            found = None
        if _is_network(found) and _is_inside(found.__module__, allowed):
            return found
    own = str(target).partition(".")[0]
    raise InputError(
        f"the checkpoint names '{target}' as a part of its network. Only classes of {', '.join(allowed)} "
        "are built from checkpoints (each a torch.nn.Module), since anything else could run code of whoever "
        "made the file. Allow a package that you trust, such as one of your own, with "
        f"packages=[{own if own.isidentifier() and own not in allowed else 'mine'}]."
    )


def _is_network(found: Any) -> TypeGuard[type[nn.Module]]:
    return isinstance(found, type) and issubclass(found, nn.Module)


def _is_inside(module_name: str, packages: Sequence[str]) -> bool:
    return any(module_name == package or module_name.startswith(f"{package}.") for package in packages)


def find_reader(target: Any) -> Callable[..., mlic.data.LabelTable]:
    """The reader of annotations with that name, one of `mlic.data.read_*`.

    Raises:
        InputError: it is none of them.
    """
    module_name, _, name = str(target).rpartition(".")
    if module_name == "mlic.data" and name.startswith("read_") and name in mlic.data.__all__:
        return getattr(mlic.data, name)
    raise InputError(
        f"the run's data was read by '{target}', which is none of mlic.data.read_*: it is not called on a "
        "checkpoint's word. Name the data set with data=... data.annotations=... data.images=..."
    )

"""Build what a checkpoint names, and nothing that it should not name.

A checkpoint may come from anyone. Hydra's `instantiate` would call whatever its `_target_` leads to, also
through the modules that a module imports (`mlic.models.weights.logging.os.system`). Here a target is a class,
of an allowed package itself, that is a network or a loss.
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


def build(config: Any, *arguments: Any, packages: Sequence[str] = PACKAGES) -> Any:
    """Equivalent to Hydra's `instantiate` for a plain config, restricted to modules of some packages.

    Args:
        config: `_target_` and the keyword arguments; further ones may be nested in them.
        arguments: positional ones, put in front.
        packages: names of those whose `nn.Module` classes may be built.

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


def find_module_class(target: Any, packages: Sequence[str] = PACKAGES) -> type[nn.Module]:
    """The `nn.Module` class with that full name.

    Raises:
        InputError: the class is not there, or not defined in one of the packages.
    """
    module_name, _, name = str(target).rpartition(".")
    if _is_inside(module_name, packages):
        try:
            found = getattr(import_module(module_name), name, None)
        except ImportError:
            found = None
        if _is_network(found) and _is_inside(found.__module__, packages):
            return found
    raise InputError(
        f"the checkpoint names '{target}' as a part of its network. Only classes of {', '.join(packages)} "
        "are built from checkpoints, since anything else could run code of whoever made the file. Load a "
        "network of your own with Classifier.load(run, packages=[..., 'your_package'])."
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

"""Safe construction of the backbone, the head and the loss of a checkpoint.

A checkpoint may come from anyone. Hydra's `instantiate` would call any `_target_`, even through the imports of a
module (`mlic.models.weights.logging.os.system`). Here a target must be a class of a network or loss that is defined
in an allowed package. Packages other than mlic are allowed only by the settings of the user, never by a checkpoint.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlic.errors import InputError
from mlic.inference.checkpoint import SavedRun
from mlic.models import Backbone
from mlic.runs.removed_settings import drop_removed

logger = logging.getLogger(__name__)

PACKAGE = "mlic.models"
HYDRA_KEYS = ("_target_", "_partial_", "_recursive_", "_convert_")
WeightsFiles = str | Path | Sequence[str | Path | None] | None


def find_device(name: str) -> torch.device:
    """Return a device on which tensors can be created.

    Args:
        name: `auto` (the accelerator of this machine, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        InputError: the device is not available.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        probe = torch.ones(1, device=name)
        probe.cpu()  # `meta` has no values
        return probe.device
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device: '{name}' cannot be used ({reason}). Expected auto, cpu, cuda or cuda:1."
        ) from error


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
        made = partial(build, value, packages=packages)
        return made if value.get("_partial_") else made()
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
    allowed, reason = tuple(dict.fromkeys((PACKAGE, *packages))), ""
    if _is_inside(module_name, allowed):
        try:
            found = getattr(import_module(module_name), name, None)
            # a module also has what it imports
            if (
                isinstance(found, type)
                and issubclass(found, nn.Module)
                and _is_inside(found.__module__, allowed)
            ):
                return found
        except ImportError as error:
            reason = f" and cannot be imported ({error})"
    raise InputError(
        f"the checkpoint uses '{target}' in its network, which is refused{reason}. Only torch.nn.Module classes of "
        f"{', '.join(allowed)} are built from checkpoints, because anything else could run code of the author of the "
        f"file. Allow a package that you trust with packages=[{str(target).partition('.')[0]}]."
    )


def _is_inside(module_name: str, packages: Sequence[str]) -> bool:
    return any(f"{module_name}.".startswith(f"{package}.") for package in packages)


def make_backbone(
    saved: SavedRun,
    device: torch.device,
    *,
    weights: WeightsFiles = None,
    precision: str | None = None,
    packages: Sequence[str] = (),
) -> Backbone:
    """Build the backbone, or the ensemble, that the head was trained on.

    Random weights are drawn again from the seed of the run.

    Args:
        saved: content of the checkpoint.
        device: device of the backbone.
        weights: local file of the weights, instead of the location used by the run; a list for an ensemble.
        precision: precision instead of that of the run.
        packages: see `build`.

    Raises:
        InputError: weights are not found or are not those of the run, or one of the precisions is int8.
    """
    options = _override(saved.config["model"]["backbone"], weights, precision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(saved.config.get("seed", 0))
        backbone: Backbone = build(options, packages=packages)
    here, there = backbone.weights_digest[:12], saved.weights_digest[:12]
    if backbone.weights_digest != saved.weights_digest:
        raise InputError(
            f"'{saved.checkpoint}' was trained on features of other weights of {backbone.name} (sha256 {there}..., "
            f"here {here}...). Set model.backbone.weights to the file of the run. Random weights "
            "(model.backbone.pretrained=false) depend on the versions of torch and timm: train such a run again here."
        )
    if set(saved.backbone_state) != backbone.trained_names:
        raise InputError(
            f"'{saved.checkpoint}' contains other weights than model.backbone.unfreeze in its config."
        )
    _load_state(backbone, saved.backbone_state, saved, strict=False)
    backbone.optimize_for(device).to(device)
    if saved.precision not in (None, backbone.precision):
        if "int8" in (saved.precision, backbone.precision):  # cosines to features in float32 are 0.9 to 0.99
            raise InputError(
                f"the head was trained on features in {saved.precision}, not in {backbone.precision}. Train a run with "
                "model.backbone.precision=float32 to export it or to use it in another precision.",
                key="model.backbone.precision",
            )
        logger.warning(
            "the backbone of the run computed in %s, but here it computes in %s: scores differ in the third digit",
            saved.precision,
            backbone.precision,
        )
    return backbone


def _override(options: Mapping[str, Any], weights: WeightsFiles, precision: str | None) -> dict[str, Any]:
    """Replace weights and precision in the settings of a backbone, or of each member of an ensemble."""
    kept, members = drop_removed(options, "model.backbone"), options.get("members")
    if members is None:
        given = {"precision": precision, "weights": weights and str(weights)}
        return {**kept, **{key: value for key, value in given.items() if value}}
    files = [None] * len(members) if weights is None else weights
    if isinstance(files, str | Path) or len(files) != len(members):
        raise InputError(
            f"model.backbone.weights: expected a list of {len(members)} files, one per member of the ensemble "
            f"in its order, with null for members whose weights are available; got '{weights}'."
        )
    own = zip(members, files, strict=True)
    return {**kept, "members": [_override(member, file, precision) for member, file in own]}


def make_head(saved: SavedRun, feature_shape: tuple[int, ...], packages: Sequence[str] = ()) -> nn.Module:
    """Build the head with its trained weights in eval mode.

    Raises:
        InputError: the weights do not fit the head of the config.
    """
    config = saved.config["head"]
    # Heads of mlic are built without values and take those of the file, so that a file whose settings ask for a larger
    # head than it contains gets no memory. Constructors of other packages may need real values.
    is_known = str(config.get("_target_")).startswith(f"{PACKAGE}.")
    with torch.random.fork_rng(devices=[]), torch.device("meta" if is_known else "cpu"):
        head: nn.Module = build(config, feature_shape, len(saved.classes), packages=packages)
    own = head.state_dict()
    state = {name: tensor.to(own[name].dtype) for name, tensor in saved.head_state.items() if name in own}
    _load_state(head, {**saved.head_state, **state}, saved, assign=True)
    return head.eval()


def _load_state(module: nn.Module, state: Mapping[str, Tensor], saved: SavedRun, **options: bool) -> None:
    try:
        module.load_state_dict(state, **options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({reason})."
        ) from error

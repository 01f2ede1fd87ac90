"""Building the backbone and the head of a checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlic.errors import InputError
from mlic.inference.building import PACKAGES, build
from mlic.inference.checkpoint import SavedRun
from mlic.models import Backbone
from mlic.runs.removed_settings import drop_removed

logger = logging.getLogger(__name__)

DIGITS_SHOWN = 12
NARROW = {"bf16-true": torch.bfloat16, "16-true": torch.float16}  # precisions of the `lightning.Trainer`
WeightsFiles = str | Path | Sequence[str | Path | None] | None


def find_device(name: str) -> torch.device:
    """Return a device on which tensors can be created.

    Args:
        name: `auto` (the accelerator of this machine, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        InputError: the device is not available.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        probe = torch.ones(1, device=name)
        probe.cpu()  # `meta` has no values
        return probe.device
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device: '{name}' cannot be used ({reason}). Expected auto, cpu, cuda or cuda:1."
        ) from error


def head_dtype(config: Mapping[str, Any]) -> torch.dtype:
    """Return the dtype in which a run computes scores.

    They are computed without mixed precision; only weights that were trained in a narrow format (`bf16-true`) keep it.

    Args:
        config: whole config of the run.
    """
    return NARROW.get(str(config["trainer"].get("precision")), torch.float32)


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
    if backbone.weights_digest != saved.weights_digest:
        raise InputError(_other_weights(saved, backbone))
    _load_trained(saved, backbone)
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
    options = drop_removed(options, "model.backbone")
    members = options.get("members")
    given = {"precision": precision} if precision else {}
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        return {**options, **given, **({"weights": str(weights)} if weights else {})}
    files = [None] * len(members) if weights is None else weights
    if isinstance(files, str | Path) or len(files) != len(members):
        raise InputError(
            f"model.backbone.weights: expected a list of {len(members)} files, one per member of the ensemble "
            f"in its order, with null for members whose weights are available; got '{weights}'."
        )
    changes = [{**given, **({"weights": str(file)} if file else {})} for file in files]
    pairs = zip(members, changes, strict=True)
    return {**options, "members": [{**drop_removed(own, "model.backbone"), **new} for own, new in pairs]}


def _load_trained(saved: SavedRun, backbone: Backbone) -> None:
    """Load the trained part of the backbone."""
    if set(saved.backbone_state) != backbone.trained_names:
        raise InputError(
            f"'{saved.checkpoint}' contains other weights of the backbone than those that its config trains "
            "(model.backbone.unfreeze)."
        )
    try:
        backbone.load_state_dict(saved.backbone_state, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({reason})."
        ) from error


def _other_weights(saved: SavedRun, backbone: Backbone) -> str:
    differing = ", and ".join(
        f"weights {run[:DIGITS_SHOWN]}..., but those of '{name}' here are {here[:DIGITS_SHOWN]}..."
        for name, run, here in _differing(saved, backbone)
    )
    sides = f"'{saved.checkpoint}' was trained on features of {differing} (sha256)."
    if "random" in backbone.weights_tag:
        return (
            f"{sides} They were random (model.backbone.pretrained=false), and depend on the versions of torch "
            "and timm. Train the run again here."
        )
    return f"{sides} Use the file of the run: model.backbone.weights=/path/to/file."


def _differing(saved: SavedRun, backbone: Backbone) -> list[tuple[str, str, str]]:
    """Return name, digest in the run and digest here of each network with different weights."""
    pairs = zip(backbone.members, saved.member_digests, strict=False)
    found = [
        (member.name, digest, member.weights_digest)
        for member, digest in pairs
        if digest != member.weights_digest
    ]
    return found or [(backbone.name, saved.weights_digest, backbone.weights_digest)]


def make_head(saved: SavedRun, feature_shape: tuple[int, ...], packages: Sequence[str] = ()) -> nn.Module:
    """Build the head with its trained weights in eval mode.

    Raises:
        InputError: the weights do not fit the head of the config.
    """
    options = (saved.config["head"], feature_shape, len(saved.classes))
    _check_size(saved, packages, *options)
    with torch.random.fork_rng(devices=[]):  # its initial weights are random and will be replaced
        head: nn.Module = build(*options, packages=packages)
    try:
        head.load_state_dict(saved.head_state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({reason})."
        ) from error
    return head.eval()


def _check_size(saved: SavedRun, packages: Sequence[str], config: Any, *arguments: Any) -> None:
    """Refuse settings of a larger head than the file contains before memory is allocated.

    Heads of other packages are not checked, because their constructors may need real weights.
    """
    target = config.get("_target_") if isinstance(config, Mapping) else None
    if not str(target).startswith(tuple(f"{package}." for package in PACKAGES)):
        return
    with torch.device("meta"):  # shapes without values
        state = build(config, *arguments, packages=packages).state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, tensor in saved.head_state.items():
        shape = tuple(tensor.shape)
        expected = shapes.get(name, shape)
        # rows that the head takes from the file, such as those of the training images, are 0 before
        if shape != (shape[:1] + expected[1:] if expected[:1] == (0,) else expected):
            raise InputError(
                f"'{saved.checkpoint}': the weights do not fit its own config ({name} has shape {tuple(tensor.shape)}, "
                f"expected {shapes[name]})."
            )
    absent = sorted(shapes.keys() - saved.head_state.keys())
    if absent:
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({', '.join(absent[:3])} not in the file)."
        )

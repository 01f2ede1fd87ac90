"""Build the backbone and the head that a checkpoint describes."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from mlic.errors import InputError
from mlic.inference.building import PACKAGES, build
from mlic.inference.checkpoint import SavedRun
from mlic.models import FrozenBackbone

logger = logging.getLogger(__name__)

DIGITS_SHOWN = 12


def make_fabric(device: str, precision: Any = None) -> L.Fabric:
    """What moves the head to a device, and runs it as training did when it computed scores.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the run's `lightning.Trainer`. Scores are computed without mixed precision; only weights
            that were trained in a narrow format (`bf16-true`) keep it.

    Raises:
        InputError: there is no such device.
    """
    accelerator, _, number = device.partition(":")
    narrow = str(precision).endswith("16-true")
    try:
        return L.Fabric(
            accelerator=accelerator,
            devices=[int(number)] if number else 1,
            precision=precision if narrow else "32-true",
        )
    except Exception as error:  # Lightning has several kinds for this
        raise InputError(
            f"device: '{device}' cannot be used ({error}). Expected auto, cpu, cuda or cuda:1."
        ) from error


def make_backbone(
    saved: SavedRun,
    device: torch.device,
    *,
    weights: str | Path | None = None,
    precision: str | None = None,
    packages: Sequence[str] = PACKAGES,
) -> FrozenBackbone:
    """The backbone that the head was trained on.

    A run with random weights gets them again from its seed.

    Args:
        saved: what the checkpoint says.
        device: where it will run.
        weights: local file of its weights, instead of where the run found them.
        precision: instead of the run's own setting.
        packages: as for `build`.

    Raises:
        InputError: no weights found, or other ones than the run's.
    """
    options = dict(saved.config["model"]["backbone"])
    options |= {"weights": str(weights)} if weights else {}
    options |= {"precision": precision} if precision else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(saved.config.get("seed", 0))
        backbone: FrozenBackbone = build(options, packages=packages)
    if backbone.weights_digest != saved.weights_digest:
        raise InputError(_other_weights(saved, backbone, options))
    _load_trained(saved, backbone)
    backbone.optimize_for(device).to(device)
    if saved.precision not in (None, backbone.precision):
        logger.warning(
            "the run's backbone computed in %s, here it computes in %s: scores differ in their third digit",
            saved.precision,
            backbone.precision,
        )
    return backbone


def _load_trained(saved: SavedRun, backbone: FrozenBackbone) -> None:
    """Put in what the run trained of its backbone."""
    if set(saved.backbone_state) != backbone.trained_names:
        raise InputError(
            f"'{saved.checkpoint}' holds other weights of the backbone than its own config says are trained "
            "(model.backbone.unfreeze)."
        )
    try:
        backbone.load_state_dict(saved.backbone_state, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({reason})."
        ) from error


def _other_weights(saved: SavedRun, backbone: FrozenBackbone, options: dict[str, Any]) -> str:
    sides = (
        f"'{saved.checkpoint}' was trained on features of weights {saved.weights_digest[:DIGITS_SHOWN]}..., "
        f"but those of '{backbone.name}' here are {backbone.weights_digest[:DIGITS_SHOWN]}... (sha256)."
    )
    if not options.get("pretrained", True):
        return (
            f"{sides} They were random (model.backbone.pretrained=false), and other versions of torch or "
            "timm draw others. Train the run again here."
        )
    return f"{sides} Give the file that the run used: model.backbone.weights=/path/to/file."


def make_head(
    saved: SavedRun, feature_shape: tuple[int, ...], packages: Sequence[str] = PACKAGES
) -> nn.Module:
    """The head with its trained weights, in eval mode.

    Raises:
        InputError: the weights do not fit the head of the config.
    """
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and replaced
        head: nn.Module = build(saved.config["head"], feature_shape, len(saved.classes), packages=packages)
    try:
        head.load_state_dict(saved.head_state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{saved.checkpoint}': the weights do not fit its own config ({reason})."
        ) from error
    return head.eval()

"""Finding and reading the checkpoint of a run. Nothing in it is trusted."""

import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlic.errors import InputError
from mlic.models.interface import BACKBONE_PREFIX, CHECKPOINT_KEY
from mlic.runs.folder import SPLIT_FILE, STATUS_FILE, TRIALS_FILE, WINNER, RunFolder, fold_folders
from mlic.runs.reading import check_format, read_record
from mlic.runs.removed_settings import drop_removed
from mlic.seeds import check_seed

HEAD_PREFIX = "head."


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The content of a checkpoint.

    Attributes:
        checkpoint: path of the file.
        folder: run folder of the file, or None.
        config: whole config of the run, plain types.
        classes: names in the order of the logits.
        weights_digest: sha256 of the weights of the backbone.
        thresholds: content of thresholds.json; None if this is not the selected checkpoint.
        class_weights: class weights (C,) of the loss; None if this is not the selected checkpoint.
        precision: precision of the backbone; None if this is not the selected checkpoint.
        member_digests: sha256 of the weights of each member of an ensemble.
        split_hash: see `mlic.data.splitting.split_hash`.
        head_state: weights of the head.
        backbone_state: weights of the trained part of the backbone.
        seen: see `mlic.inference.seen.SeenImages.plain`; None in old runs.
    """

    checkpoint: Path
    folder: Path | None
    config: dict[str, Any]
    classes: tuple[str, ...]
    weights_digest: str
    thresholds: dict[str, Any] | None
    class_weights: list[float] | None
    precision: str | None
    head_state: dict[str, Tensor]
    backbone_state: dict[str, Tensor] = field(default_factory=dict)
    member_digests: tuple[str, ...] = ()
    split_hash: str | None = None
    seen: Mapping[str, Any] | None = None


def read_saved_run(run: str | Path) -> SavedRun:
    """Read the selected checkpoint of a run folder, or a checkpoint file.

    Args:
        run: run folder or checkpoint file.

    Raises:
        InputError: the path does not exist, the run has no checkpoint or is of a newer version of mlic, or the file
            is not a checkpoint of mlic.train.
    """
    path = find_checkpoint(Path(run))
    check_format(path.parent.parent)
    content = load_checkpoint(path)
    info, parameters = content.get(CHECKPOINT_KEY), content.get("hyper_parameters")
    try:
        config = {**parameters["config"], **info["config"]}  # pyright: ignore[reportOptionalSubscript]
        saved = SavedRun(
            checkpoint=path,
            folder=path.parent.parent if (path.parent.parent / SPLIT_FILE).is_file() else None,
            config=config,
            classes=tuple(info["classes"]),  # pyright: ignore[reportOptionalSubscript]
            weights_digest=info["weights_digest"],  # pyright: ignore[reportOptionalSubscript]
            thresholds=info.get("thresholds"),  # pyright: ignore[reportOptionalMemberAccess]
            class_weights=info.get("class_weights"),  # pyright: ignore[reportOptionalMemberAccess]
            precision=info.get("precision"),  # pyright: ignore[reportOptionalMemberAccess]
            head_state=_state_of(HEAD_PREFIX, content["state_dict"]),
            backbone_state=_state_of(BACKBONE_PREFIX, content["state_dict"]),
            seen=info.get("seen"),  # pyright: ignore[reportOptionalMemberAccess]
            split_hash=info.get("split_hash"),  # pyright: ignore[reportOptionalMemberAccess]
            member_digests=tuple(str(member["weights"]) for member in info.get("members", ())),  # pyright: ignore[reportOptionalMemberAccess]
        )
        _check(saved)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"'{path}' is not a checkpoint of mlic.train: {error!r}. Expected best.ckpt or last.ckpt of a run "
            "folder."
        ) from error
    return saved


def find_checkpoint(run: Path) -> Path:
    """Return the file itself, or `checkpoints/best.ckpt` of a run folder; raise an InputError if it is missing."""
    if run.is_file():
        return run
    if not run.is_dir():
        raise InputError(f"run: '{run}' does not exist. Expected a run folder or a checkpoint.")
    best = RunFolder(run).best_checkpoint
    if best.is_file():
        return best
    if (run / TRIALS_FILE).is_file():
        raise InputError(f"run: '{run}' is a search. Expected a run, such as its best one: '{run / WINNER}'.")
    if folds := fold_folders(run):
        raise InputError(
            f"run: '{run}' is a cross-validation, which has one head for each fold. Expected the run of one fold, such "
            f"as '{folds[0]}'. To use all images, train a run with the same settings and data.split.test=0, without "
            "data.split.folds."
        )
    state = ""
    if (run / STATUS_FILE).is_file():
        state = _state_in_words(run)
    raise InputError(
        f"run: '{run}' has no checkpoints/best.ckpt.{state} Expected the folder of a finished run."
    )


def _state_in_words(run: Path) -> str:
    status, problems = read_record(run, STATUS_FILE)
    if problems:
        return f" Its {problems[0]}."
    reason = (status.get("error") or {}).get("message", "")
    return f" Its state is '{status.get('state')}'{f' ({reason})' if reason else ''}."


def load_checkpoint(path: Path, *, mmap: bool = False) -> Mapping[str, Any]:
    """Read a file of tensors and plain values; with `mmap`, tensors are read on access.

    Raises:
        InputError: the file is truncated, or contains other objects, whose unpickling might run code.
    """
    try:
        # torch writes a checksum of each tensor to the archive, but does not check it
        if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
            raise OSError(f"'{damaged}' in it is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("Please file an issue")[0].strip().splitlines()[-1]
        raise InputError(
            f"'{path}' contains more than tensors and plain values and is refused, because unpickling could "
            f"run code ({reason}). Expected a checkpoint of mlic.train."
        ) from error
    except Exception as error:  # a broken zip archive raises almost anything
        raise InputError(
            f"'{path}' cannot be read as a checkpoint: {error}. It may be truncated or damaged; copy it again."
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"'{path}' is not a checkpoint of mlic.train: it contains a {type(content).__name__}."
        )
    return content


def _state_of(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    others = sorted(name for name in state if not name.startswith((HEAD_PREFIX, BACKBONE_PREFIX)))
    if others:
        raise ValueError(f"weights of other parts than head and backbone: {', '.join(others[:3])}")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError("weights that are not tensors")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check(saved: SavedRun) -> None:
    """Raise a ValueError if the content is not as written by mlic.train."""
    if not saved.classes or not all(isinstance(name, str) for name in saved.classes):
        raise ValueError("no list of class names")
    if not isinstance(saved.weights_digest, str):
        raise ValueError("no digest of the weights of the backbone")
    check_seed("its seed", saved.config.get("seed", 0))
    for section in ("model", "head", "data", "loss", "features", "trainer"):
        if not isinstance(saved.config[section], Mapping):
            raise ValueError(f"its config has no section '{section}'")
    drop_removed(saved.config["features"], "features")
    if saved.class_weights is not None and len(saved.class_weights) != len(saved.classes):
        raise ValueError(f"{len(saved.class_weights)} class weights for {len(saved.classes)} classes")
    if saved.seen is not None:
        tensors = [saved.seen["train"], saved.seen["val"]]
        if not all(
            isinstance(each, Tensor) and (each.dtype, each.ndim) == (torch.int64, 1) for each in tensors
        ):
            raise ValueError("no list of the images that it has seen")
        if not isinstance(saved.seen["is_whole"], bool):
            raise ValueError("no mark whether the list of images that it has seen is complete")
    if saved.thresholds is not None:
        per_class = saved.thresholds["per_class"]
        if set(per_class) != set(saved.classes) or not all(
            math.isfinite(value) for value in (*per_class.values(), saved.thresholds["common"])
        ):
            raise ValueError("thresholds that are not one finite number for each class")

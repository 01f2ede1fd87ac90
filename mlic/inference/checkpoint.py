"""Find and read the checkpoint of a run; nothing in it is trusted."""

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
from mlic.models.classifier import BACKBONE_PREFIX, CHECKPOINT_KEY
from mlic.runs.folder import SPLIT_FILE, STATUS_FILE, TRIALS_FILE, WINNER, RunFolder
from mlic.runs.reading import check_format, read_record
from mlic.seeds import check_seed

HEAD_PREFIX = "head."


@dataclass(frozen=True, eq=False)
class SavedRun:
    """What a checkpoint says.

    Attributes:
        checkpoint: the file.
        folder: the run folder it lies in, or None.
        config: the run's whole config, plain types.
        classes: in the order of the logits.
        weights_digest: sha256 of the backbone's weights.
        thresholds: content of thresholds.json, or None in a checkpoint that was not the chosen one.
        class_weights: (C,) of the loss, or None likewise.
        precision: that the backbone computed in, or None likewise.
        member_digests: sha256 of the weights of each member of an ensemble.
        split_hash: see `mlic.data.splitting.split_hash`.
        head_state: weights of the head.
        backbone_state: weights of what was trained of the backbone.
        seen: see `mlic.inference.seen.SeenImages.plain`, or None of a run before there was that.
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
    """Read the chosen checkpoint of a run folder, or a checkpoint by itself.

    Args:
        run: run folder, or checkpoint file.

    Raises:
        InputError: nothing there, a run without checkpoint or of a newer version of mlic, or a file that is not a
            checkpoint of mlic.train.
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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"'{path}' is not a checkpoint of mlic.train: {error!r}. Expected best.ckpt or last.ckpt of a run "
            "folder."
        ) from error
    return saved


def find_checkpoint(run: Path) -> Path:
    """The file itself, or `checkpoints/best.ckpt` of a run folder; InputError where there is none."""
    if run.is_file():
        return run
    if not run.is_dir():
        raise InputError(f"run: there is no folder or file '{run}'. Expected a run folder or a checkpoint.")
    best = RunFolder(run).best_checkpoint
    if best.is_file():
        return best
    if (run / TRIALS_FILE).is_file():
        raise InputError(f"run: '{run}' is a search. Expected a run, such as its winner: '{run / WINNER}'.")
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
    """Read a file of tensors and plain values; with `mmap` tensors are read when they are used.

    Raises:
        InputError: it is cut short, or holds anything else, which unpickling might run.
    """
    try:
        # torch writes a checksum of each tensor into the archive, but does not look at it
        if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
            raise OSError(f"'{damaged}' in it is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("Please file an issue")[0].strip().splitlines()[-1]
        raise InputError(
            f"'{path}' holds more than tensors and plain values, and is refused: unpickling could run code "
            f"of whoever made it ({reason}). Expected a checkpoint of mlic.train."
        ) from error
    except Exception as error:  # a broken zip archive raises almost anything
        raise InputError(
            f"'{path}' cannot be read as a checkpoint: {error}. It may be cut short or damaged; copy it again."
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"'{path}' is not a checkpoint of mlic.train: it holds a {type(content).__name__}.")
    return content


def _state_of(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    others = sorted(name for name in state if not name.startswith((HEAD_PREFIX, BACKBONE_PREFIX)))
    if others:
        raise ValueError(f"weights beside those of a head and a backbone: {', '.join(others[:3])}")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ValueError("weights that are not tensors")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check(saved: SavedRun) -> None:
    """ValueError for what is not as mlic.train writes it."""
    if not saved.classes or not all(isinstance(name, str) for name in saved.classes):
        raise ValueError("no list of class names")
    if not isinstance(saved.weights_digest, str):
        raise ValueError("no digest of the backbone's weights")
    check_seed("its seed", saved.config.get("seed", 0))
    for section in ("model", "head", "data", "loss", "features", "trainer"):
        if not isinstance(saved.config[section], Mapping):
            raise ValueError(f"its config has no section '{section}'")
    if saved.class_weights is not None and len(saved.class_weights) != len(saved.classes):
        raise ValueError(f"{len(saved.class_weights)} class weights for {len(saved.classes)} classes")
    if saved.seen is not None:
        tensors = [saved.seen["train"], saved.seen["val"]]
        if not all(
            isinstance(each, Tensor) and (each.dtype, each.ndim) == (torch.int64, 1) for each in tensors
        ):
            raise ValueError("no list of the images that it has seen")
        if not isinstance(saved.seen["is_whole"], bool):
            raise ValueError("it does not tell whether it knows all images that it has seen")
    if saved.thresholds is not None:
        per_class = saved.thresholds["per_class"]
        if set(per_class) != set(saved.classes) or not all(
            math.isfinite(value) for value in per_class.values()
        ):
            raise ValueError("thresholds that are not one finite number for each class")

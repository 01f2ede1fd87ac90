"""Finding and reading the checkpoint of a run. Nothing in it is trusted."""

import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mlic.errors import InputError
from mlic.escaping import restore_cell
from mlic.models.interface import BACKBONE_PREFIX, CHECKPOINT_KEY
from mlic.runs.folder import SPLIT_FILE, STATUS_FILE, TRIALS_FILE, WINNER, RunFolder, fold_folders
from mlic.runs.reading import check_format, read_record
from mlic.runs.removed_settings import drop_removed
from mlic.seeds import check_seed

HEAD_PREFIX = "head."
SECTIONS = ("model", "head", "data", "loss", "features", "trainer")  # of the config


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Fingerprints of the images that weights have seen, in their run and in the runs that it started from.

    Attributes:
        train: int64 (M,), images that the weights were trained on; see `fingerprints`.
        val: int64 (K,), images that the weights were selected on.
        is_whole: False if the weights come from a run that did not record its images.
    """

    train: np.ndarray
    val: np.ndarray
    is_whole: bool = True

    def join(self, start: "SeenImages | None") -> "SeenImages":
        """Add the images of the run that this one started from; None for a run that did not record them."""
        if start is None:
            return SeenImages(self.train, self.val, is_whole=False)
        train, val = np.union1d(self.train, start.train), np.union1d(self.val, start.val)
        return SeenImages(train, val, self.is_whole and start.is_whole)

    def plain(self) -> dict[str, Any]:
        """Return tensors and plain values for a checkpoint."""
        train, val = torch.from_numpy(self.train), torch.from_numpy(self.val)
        return {"train": train, "val": val, "is_whole": self.is_whole}

    @classmethod
    def of_plain(cls, record: Any) -> "SeenImages | None":
        """Undo `plain`; None stands for no record."""
        if record is None:
            return None
        train, val = (record[part].view(torch.int64).numpy() for part in ("train", "val"))
        return cls(train, val, record["is_whole"] is True)


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The content of a checkpoint.

    Attributes:
        checkpoint: path of the file.
        folder: run folder of the file, or None.
        config: whole config of the run, plain types.
        classes: names in the order of the logits.
        weights_digest: sha256 of the weights of the backbone.
        head_state: weights of the head.
        backbone_state: weights of the trained part of the backbone.
        seen: images that the weights have seen; None in runs of versions that did not record them.
        thresholds: content of thresholds.json; None if this is not the selected checkpoint.
        class_weights: class weights (C,) of the loss; None if this is not the selected checkpoint.
        precision: precision of the backbone; None if this is not the selected checkpoint.
        split_hash: see `mlic.data.splitting.split_hash`.
    """

    checkpoint: Path
    folder: Path | None
    config: dict[str, Any]
    classes: tuple[str, ...]
    weights_digest: str
    head_state: dict[str, Tensor]
    backbone_state: dict[str, Tensor]
    seen: SeenImages | None
    thresholds: dict[str, Any] | None
    class_weights: list[float] | None
    precision: str | None
    split_hash: str | None


def read_saved_run(run: str | Path) -> SavedRun:
    """Read the selected checkpoint of a run folder, or a checkpoint file.

    Args:
        run: run folder or checkpoint file.

    Raises:
        InputError: the path does not exist, the run has no checkpoint or is of a newer version of mlic, or the file
            is not a checkpoint of mlic.train.
    """
    path = find_checkpoint(Path(run))
    folder = path.parent.parent
    check_format(folder)
    content: Any = load_checkpoint(path)
    try:
        info, state = content[CHECKPOINT_KEY], content["state_dict"]
        saved = SavedRun(
            checkpoint=path,
            folder=folder if (folder / SPLIT_FILE).is_file() else None,
            config={**content["hyper_parameters"]["config"], **info["config"]},
            classes=tuple(info["classes"]),
            weights_digest=str(info["weights_digest"]),
            head_state=_with_prefix(HEAD_PREFIX, state),
            backbone_state=_with_prefix(BACKBONE_PREFIX, state),
            seen=SeenImages.of_plain(info.get("seen")),
            **{name: info.get(name) for name in ("thresholds", "class_weights", "precision", "split_hash")},
        )
        _check(saved, state)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"'{path}' is not a checkpoint of mlic.train: {error!r}. Expected best.ckpt of a run."
        ) from error
    check_seed("its seed", saved.config.get("seed", 0))
    drop_removed(saved.config["features"], "features")
    return saved


def _with_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check(saved: SavedRun, state: Mapping[str, Any]) -> None:
    """Raise a ValueError if the content is not as written by mlic.train."""
    classes, limits, weights = saved.classes, saved.thresholds, [*saved.head_state, *saved.backbone_state]
    is_valid = {
        "class names": classes and all(isinstance(name, str) for name in classes),
        "config": all(isinstance(saved.config[section], Mapping) for section in SECTIONS),
        "weights": len(state) == len(weights) and all(map(torch.is_tensor, state.values())),
        "class weights": saved.class_weights is None or len(saved.class_weights) == len(classes),
        "thresholds": limits is None
        or all(map(math.isfinite, [limits["common"], *(limits["per_class"][name] for name in classes)])),
    }
    if wrong := [name for name, valid in is_valid.items() if not valid]:
        raise ValueError(f"invalid {', '.join(wrong)}")


def find_checkpoint(run: Path) -> Path:
    """Return the file itself, or `checkpoints/best.ckpt` of a run folder; raise an InputError if it is missing."""
    if run.is_file():
        return run
    if not run.is_dir():
        raise InputError(f"run: '{run}' does not exist. Expected a run folder or a checkpoint.", key="run")
    best = RunFolder(run).best_checkpoint
    if best.is_file():
        return best
    status, problems = read_record(run, STATUS_FILE)
    reason = (status.get("error") or {}).get("message") or "; ".join(problems) or "no error"
    kind = f" It is a search; its best run is '{run / WINNER}'." if (run / TRIALS_FILE).is_file() else ""
    if folds := fold_folders(run):
        kind = f" It is a cross-validation, which has one head for each fold, such as '{folds[0]}'. To use all images, "
        kind += "train a run with the same settings and data.split.test=0, without data.split.folds."
    state = f"state: {status.get('state', 'unknown')}, {reason}"
    raise InputError(f"run: '{run}' has no checkpoints/best.ckpt ({state}).{kind}", key="run")


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
    except Exception as error:  # a broken zip archive raises almost anything
        # that of pickle is long, and advises to load the file without this check
        more = "it contains more than tensors and plain values, and unpickling other objects could run code"
        reason = (
            more
            if isinstance(error, pickle.UnpicklingError)
            else f"{error}. It may be damaged; copy it again"
        )
        raise InputError(f"'{path}' cannot be read as a checkpoint: {reason}.") from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"'{path}' is not a checkpoint of mlic.train: it contains a {type(content).__name__}."
        )
    return content


def read_split(saved: SavedRun) -> pd.DataFrame | None:
    """Return split.csv of the run folder, or None for a checkpoint without a folder.

    Raises:
        InputError: the file cannot be read.
    """
    if saved.folder is None:
        return None
    file = saved.folder / SPLIT_FILE
    try:
        split = pd.read_csv(file, dtype=str, na_filter=False)
        return split.assign(file_name=split["file_name"].map(restore_cell), split=split["split"])
    except (OSError, ValueError, KeyError) as error:  # errors of pandas are ValueErrors
        raise InputError(f"{file}: cannot be read as the split of a run ({error!r}).") from error


def fingerprints(digests: np.ndarray) -> np.ndarray:
    """Return the first 64 bits of hexadecimal digests (N,) as int64 (N,).

    For two sets of a million images each, the probability of any false match is 1 in 18 million.
    """
    numbers = [int(digest or "0", 16) for digest in digests.astype("U16").tolist()]
    return np.array(numbers, dtype=np.uint64).view(np.int64)

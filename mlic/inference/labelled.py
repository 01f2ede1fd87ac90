"""Labelled sets for evaluation, matched to the classes of a run by name."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from mlic.addresses import local_only
from mlic.data import LabelTable, curate
from mlic.data.parts import read_annotations
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.errors import InputError, check_choice
from mlic.escaping import restore_cell
from mlic.inference.building import find_reader
from mlic.inference.checkpoint import SPLIT_FILE, SavedRun

logger = logging.getLogger(__name__)

NAMES_SHOWN = 10
MISSING = ("ignore", "absent")


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Images with labels of the classes of a run.

    Attributes:
        table: labels of the common classes.
        unknown: classes of the set that the run does not have.
        missing: classes of the run without labels in the set.
        source: origin of the labels.
    """

    table: LabelTable
    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    source: dict[str, Any]


def read_labelled_set(
    saved: SavedRun,
    data: DictConfig | None,
    part: str | None,
    *,
    missing_classes: str = "ignore",
    class_map: Mapping[str, str] | None = None,
) -> LabelledSet:
    """Read the labelled set of an evaluation.

    Args:
        saved: the run.
        data: config of a data set; None for that of the run.
        part: `train`, `val`, `test` or `calibration` selects the images of that part of the run, by file name.
        missing_classes: meaning of classes of the run that the set does not have: with `ignore` they are not labelled
            and left out; with `absent` no image has them.
        class_map: names of classes of the set and what the run calls them, see `rename_classes`.

    Raises:
        InputError: neither `data` nor `part` is given, labels or settings are invalid, or there are no common classes.
    """
    if data is None and part is None:
        raise InputError(
            "no data to evaluate on: set data=csv data.annotations=... data.images=... (or another data group), "
            "or part=test for the test images of the run."
        )
    if part is not None:
        check_choice("part", part, PARTS)
    check_choice("missing_classes", missing_classes, MISSING)
    table, source = _read_own(saved.config["data"]) if data is None else _read(data)
    if part is not None:
        table = _select_part(table, saved, part)
    table = rename_classes(table, class_map or {}, saved.classes)
    labelled = match_classes(table, saved.classes, source, missing_classes)
    return labelled if data is None else _curated(labelled, data)


def _read(data: DictConfig) -> tuple[LabelTable, dict[str, Any]]:
    table = read_annotations(instantiate(data.reader), data, SplitSettings.of(data.get("split") or {}))
    return table, _source(data)


def _read_own(data: Mapping[str, Any]) -> tuple[LabelTable, dict[str, Any]]:
    # The location comes from a checkpoint, which is not trusted: read from the local disk only.
    options = {key: value for key, value in data["reader"].items() if key not in ("_target_", "_partial_")}
    reader = partial(find_reader(data["reader"]["_target_"]), **options)
    with local_only():
        table = read_annotations(reader, data, SplitSettings.of(data.get("split") or {}))
    return table, _source(data)


def _source(data: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    places = {key: str(data[key]) for key in ("annotations", "images") if data.get(key) is not None}
    return {"reader": data["reader"]["_target_"], **places}


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
    except (OSError, ValueError) as error:  # errors of pandas are ValueErrors
        raise InputError(
            f"{file}: cannot be read ({error}). Expected the split that mlic.train wrote."
        ) from error
    if not {"file_name", "split"} <= set(split.columns):
        raise InputError(f"{file}: no columns file_name and split. Expected the split that mlic.train wrote.")
    return split.assign(file_name=split["file_name"].map(restore_cell))


def _select_part(table: LabelTable, saved: SavedRun, part: str) -> LabelTable:
    split = read_split(saved)
    if split is None:
        raise InputError(
            f"part={part} requires a run folder with split.csv, but '{saved.checkpoint}' is not in one."
        )
    wanted = set(split.loc[split["split"] == part, "file_name"])
    if not wanted:
        raise InputError(f"part={part}: the run has no images in this part.")
    absent = sorted(wanted - set(table.file_names))
    if absent:
        raise InputError(
            f"part={part}: {len(absent)} of {len(wanted)} images of this part are not in the annotations: "
            f"{_shorten(absent)}. Use the annotations of the run."
        )
    return table.select(np.array([name in wanted for name in table.file_names]))


def rename_classes(table: LabelTable, names: Mapping[str, str], classes: Sequence[str]) -> LabelTable:
    """Rename classes of a set to those of a run.

    Several classes may get the same name: an image has it if it has one of them, and does not have it if it is known to
    have none of them.

    Args:
        table: labels of the set.
        names: names of the run by names of the set.
        classes: classes of the run.

    Raises:
        InputError: a name is not a class of the set or of the run.
    """
    for kind, wanted, known in (("data", names, table.classes), ("run", names.values(), classes)):
        if absent := [str(name) for name in wanted if name not in known]:
            raise InputError(
                f"class_map: {_shorten(absent)}: not among the classes of the {kind}, which are {_shorten(known)}. "
                "Write class_map={<class of the data>: <class of the run>}."
            )
    if not names:
        return table
    new = [names.get(name, name) for name in table.classes]
    merged = tuple(dict.fromkeys(new))
    # 1 (positive) counts most, then -1 (unknown), then 0
    rank = np.array([0, 2, 1], dtype=np.int8)  # of 0, 1 and -1
    labels = np.zeros((len(table), len(merged)), dtype=np.int8)
    for place, name in enumerate(merged):
        columns = [column for column, own in enumerate(new) if own == name]
        labels[:, place] = np.array([0, -1, 1], dtype=np.int8)[rank[table.labels[:, columns]].max(axis=1)]
    return LabelTable.build(table.image_dir, table.file_names, labels, merged, references=table.references)


def match_classes(
    table: LabelTable, classes: Sequence[str], source: dict[str, Any], missing_classes: str = "ignore"
) -> LabelledSet:
    """Select the columns of the classes of the run by name, and log classes that are not in both.

    Raises:
        InputError: there are no common classes.
    """
    unknown = tuple(name for name in table.classes if name not in classes)
    missing = tuple(name for name in classes if name not in table.classes)
    if len(unknown) == len(table.classes):
        raise InputError(
            f"no common classes: the run has {_shorten(classes)}; the set has {_shorten(table.classes)}. "
            "Class names must match exactly."
        )
    if unknown:
        logger.warning(
            "%d classes that the run does not have are left out: %s", len(unknown), _shorten(unknown)
        )
    if missing:
        meaning = "counted as absent" if missing_classes == "absent" else "left out (see missing_classes)"
        logger.warning(
            "%d classes of the run are not in the set, %s: %s", len(missing), meaning, _shorten(missing)
        )
    column = {name: index for index, name in enumerate(table.classes)}
    scored = tuple(name for name in classes if name in column or missing_classes == "absent")
    labels = np.zeros((len(table), len(scored)), dtype=np.int8)
    for place, name in enumerate(scored):
        if name in column:
            labels[:, place] = table.labels[:, column[name]]
    matched = LabelTable.build(table.image_dir, table.file_names, labels, scored, references=table.references)
    return LabelledSet(matched, unknown, missing, source)


def _curated(labelled: LabelledSet, data: DictConfig) -> LabelledSet:
    """Apply `num_images`, `min_images_per_class` and `unlabelled` of the data config."""
    keys = ("num_images", "min_images_per_class", "unlabelled", "seed")
    table, report = curate(labelled.table, **{key: data[key] for key in keys if key in data})
    dropped = tuple(report.dropped_classes)
    return LabelledSet(table, labelled.unknown, labelled.missing + dropped, labelled.source)


def _shorten(names: Sequence[str]) -> str:
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more

"""Labelled sets for evaluation, matched to the classes of a run by name."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

import mlic.data
from mlic.addresses import local_only
from mlic.data import LabelTable, curate
from mlic.data.parts import read_annotations
from mlic.data.split_settings import PARTS, SplitSettings
from mlic.data.table import UNKNOWN
from mlic.errors import InputError, check_choice
from mlic.inference.checkpoint import SavedRun, read_split

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
        class_map: see `match_classes`.

    Raises:
        InputError: neither `data` nor `part` is given, labels or settings are invalid, or there are no common classes.
    """
    if data is None and part is None:
        hint = "Set data=csv data.annotations=... data.images=... (or another data group), or part=test."
        raise InputError(f"no data to evaluate on. {hint}")
    if part is not None:
        check_choice("part", part, PARTS)
    check_choice("missing_classes", missing_classes, MISSING)
    settings: Any = saved.config["data"] if data is None else data
    # the location in a checkpoint is not trusted: it is read from the local disk only
    with local_only() if data is None else nullcontext():
        reader = find_reader(settings["reader"]) if data is None else instantiate(settings["reader"])
        table = read_annotations(reader, settings, SplitSettings.of(settings.get("split") or {}))
    if part is not None:
        table = _select_part(table, saved, part)
    table, unknown, missing = match_classes(table, saved.classes, class_map or {}, missing_classes)
    if data is not None:
        keys = ("num_images", "min_images_per_class", "unlabelled", "seed")
        table, report = curate(table, **{key: data[key] for key in keys if key in data})
        missing += tuple(report.dropped_classes)
    places = {key: str(settings[key]) for key in ("annotations", "images") if settings.get(key) is not None}
    return LabelledSet(table, unknown, missing, {"reader": settings["reader"]["_target_"], **places})


def find_reader(config: Mapping[str, Any]) -> Callable[..., LabelTable]:
    """Return the annotation reader that a checkpoint names, one of `mlic.data.read_*`, with its options.

    Raises:
        InputError: the name is not one of them.
    """
    target = str(config.get("_target_"))
    options = {key: value for key, value in config.items() if key not in ("_target_", "_partial_")}
    module_name, _, name = target.rpartition(".")
    if module_name == "mlic.data" and name.startswith("read_") and name in dir(mlic.data):
        return partial(getattr(mlic.data, name), **options)
    raise InputError(
        f"the run read its data with '{target}', which is not called for a checkpoint, because it is not one of "
        "mlic.data.read_*. Specify the data set with data=... data.annotations=... data.images=..."
    )


def _select_part(table: LabelTable, saved: SavedRun, part: str) -> LabelTable:
    split = read_split(saved)
    if split is None:
        raise InputError(
            f"part={part} requires split.csv, but '{saved.checkpoint}' is not in a run folder.", key="part"
        )
    wanted = set(split.loc[split["split"] == part, "file_name"])
    absent = sorted(wanted - set(table.file_names))
    if absent or not wanted:
        raise InputError(
            f"part={part}: the run has {len(wanted)} images in this part, of which {len(absent)} are not in the "
            f"annotations: {_shorten(absent)}. Use the annotations of the run, and a part that has images."
        )
    return table.select(np.array([name in wanted for name in table.file_names]))


def match_classes(
    table: LabelTable, classes: Sequence[str], class_map: Mapping[str, str], missing_classes: str = "ignore"
) -> tuple[LabelTable, tuple[str, ...], tuple[str, ...]]:
    """Select the columns of the classes of the run by name, and log classes that are not in both.

    Args:
        table: labels of the set.
        classes: classes of the run.
        class_map: names of the run by names of the set. Of several classes with the same name, an image has it if it
            has one of them, and does not have it if it is known to have none of them.
        missing_classes: see `read_labelled_set`.

    Returns:
        The table, and the classes of the set and those of the run that the other one does not have.

    Raises:
        InputError: there are no common classes, or `class_map` has a name that is not a class of the set or of the run.
    """
    for kind, wanted, known in (("data", class_map, table.classes), ("run", class_map.values(), classes)):
        if absent := [str(name) for name in wanted if name not in known]:
            hint = "Write class_map={<class of the data>: <class of the run>}."
            raise InputError(
                f"class_map: {_shorten(absent)}: not classes of the {kind} ({_shorten(known)}). {hint}"
            )
    names = np.array([class_map.get(name, name) for name in table.classes], dtype=object)
    unknown = tuple(name for name in table.classes if class_map.get(name, name) not in classes)
    missing = tuple(name for name in classes if name not in names)
    if len(missing) == len(classes):
        shown = f"the run has {_shorten(classes)}; the set has {_shorten(table.classes)}"
        raise InputError(f"no common classes: {shown}. Names must match exactly, or be mapped by class_map.")
    for name, found in (("unknown to the run", unknown), (f"missing in the set, {missing_classes}", missing)):
        if found:
            logger.warning("%d classes (%s): %s", len(found), name, _shorten(found))
    scored = [name for name in classes if name not in missing or missing_classes == "absent"]
    labels = np.zeros((len(table), len(scored)), dtype=np.int8)
    for place, name in enumerate(scored):
        own = table.labels[:, names == name]  # no column of a class that is missing
        is_unknown = (own == UNKNOWN).any(axis=1)
        labels[:, place] = np.where((own == 1).any(axis=1), 1, np.where(is_unknown, UNKNOWN, 0))
    matched = LabelTable.build(table.image_dir, table.file_names, labels, scored, references=table.references)
    return matched, unknown, missing


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")

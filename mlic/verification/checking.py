"""Verification of a data set, from its config to a list of findings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from mlic.data.bad_images import explain_missing
from mlic.data.curation import curate
from mlic.data.grouping import with_groups
from mlic.data.images import check_bits_stored, image_files
from mlic.data.parts import read_annotations, with_parts
from mlic.data.readers.folders import image_folders, locate_images
from mlic.data.split_settings import SplitSettings
from mlic.data.splitting import check_sizes, try_split
from mlic.data.table import LabelTable
from mlic.errors import InputError, check_choice
from mlic.verification.files import find_duplicates, find_missing, find_unannotated
from mlic.verification.findings import Finding, sort_findings
from mlic.verification.images import InspectedImages, inspect_images
from mlic.verification.statistics import add_parts, class_table, label_summary, pair_table

logger = logging.getLogger(__name__)

CHECKS = ("full", "quick")
FEW_TEST_IMAGES = 10
CURATION_KEYS = ("num_images", "min_images_per_class", "unlabelled", "seed")


@dataclass(frozen=True, eq=False)
class Verification:
    """Description of a data set and its problems.

    Attributes:
        findings: problems in the order of problems.csv.
        notes: facts that limit what the figures can say, but need no correction.
        table: all annotated images; if the annotations cannot be read, the files of the folder without labels.
        inspected: results of opening the images.
        summary: see `label_summary`.
        classes: see `class_table` and `add_parts`.
        pairs: see `pair_table`.
    """

    findings: list[Finding]
    notes: list[Finding]
    table: LabelTable
    inspected: InspectedImages
    summary: dict[str, Any]
    classes: pd.DataFrame
    pairs: pd.DataFrame

    def with_findings(self, findings: list[Finding]) -> Self:
        """Return the same verification with more findings."""
        return replace(self, findings=sort_findings([*self.findings, *findings]))


def verify_data(data: DictConfig, *, check: str = "full") -> Verification:
    """Read the annotations, open every annotated image, and try the split.

    Args:
        data: config of a data set, as for training. All annotated images are opened, even if `num_images` selects
            some of them.
        check: `full` or `quick`, see `inspect_images`.

    Raises:
        InputError: settings are invalid, paths do not exist, or the annotations cannot be read and `data.images` has
            no images to check.
    """
    check_choice("check", check, CHECKS)
    split = SplitSettings.of(data.split)
    table, findings = _read(data, split)
    if not findings:
        check_sizes(_curate(table, data), split)  # before all images are opened
    logger.info("opening %d images (check=%s)", len(table), check)
    bits_stored = check_bits_stored(data.bits_stored)
    inspected = inspect_images(
        table.paths(), check=check, num_workers=data.num_workers, bits_stored=bits_stored
    )
    findings += find_unused_bits(inspected.largest_greys, bits_stored)
    findings += [
        Finding("bad_image", table.file_names[row], detail=reason) for row, reason in inspected.bad.items()
    ]
    findings += find_duplicates(table, inspected.digests)
    classes = class_table(table)
    if table.classes:
        unannotated = find_unannotated(table.folders, table.file_names)
        missing = [table.file_names[row] for row in inspected.missing]
        if cause := explain_missing(table.folders, missing, {*table.file_names} - {*missing}):
            findings.append(Finding("file_names", detail=cause))
        findings += unannotated + find_missing(
            table.folders, missing, {item.file_name for item in unannotated}
        )
        classes, rare = _try_split(
            table.group_copies(inspected.digests).select(inspected.usable), data, split, classes
        )
        findings += rare
    return Verification(
        sort_findings(findings),
        note_limits(table, classes),
        *(table, inspected, label_summary(table), classes, pair_table(table)),
    )


def note_limits(table: LabelTable, classes: pd.DataFrame) -> list[Finding]:
    """Return notes on classes with few test images, and on the share of unknown labels.

    Args:
        table: all annotated images.
        classes: see `add_parts`; without columns of parts there are no notes on test images.
    """
    tested = classes["test"].fillna(0).tolist() if "test" in classes else [0] * len(classes)
    notes = [
        Finding(
            "few_test_images",
            class_name=name,
            detail=f"{images} images in test; data.split.folds tests on all images in turn",
        )
        for name, images in zip(classes["class"].tolist(), tested, strict=True)
        if 0 < images < FEW_TEST_IMAGES
    ]
    unknown = (~table.known).mean(axis=0) if len(table) else np.zeros(0)
    if unknown.any():
        most = int(unknown.argmax())
        detail = (
            f"{unknown.mean():.1%} of the labels are unknown, most of '{table.classes[most]}' ({unknown[most]:.1%}); "
            "they take no part in losses and metrics"
        )
        notes.append(Finding("unknown_labels", detail=detail))
    return notes


def find_unused_bits(largest_greys: Sequence[int], bits_stored: int) -> list[Finding]:
    """Return one finding if no 16-bit greyscale image uses all of `bits_stored` (at least 8 bits).

    Args:
        largest_greys: largest value of each 16-bit greyscale image.
        bits_stored: see `mlic.data.open_image`.
    """
    largest = max(largest_greys, default=0)
    used = max(8, largest.bit_length())
    if not largest or used >= bits_stored:
        return []
    detail = (
        f"{len(largest_greys)} 16-bit greyscale images use {used} of {bits_stored} bits (largest value {largest}): "
        f"data.bits_stored={used} scales them to the full range"
    )
    return [Finding("unused_bits", detail=detail)]


def _read(data: DictConfig, split: SplitSettings) -> tuple[LabelTable, list[Finding]]:
    """Read the annotations; if that fails, return the images of the folder without labels, and a finding."""
    try:
        table = read_annotations(instantiate(data.reader), data, split)
        return with_groups(with_parts(table, split), split.groups), []
    except InputError as error:
        # a setting, such as a missing path, is the cause rather than the content of the file
        if error.key is not None or data.get("annotations") is None or data.get("images") is None:
            raise
        try:
            folders = image_folders(data.images)
        except InputError:  # tar shards
            raise error from None
        names = sorted({name for folder in folders for name in image_files(folder)})
        if not names:
            raise
        folder, references = locate_images(folders, names)
        logger.warning("the annotations cannot be read; checking the images of '%s'", data.images)
        labels = np.zeros((len(names), 0), dtype=np.uint8)
        finding = Finding("annotations", str(data.annotations), detail=str(error))
        return LabelTable.build(folder, names, labels, [], references=references), [finding]


def _curate(table: LabelTable, data: DictConfig) -> LabelTable:
    return curate(table, **{key: data[key] for key in CURATION_KEYS})[0]


def _try_split(
    usable: LabelTable, data: DictConfig, split: SplitSettings, classes: pd.DataFrame
) -> tuple[pd.DataFrame, list[Finding]]:
    """Split the usable images; return `classes` with the counts of the parts, and findings of rare classes."""
    if not len(usable):
        return classes, [Finding("split", detail="no usable images")]
    try:
        curated = _curate(usable, data)
        trial = try_split(curated, split)
    except InputError as error:  # the settings are valid for all images, but not for the usable ones
        return classes, [Finding("split", detail=f"of the {len(usable)} usable images: {error}")]
    counts = dict(zip(curated.classes, curated.counts().tolist(), strict=True))
    remedy = f"; data.min_images_per_class={trial.least} is sufficient" if trial.least else ""
    findings = [
        Finding(
            "rare_class",
            class_name=name,
            detail=f"{counts[name]} usable images, none of them in {' and '.join(parts)}{remedy}",
        )
        for name, parts in trial.lacking.items()
    ]
    return add_parts(classes, curated, trial), findings

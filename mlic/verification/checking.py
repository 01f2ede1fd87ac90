"""Verification of a data set, from its config to a table of findings."""

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from mlic.data import images
from mlic.data.curation import curate
from mlic.data.grouping import with_groups
from mlic.data.parts import read_annotations, with_parts
from mlic.data.split_settings import SplitSettings
from mlic.data.splitting import check_sizes, try_split
from mlic.data.table import LabelTable
from mlic.data.tar_images import TarImage
from mlic.errors import InputError, check_choice
from mlic.features.hashing import DIGEST_DTYPE
from mlic.verification.findings import NOTES, Finding, find_in_classes, find_in_images, findings_table

logger = logging.getLogger(__name__)

CURATION_KEYS = ("num_images", "min_images_per_class", "unlabelled", "seed")


@dataclass(eq=False)
class Verification:
    """Description of a data set and its problems.

    Attributes:
        findings: problems and notes in any order.
        table: all annotated images.
        usable: images that can be used, bool (N,).
        classes: see `class_table`.
    """

    findings: list[Finding]
    table: LabelTable
    usable: np.ndarray
    classes: pd.DataFrame

    def problems(self) -> pd.DataFrame:
        """Return a table of the findings that need a correction; see `findings_table`."""
        return findings_table(each for each in self.findings if each.kind not in NOTES)

    def notes(self) -> pd.DataFrame:
        """Return a table of facts that limit what the figures can say, but need no correction."""
        return findings_table(each for each in self.findings if each.kind in NOTES)


def verify_data(data: DictConfig, *, check: str = "full") -> Verification:
    """Read the annotations, open every annotated image, and try the split.

    Args:
        data: config of a data set, as for training. All annotated images are opened, even if `num_images` selects
            some of them.
        check: `full` or `quick`, see `inspect_images`.

    Raises:
        InputError: settings are invalid, paths do not exist, or the annotations cannot be read.
    """
    check_choice("check", check, ("full", "quick"))
    split, bits_stored = SplitSettings.of(data.split), images.check_bits_stored(data.bits_stored)
    table = read_annotations(instantiate(data.reader), data, split)
    table = with_groups(with_parts(table, split), split.groups)
    check_sizes(_curate(table, data), split)  # before all images are opened
    logger.info("opening %d images (check=%s)", len(table), check)
    digests, unusable, greys = inspect_images(
        table.paths(), full=check == "full", num_workers=data.num_workers, bits_stored=bits_stored
    )
    usable = digests != b""
    classes, findings = _try_split(table, table.group_copies(digests).select(usable), data, split)
    findings += [
        *find_in_images(table, digests, unusable, greys, bits_stored),
        *find_in_classes(table, classes),
    ]
    return Verification(findings, table, usable, classes)


def inspect_images(
    references: Sequence[images.ImageReference], *, full: bool, num_workers: int | None, bits_stored: int
) -> tuple[np.ndarray, dict[int, str], list[int]]:
    """Open and hash images, with a progress bar if the output is a terminal.

    Memory use, besides the references, is 64 bytes per image and the reasons.

    Args:
        references: N images.
        full: decode each image; otherwise check header and end mark, and decode only in case of doubt.
        num_workers: number of threads; None for one per core.
        bits_stored: see `mlic.data.open_image`.

    Returns:
        Hexadecimal sha256 of the bytes, `S64` (N,), empty for unusable images; the reasons by row of unusable images;
        and the largest value of each 16-bit greyscale image that was decoded.
    """
    digests, unusable, greys = np.zeros(len(references), dtype=DIGEST_DTYPE), {}, []
    inspect = partial(_inspect, full=full, bits_stored=bits_stored)
    workers = (os.cpu_count() or 1) if num_workers is None else num_workers
    with warnings.catch_warnings():
        # warnings about EXIF data and similar, which do not name the file
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for row, (digest, reason, grey) in enumerate(images.map_images(inspect, references, workers)):
            digests[row] = digest
            if reason is not None:
                unusable[row] = reason
            if grey is not None:
                greys.append(grey)
    return digests, unusable, greys


def _inspect(
    image: images.ImageReference, *, full: bool, bits_stored: int
) -> tuple[str, str | None, int | None]:
    """Return digest, problem, and the largest value of a 16-bit greyscale image that is decoded.

    The file is hashed after the check, which refuses pipes and devices.
    """
    try:
        reason = images.full_check(image, bits_stored) if full else images.quick_check(image)
        if reason is not None:
            return "", reason, None
        grey = images.largest_grey(image) if full else None
        if isinstance(image, TarImage):
            return image.digest, None, grey
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), None, grey
    except OSError as error:
        return "", error.strerror or type(error).__name__, None


def _curate(table: LabelTable, data: DictConfig) -> LabelTable:
    return curate(table, **{key: data[key] for key in CURATION_KEYS})[0]


def _try_split(
    table: LabelTable, usable: LabelTable, data: DictConfig, split: SplitSettings
) -> tuple[pd.DataFrame, list[Finding]]:
    """Split the usable images; return the classes with the counts of the parts, and findings of rare classes."""
    try:
        curated = _curate(usable, data)
        trial = try_split(curated, split)
    except InputError as error:  # the settings are valid for all images, but not for the usable ones
        detail = f"of the {len(usable)} usable images: {error}"
        return class_table(table), [Finding("split", detail=detail)]
    counts = dict(zip(curated.classes, curated.counts().tolist(), strict=True))
    remedy = f"; data.min_images_per_class={trial.least} is sufficient" if trial.least else ""
    findings = []
    for name, parts in trial.lacking.items():
        detail = f"{counts[name]} usable images, none of them in {' and '.join(parts)}{remedy}"
        findings.append(Finding("rare_class", class_name=name, detail=detail))
    parts = {part: curated.select(rows) for part, rows in trial.split.parts().items()}
    return class_table(table, parts), findings


def class_table(table: LabelTable, parts: Mapping[str, LabelTable] | None = None) -> pd.DataFrame:
    """Tabulate the classes, the most frequent first.

    Args:
        table: N images, C classes.
        parts: curated images of each part.

    Returns:
        Columns `class`, `images`, `share` (of the images whose label is known), `alone` (images without other classes),
        and the images of each part, which are empty for classes dropped by curation.
    """
    classes = pd.DataFrame({"class": table.classes, "images": table.counts()})
    classes["share"] = table.counts() / np.maximum(table.known.sum(axis=0), 1)
    classes["alone"] = table.select(table.positives.sum(axis=1) == 1).counts()
    for part, own in (parts or {}).items():
        counts = pd.Series(own.counts(), index=list(own.classes), dtype="Int64")
        classes[part] = counts.reindex(classes["class"]).to_numpy()
    return classes.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def label_summary(table: LabelTable) -> dict[str, Any]:
    """Return the numbers of images, classes, labels, labels per image, and of images with 0, 1, 2, ... labels."""
    per_image = pd.Series(table.positives.sum(axis=1, dtype=np.int64))
    by_labels = per_image.value_counts().sort_index()
    return {
        "images": len(table),
        "classes": len(table.classes),
        "labels": int(per_image.sum()),
        "labels_per_image": float(per_image.mean()),
        "unlabelled_images": int((per_image == 0).sum()),
        "images_by_labels": {str(number): int(count) for number, count in by_labels.items()},
    }

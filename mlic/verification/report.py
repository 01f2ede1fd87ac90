"""Output of a verification: files and log messages."""

import csv
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.escaping import escape_table, printable
from mlic.figures import EmbeddedFigure, FigureFiles, report_style
from mlic.runs.folder import RunFolder, refuse_foreign_folder, replacing_together, write_atomically
from mlic.verification.checking import Verification
from mlic.verification.figures import label_distribution, sample_images
from mlic.verification.findings import KINDS, Finding, count_kinds, findings_table
from mlic.verification.sheets import caption_pairs, write_sheet
from mlic.verification.statistics import count_images

logger = logging.getLogger(__name__)

FINDINGS_SHOWN = 3  # of each kind
NAMES_SHOWN = 3
PROBLEMS, CLASSES, PAIRS, SUMMARY = "problems.csv", "classes.csv", "class_pairs.csv", "verification.json"
FIGURES = "figures"
SUSPECTS, SUSPECT_IMAGES, SUSPECT_SHEET = "suspects.csv", "suspect_images.csv", "suspect_images.png"
DUPLICATE_SHEET = "duplicates.png"
NEAR_DUPLICATES, NEAR_DUPLICATE_SHEET = "near_duplicates.csv", "near_duplicates.png"
FILES = (PROBLEMS, CLASSES, PAIRS, SUMMARY, SUSPECTS, SUSPECT_IMAGES, SUSPECT_SHEET)
FILES += ("index.html", DUPLICATE_SHEET, NEAR_DUPLICATES, NEAR_DUPLICATE_SHEET)
_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def open_output(output: str | Path, annotations: str | Path | None) -> RunFolder:
    """Open the output folder, and create it if it is missing.

    Raises:
        InputError: the folder cannot be created, contains something other than an earlier check, or contains the
            annotation file under a name that would be replaced.
    """
    for name in FILES:
        file = Path(output) / name
        if annotations is not None and file.exists() and file.samefile(annotations):
            raise InputError(
                f"output: '{file}' is the annotation file and would be replaced. Choose another folder."
            )
    refuse_foreign_folder(output, mark=SUMMARY, text='"problems"', kind="folder of a check")
    try:
        return RunFolder(output)
    except OSError as error:
        raise InputError(f"output: the folder '{output}' cannot be created ({error.strerror}).") from error


def write(
    folder: RunFolder, verification: Verification, data: DictConfig, *, check: str, seed: int
) -> list[EmbeddedFigure]:
    """Write the tables of a verification, verification.json and figures, replacing all of them together.

    Args:
        folder: folder of the output.
        verification: result of `verify_data`.
        data: config of the data set.
        check: the check, `full` or `quick`.
        seed: seed of the sample images.

    Returns:
        The figure of the labels.
    """
    summary = {
        "problems": count_kinds(verification.findings),
        "notes": [asdict(note) for note in verification.notes],
        **verification.summary,
        "check": check,
        "seconds": verification.inspected.seconds,
    }
    conflicts = [finding for finding in verification.findings if finding.kind == "conflicting_duplicate"]
    with replacing_together(folder.path) as new:
        # quoted, because file names may contain commas, quotes and line breaks
        write_table(new / PROBLEMS, findings_table(verification.findings), quoting=csv.QUOTE_ALL)
        write_table(new / CLASSES, verification.classes)
        write_table(new / PAIRS, verification.pairs)
        RunFolder(new).write_json(SUMMARY, summary)
        if conflicts:
            pairs = ((each.file_name, each.same_as, "same bytes, different labels") for each in conflicts)
            write_sheet(
                new / DUPLICATE_SHEET,
                list(caption_pairs(verification.table, pairs, with_labels=True)),
                title="Copies with different labels, in pairs",
                bits_stored=data.bits_stored,
            )
        panels = write_figures(new / FIGURES, verification, data, seed)
    if not conflicts:  # an earlier check may have found some
        (folder.path / DUPLICATE_SHEET).unlink(missing_ok=True)
    return panels


def write_figures(
    folder: Path, verification: Verification, data: DictConfig, seed: int
) -> list[EmbeddedFigure]:
    """Write labels.png and labels.svg if there are classes, and samples.png if there are usable images."""
    usable = verification.table.select(verification.inspected.usable)
    if len(usable):
        write_sheet(folder / "samples.png", sample_images(usable, seed=seed), bits_stored=data.bits_stored)
    before, after = count_images(verification.classes)
    with report_style():
        figure = label_distribution(before, after) if before else None
        return FigureFiles(folder).save("labels", "Images of each class", figure)


def write_table(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a table as CSV atomically; `options` are those of `pandas.DataFrame.to_csv`."""
    text = escape_table(table).to_csv(index=False, float_format="%.6g", lineterminator="\n", **options)
    # file names that are not UTF-8 are written as their bytes on disk, other lone surrogates as escapes
    text = _NO_CHARACTER.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    write_atomically(path, text, errors="surrogateescape")


def log_findings(folder: RunFolder, verification: Verification) -> None:
    """Log a description of the data set, the findings of each kind, and the path of the full list."""
    lines = [*_describe_data(verification)]
    lines += [*_list_kinds(verification.notes), *_list_kinds(verification.findings)]
    problems = len(verification.findings)
    lines.append(f"problems: {problems}, all in {folder.path / PROBLEMS}" if problems else "no problems")
    logger.info("%s", "\n".join(_printable(line) for line in lines))


def _list_kinds(findings: Sequence[Finding]) -> Iterable[str]:
    for kind, count in count_kinds(findings).items():
        yield f"{kind}: {count} ({KINDS[kind]})"
        shown = [finding for finding in findings if finding.kind == kind][:FINDINGS_SHOWN]
        yield from (f"    {_describe(finding)}" for finding in shown)
        if count > len(shown):
            yield f"    and {count - len(shown)} more"


def _describe_data(verification: Verification) -> Iterable[str]:
    inspected, number = verification.inspected, len(verification.table)
    yield (
        f"{number} images, {int(inspected.usable.sum())} of them usable "
        f"({inspected.seconds:.1f} s, {number / inspected.seconds:.0f} images/s)"
    )
    summary, classes = verification.summary, verification.classes
    if classes.empty:
        return
    yield (
        f"{summary['classes']} classes, {summary['labels']} labels, {summary['labels_per_image']:.2f} per image; "
        f"{summary['unlabelled_images']} images without labels"
    )
    named = [f"{name} {images}" for name, images in zip(classes["class"], classes["images"], strict=True)]
    if len(named) > 2 * NAMES_SHOWN:
        named[NAMES_SHOWN:-NAMES_SHOWN] = ["..."]
    yield "images per class: " + ", ".join(named)
    together = verification.pairs.head(NAMES_SHOWN).to_dict("records")
    listed = [f"{pair['first']} + {pair['second']} {pair['images']}" for pair in together]
    yield "most often together: " + (", ".join(listed) or "none")


def _describe(finding: Finding) -> str:
    name, detail = finding.file_name or finding.class_name, finding.detail
    if not name or (finding.kind == "annotations" and detail.startswith(name)):  # the error names the file
        return detail
    sign = "≈" if finding.kind == "near_duplicate" else "="
    pair = f"{name} {sign} {finding.same_as}" if finding.same_as else name
    return f"{pair}: {detail}" if detail else pair


def _printable(text: str) -> str:
    # escape line breaks, too, which file names may contain
    return printable(text).replace("\n", "\\n")

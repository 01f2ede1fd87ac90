"""Output of a verification: files and log messages."""

import csv
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from mlic.escaping import escape_table, printable
from mlic.evaluation.errors import co_occurrence
from mlic.figures import PNG_DPI, EmbeddedFigure, image_sheet, report_style, save_figure
from mlic.runs.folder import RunFolder, refuse_foreign_folder, replacing, replacing_together, write_atomically
from mlic.verification.checking import Verification, label_summary
from mlic.verification.figures import label_distribution, open_small, sample_images
from mlic.verification.findings import KINDS, findings_table

logger = logging.getLogger(__name__)

PROBLEMS, CLASSES, PAIRS, SUMMARY = "problems.csv", "classes.csv", "class_pairs.csv", "verification.json"
SUSPECTS, SUSPECT_IMAGES, NEAR_DUPLICATES = "suspects.csv", "suspect_images.csv", "near_duplicates.csv"
MOST_PAIRS = 1000
SHOWN = 3  # findings of each kind
_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def open_output(output: str | Path) -> RunFolder:
    """Open the output folder, and create it if it is missing.

    Raises:
        InputError: the folder contains something other than an earlier check.
    """
    refuse_foreign_folder(output, mark=SUMMARY, text='"problems"', kind="folder of a check")
    return RunFolder(output)


def write(
    folder: RunFolder,
    verification: Verification,
    tables: Mapping[str, pd.DataFrame],
    data: DictConfig,
    *,
    check: str,
    seed: int,
) -> list[EmbeddedFigure]:
    """Write the tables of a verification, verification.json and figures, replacing all of them together.

    Args:
        folder: folder of the output.
        verification: result of `verify_data`.
        tables: more tables by file name.
        data: config of the data set.
        check: the check, `full` or `quick`.
        seed: seed of the sample images.

    Returns:
        The figure of the labels.
    """
    problems, table = verification.problems(), verification.table
    summary = {
        "problems": problems["kind"].value_counts(sort=False).to_dict(),
        "notes": verification.notes().to_dict("records"),
        **label_summary(table),
        "check": check,
    }
    pairs = co_occurrence(table.labels, table.classes).head(MOST_PAIRS)
    with replacing_together(folder.path) as new:
        # quoted, because file names may contain commas, quotes and line breaks
        write_table(new / PROBLEMS, problems, quoting=csv.QUOTE_ALL)
        for name, content in {CLASSES: verification.classes, PAIRS: pairs, **tables}.items():
            write_table(new / name, content)
        RunFolder(new).write_json(SUMMARY, summary)
        return write_figures(new / "figures", verification, data, seed)


def write_figures(
    folder: Path, verification: Verification, data: DictConfig, seed: int
) -> list[EmbeddedFigure]:
    """Write labels.png and labels.svg, and samples.png if there are usable images; return the former."""
    samples = sample_images(verification.table.select(verification.usable), seed=seed)
    small = [(open_small(reference, data.bits_stored), caption) for reference, caption in samples]
    classes = verification.classes.set_index("class")
    after = classes.drop(columns=["images", "share", "alone"]).sum(axis=1).astype(int)
    with report_style():
        if small:
            with replacing(folder / "samples.png", durable=False) as file:
                image_sheet(small).savefig(file, format="png", dpi=PNG_DPI)
        figure = label_distribution(classes["images"].to_dict(), after.to_dict())
        return [save_figure(folder, "labels", figure)]


def write_table(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """Write a table as CSV atomically; `options` are those of `pandas.DataFrame.to_csv`."""
    text = escape_table(table).to_csv(index=False, float_format="%.6g", lineterminator="\n", **options)
    # file names that are not UTF-8 are written as their bytes on disk, other lone surrogates as escapes
    text = _NO_CHARACTER.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    write_atomically(path, text, errors="surrogateescape")


def log_findings(folder: RunFolder, verification: Verification) -> None:
    """Log a description of the data set, the first findings of each kind, and the path of the full list."""
    table = verification.table
    lines = [f"{len(table)} images, {verification.usable.sum()} usable; {len(table.classes)} classes"]
    for kind, findings in findings_table(verification.findings).groupby("kind", sort=False):
        lines.append(f"{kind}: {len(findings)} ({KINDS[str(kind)]})")
        shown = findings.drop(columns="kind").head(SHOWN).to_numpy()
        lines += [f"    {': '.join(filter(None, fields))}" for fields in shown]
    count = len(verification.problems())
    lines.append(f"problems: {count}, all in {folder.path / PROBLEMS}" if count else "no problems")
    # escape line breaks, too, which file names may contain
    logger.info("%s", "\n".join(printable(line).replace("\n", "\\n") for line in lines))

"""The page of a verification: problems with their images, labels worth a look, label distribution and samples."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from mlic.data.images import ImageReference
from mlic.figures import EmbeddedFigure
from mlic.report.page import render_page
from mlic.report.thumbnails import PIXELS, data_uri
from mlic.runs.folder import RunFolder, write_atomically
from mlic.verification.checking import Verification, label_summary
from mlic.verification.figures import open_small, sample_images
from mlic.verification.findings import KINDS, NOTES, SEPARATOR, findings_table
from mlic.verification.report import PROBLEMS, SUMMARY

ROWS_SHOWN, PAIRS_SHOWN, SUSPECTS_SHOWN = 50, 24, 48  # of each kind; all are in the CSV files


def write_page(
    folder: RunFolder,
    verification: Verification,
    data: DictConfig,
    *,
    panels: Sequence[EmbeddedFigure],
    seed: int,
    suspects: pd.DataFrame | None = None,
) -> None:
    """Write index.html, which needs no other file.

    Args:
        folder: folder of the output.
        verification: result of `verify_data`.
        data: config of the data set.
        panels: figure of the labels.
        seed: seed of the sample images.
        suspects: images of `Ranking`, if labels were ranked.
    """
    table = verification.table
    references = dict(zip(table.file_names.tolist(), table.paths(), strict=True))

    def card(reference: ImageReference, *lines: str) -> dict[str, Any]:
        image = open_small(reference, data.bits_stored, PIXELS)
        return {"image": None if image is None else data_uri(image), "lines": lines}

    kinds = []
    findings: Any = findings_table(verification.findings).groupby("kind", sort=False)
    for name, found in findings:
        pairs = found[found["same_as"] != ""].head(PAIRS_SHOWN)
        kind = {
            "name": name,
            "meaning": KINDS[name],
            "number": len(found),
            "file": SUMMARY if name in NOTES else PROBLEMS,
            "rows": found.head(ROWS_SHOWN if pairs.empty else 0).to_dict("records"),
            "pairs": [
                (detail, [card(references[file], file) for file in names])
                for detail, *names in pairs[["detail", "file_name", "same_as"]].to_numpy().tolist()
            ],
        }
        kinds.append(kind)
    shown: Any = [] if suspects is None else suspects.head(SUSPECTS_SHOWN).to_dict("records")
    content = {
        "title": f"Check of {len(table):,} images",
        "summary": label_summary(table),
        "usable": int(verification.usable.sum()),
        "kinds": kinds,
        "panels": panels,
        "suspects": [card(references[row["file_name"]], *_suspect_lines(row)) for row in shown],
        "samples": [card(*sample) for sample in sample_images(table.select(verification.usable), seed=seed)],
    }
    # file names may contain bytes that are not text
    page = render_page(content, template="verify.html")
    write_atomically(folder.path / "index.html", page, errors="backslashreplace")


def _suspect_lines(row: dict[str, Any]) -> list[str]:
    """Return the labels of an image, those that do not fit, those that seem to be missing, and its name."""
    names = {key: row[key].replace(SEPARATOR, ", ") for key in ("labels", "unexpected", "expected")}
    names["labels"] = names["labels"] or "none"
    return [*(f"{key}: {value}" for key, value in names.items() if value), row["file_name"]]

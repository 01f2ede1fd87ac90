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
from mlic.verification.checking import Verification
from mlic.verification.figures import sample_images
from mlic.verification.files import SEPARATOR
from mlic.verification.findings import KINDS, Finding, count_kinds
from mlic.verification.report import PROBLEMS, SUMMARY
from mlic.verification.sheets import open_small

PAGE = "index.html"
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
        verification: result of `verify_data`, with near duplicates if they were searched.
        data: config of the data set.
        panels: figure of the labels.
        seed: seed of the sample images.
        suspects: images of `Ranking`, if labels were ranked.
    """
    cards = Cards(verification, data.bits_stored)
    usable = verification.table.select(verification.inspected.usable)
    content = {
        "title": f"Check of {len(verification.table):,} images",
        "summary": verification.summary,
        "usable": int(verification.inspected.usable.sum()),
        "kinds": _group(verification.findings, PROBLEMS, cards) + _group(verification.notes, SUMMARY, cards),
        "panels": panels,
        "suspects": [] if suspects is None else [cards.suspect(row) for row in _records(suspects)],
        "samples": [
            cards.make(reference, [caption]) for reference, caption in sample_images(usable, seed=seed)
        ],
        "rows_shown": ROWS_SHOWN,
    }
    # file names may contain bytes that are not text
    page = render_page(content, template="verify.html")
    write_atomically(folder.path / PAGE, page, errors="backslashreplace")


class Cards:
    """Images with text, each opened when it is shown."""

    def __init__(self, verification: Verification, bits_stored: int) -> None:
        """Find the images of a verification by their names."""
        table = verification.table
        self.references = dict(zip(table.file_names.tolist(), table.paths(), strict=True))
        self.bits_stored = bits_stored

    def make(self, reference: ImageReference | None, lines: Sequence[str]) -> dict[str, Any]:
        """Return `image` (a `data:` address, or None if it cannot be opened) and `lines`."""
        image = None if reference is None else open_small(reference, self.bits_stored, PIXELS)
        return {"image": None if image is None else data_uri(image), "lines": lines}

    def pair(self, finding: Finding) -> list[dict[str, Any]]:
        """Return both images of a finding."""
        return [self.make(self.references.get(name), [name]) for name in (finding.file_name, finding.same_as)]

    def suspect(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return an image whose labels are worth a look."""
        named = [
            f"{key}: {row[key].replace(SEPARATOR, ', ') or 'none'}"
            for key in ("labels", "unexpected", "expected")
            if row[key] or key == "labels"
        ]
        return self.make(self.references.get(row["file_name"]), [*named, row["file_name"]])


def _group(findings: Sequence[Finding], file: str, cards: Cards) -> list[dict[str, Any]]:
    """Return name, meaning, number, file, rows and pairs of images of each kind of findings."""
    groups = []
    for kind, number in count_kinds(findings).items():
        own = [finding for finding in findings if finding.kind == kind]
        pairs = [finding for finding in own if finding.same_as][:PAIRS_SHOWN]
        groups.append(
            {
                "name": kind.replace("_", " "),
                "meaning": KINDS[kind],
                "number": number,
                "file": file,
                "rows": [] if pairs else own[:ROWS_SHOWN],
                "pairs": [(finding.detail, cards.pair(finding)) for finding in pairs],
            }
        )
    return groups


def _records(suspects: pd.DataFrame) -> list[dict[str, Any]]:
    rows: Any = suspects.head(SUSPECTS_SHOWN).to_dict("records")
    return rows

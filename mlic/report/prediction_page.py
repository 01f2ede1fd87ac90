"""The page of `mlic.predict`: new photographs with their labels and scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from mlic.data.images import FULL_BITS, ImageReference
from mlic.errors import InputError
from mlic.escaping import printable
from mlic.report.page import render_page
from mlic.report.thumbnails import data_uri, thumbnail
from mlic.runs.folder import write_atomically

PER_PAGE, MOST_PAGES = 500, 20
MOST_DOUBTFUL = 4  # labels shown of a photograph whose scores are below their thresholds
DOUBT = 1.0  # largest distance of such a score from its threshold, in logits
GENERATOR = b'content="mlic.predict"'


@dataclass(eq=False)
class PredictionPages:
    """Collects photographs for pages of 500 each, at most 20 pages.

    Attributes:
        file: the first page; the others are beside it, such as index_2.html.
        title: heading of the pages.
        classes: C names.
        upper: thresholds (C,) above which a label is predicted.
        lower: thresholds (C,) up to which a label is absent, or None: labels in between are open questions.
        table: name of the CSV file.
        bits_stored: see `open_image`.
    """

    file: Path
    title: str
    classes: Sequence[str]
    upper: np.ndarray
    lower: np.ndarray | None
    table: str
    bits_stored: int = FULL_BITS
    total: int = field(default=0, init=False)
    _cards: list[dict[str, Any]] = field(default_factory=list, init=False)

    def append(
        self,
        names: Sequence[str],
        images: Sequence[ImageReference],
        scores: np.ndarray,
        errors: Sequence[str],
    ) -> None:
        """Add photographs with scores (B, C)."""
        for name, image, row, error in zip(names, images, scores.astype(np.float64), errors, strict=True):
            self.total += 1
            if self.total <= PER_PAGE * MOST_PAGES:
                card = {"labels": [], "image": None, "doubt": None} if error else self._card(image, row)
                self._cards.append({"name": printable(name), "error": printable(error), **card})

    def _card(self, image: ImageReference, scores: np.ndarray) -> dict[str, Any]:
        """Return the thumbnail, the predicted labels and the most probable open ones of a photograph."""
        ends = [self.upper] if self.lower is None else [self.upper, self.lower]
        doubt = np.min([np.abs(_logit(scores) - _logit(end)) for end in ends], axis=0).round(4)
        chosen = scores > self.upper
        is_open = (doubt <= DOUBT if self.lower is None else scores > self.lower) & ~chosen
        order = np.argsort(-scores, kind="stable")
        columns = [*order[chosen[order]], *order[is_open[order]][:MOST_DOUBTFUL]]
        labels = [(int(at), float(scores[at]), float(doubt[at]), bool(chosen[at])) for at in columns]
        return {"labels": labels, "doubt": float(doubt.min()), "image": _data_uri(image, self.bits_stored)}

    def write(self) -> None:
        """Write all pages, and remove those of an earlier result with more photographs."""
        starts = range(0, max(1, len(self._cards)), PER_PAGE)
        files = [
            self.file,
            *(self.file.with_stem(f"{self.file.stem}_{number}") for number in range(2, len(starts) + 1)),
        ]
        parts = [self._cards[start : start + PER_PAGE] for start in starts]
        content = {
            "title": printable(self.title),
            "total": self.total,
            "pages": [
                (file.name, f"{start + 1} to {start + len(own)}")
                for file, start, own in zip(files, starts, parts, strict=True)
            ],
            "table": self.table,
            "asks": self.lower is not None,
            "classes": [printable(name) for name in self.classes],
        }
        texts = [
            render_page({**content, "page": file.name, "cards": own}, "predictions.html", "predictions.js")
            for file, own in zip(files, parts, strict=True)
        ]
        for file, text in zip(files, texts, strict=True):
            write_atomically(file, text)
        for old in self.file.parent.glob(f"{self.file.stem}_*.html"):
            if old not in files and _is_ours(old):
                old.unlink()


@contextmanager
def open_pages(file: Path, **options: Any) -> Iterator[PredictionPages]:
    """Open pages that replace earlier ones on success; an error leaves those.

    Args:
        file: the first page; see `refuse_other_page`.
        options: other fields of `PredictionPages`.
    """
    pages = PredictionPages(file, **options)
    yield pages
    pages.write()


def refuse_other_page(file: Path) -> None:
    """Check that a page to replace was written by `mlic.predict`.

    Raises:
        InputError: the file was written by something else.
    """
    if file.exists() and not _is_ours(file):
        raise InputError(
            f"output: '{file}' was not written by mlic.predict and would be lost. Choose another output, or "
            "page=false."
        )


def _is_ours(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return GENERATOR in stream.read(200)


def _data_uri(image: ImageReference, bits_stored: int) -> str | None:
    try:
        return data_uri(thumbnail(image, bits_stored))
    except InputError:  # removed since it was scored; the page shows a gap
        return None


def _logit(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, 1e-6, 1 - 1e-6))

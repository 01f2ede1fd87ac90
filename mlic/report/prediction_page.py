"""The page of `mlic.predict`: new photographs with their labels and scores."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from mlic.runs.folder import replacing

PER_PAGE, MOST_PAGES = 500, 20
MOST_DOUBTFUL = 4  # labels shown of a photograph whose scores are below their thresholds
DOUBT = 1.0  # largest distance of such a score from its threshold, in logits
GENERATOR = b'content="mlic.predict"'


@dataclass(eq=False)
class PredictionPages:
    """Collects photographs and writes a page for each 500 of them, at most 20 pages.

    Attributes:
        file: the first page; the others are beside it, such as index_2.html.
        title: heading of the pages.
        classes: C names.
        upper: thresholds (C,) above which a label is predicted.
        lower: thresholds (C,) up to which a label is absent, or None: labels in between are open questions.
        total: number of photographs.
        table: name of the CSV file.
        bits_stored: see `open_image`.
    """

    file: Path
    title: str
    classes: tuple[str, ...]
    upper: np.ndarray
    lower: np.ndarray | None
    total: int
    table: str
    bits_stored: int = FULL_BITS
    _cards: list[dict[str, Any]] = field(default_factory=list)
    _written: int = 0
    _files: ExitStack = field(default_factory=ExitStack)

    @property
    def pages(self) -> list[Path]:
        """Files of all pages."""
        numbers = range(2, min(math.ceil(self.total / PER_PAGE), MOST_PAGES) + 1)
        return [self.file, *(self.file.with_stem(f"{self.file.stem}_{number}") for number in numbers)]

    def append(
        self,
        names: Sequence[str],
        images: Sequence[ImageReference],
        scores: np.ndarray,
        errors: Sequence[str],
    ) -> None:
        """Add photographs with scores (B, C), and write the pages that are full."""
        for name, image, row, error in zip(names, images, scores.astype(np.float64), errors, strict=True):
            if self._written == len(self.pages):
                return
            self._cards.append(self._card(name, image, row, error))
            done = self._written * PER_PAGE + len(self._cards)
            if done == self.total or len(self._cards) == PER_PAGE:
                self._write()

    def _card(self, name: str, image: ImageReference, scores: np.ndarray, error: str) -> dict[str, Any]:
        card: dict[str, Any] = {
            "name": printable(name),
            "error": printable(error),
            "image": None,
            "labels": [],
        }
        if error:
            return card
        ends = [np.clip(end, 1e-6, 1 - 1e-6) for end in (self.upper, self.lower) if end is not None]
        distances = np.stack([logit(np.clip(scores, 1e-6, 1 - 1e-6)) - logit(end) for end in ends])
        doubt = np.abs(distances).min(axis=0)
        chosen = scores > self.upper
        is_open = doubt <= DOUBT if self.lower is None else scores > self.lower
        order = np.argsort(-scores, kind="stable")
        doubtful = [column for column in order if is_open[column] and not chosen[column]][:MOST_DOUBTFUL]
        for column in [*(column for column in order if chosen[column]), *doubtful]:
            label = {
                "column": int(column),
                "name": printable(self.classes[column]),
                "chosen": bool(chosen[column]),
            }
            card["labels"].append(
                {**label, "score": float(scores[column]), "doubt": round(float(doubt[column]), 4)}
            )
        return {**card, "doubt": round(float(doubt.min()), 4), "image": _data_uri(image, self.bits_stored)}

    def _write(self) -> None:
        keys = ("column", "score", "doubt", "chosen")
        file, first = self.pages[self._written], self._written * PER_PAGE + 1
        last = first + len(self._cards) - 1
        shown = f"{self.total} photographs" + (f", here {first} to {last}." if self.total > PER_PAGE else ".")
        open_labels = "close to their threshold" if self.lower is None else "open: somebody has to look"
        rule = f"Labels in green are predicted, those with a question mark are {open_labels}."
        content = {
            "title": printable(self.title),
            "lead": [f"{shown} {rule}"],
            "pages": [
                (page.name, f"{number * PER_PAGE + 1} to {min((number + 1) * PER_PAGE, self.total)}")
                for number, page in enumerate(self.pages)
            ],
            "page": file.name,
            "table": self.table,
            "doubtful": "close" if self.lower is None else "to ask",
            "cards": self._cards,
            "data": {
                "classes": [printable(name) for name in self.classes],
                "labels": [[[each[key] for key in keys] for each in card["labels"]] for card in self._cards],
                "doubts": [card.get("doubt") for card in self._cards],
            },
        }
        text = render_page(content, "predictions.html", "predictions.js")
        self._files.enter_context(replacing(file)).write(text.encode())
        self._written, self._cards = self._written + 1, []


@contextmanager
def open_pages(file: Path, **options: Any) -> Iterator[PredictionPages]:
    """Open pages that replace earlier ones on success; an error leaves those.

    Args:
        file: the first page; see `refuse_other_page`.
        options: other fields of `PredictionPages`.
    """
    pages = PredictionPages(file, **options)
    with pages._files:
        yield pages
    # pages of an earlier result with more photographs
    for old in file.parent.glob(f"{file.stem}_*.html"):
        if old not in pages.pages and _is_ours(old):
            old.unlink()


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

"""Galleries: test photographs of a run with good and bad predictions, selected by rule."""

from dataclasses import dataclass

import numpy as np

from mlic.evaluation.errors import gallery_rows, image_losses
from mlic.report.comparison import decide, predictions_of
from mlic.report.reading import ReportedRun
from mlic.report.thumbnails import Thumbnails

TITLES = {
    "lowest_loss": "Best: lowest loss",
    "highest_loss": "Worst: highest loss",
    "confident_errors": "Most confident single errors",
}
RULES = {
    "lowest_loss": "test images with labels that have the lowest binary cross-entropy (mean over classes)",
    "highest_loss": "test images with the highest binary cross-entropy",
    "confident_errors": "test images with the most confident wrong labels, each image once",
}


@dataclass(frozen=True)
class Label:
    """A label with its score; `good` is True for a right prediction or a true label that was predicted."""

    name: str
    score: float
    good: bool


@dataclass(frozen=True)
class Photograph:
    """One test image of a gallery.

    Attributes:
        file_name: file name in the predictions.
        loss: binary cross-entropy of the image.
        true: true labels; good if they were predicted.
        predicted: predicted labels, the most confident first; good if they are true.
        unknown: predicted labels of which nobody knows whether they are true.
        image: `data:` address of the thumbnail, or None.
        map_image: `data:` address of the thumbnail with the activation map, or None.
        map_label: label of the activation map.
    """

    file_name: str
    loss: float
    true: list[Label]
    predicted: list[Label]
    unknown: list[Label]
    image: str | None
    map_image: str | None = None
    map_label: str = ""


@dataclass(frozen=True)
class Gallery:
    """Photographs selected by one rule."""

    key: str
    photographs: list[Photograph]

    @property
    def title(self) -> str:
        """Heading."""
        return TITLES[self.key]

    @property
    def rule(self) -> str:
        """Description of the rule."""
        return RULES[self.key]


def build_galleries(run: ReportedRun, thumbnails: Thumbnails, *, count: int) -> list[Gallery]:
    """Build the galleries of a run with test predictions at threshold 0.5.

    Args:
        run: the run.
        thumbnails: thumbnails of its photographs.
        count: maximum number of photographs per gallery.
    """
    predictions = predictions_of(run)
    losses = image_losses(predictions)
    chosen = gallery_rows(predictions, count=count)
    # images without labels have the lowest losses of all, but there is nothing to see
    labelled = np.flatnonzero(predictions.positives.any(axis=1))
    if len(labelled):
        chosen["lowest_loss"] = labelled[
            gallery_rows(predictions.select(labelled), count=count)["lowest_loss"]
        ]
    return [
        Gallery(
            key,
            [_photograph(run, row, float(losses[row]), thumbnails) for row in rows.tolist()],
        )
        for key, rows in chosen.items()
    ]


def _photograph(run: ReportedRun, row: int, loss: float, thumbnails: Thumbnails) -> Photograph:
    predictions = predictions_of(run).select([row])
    scores, predicted = predictions.scores[0], decide(predictions)[0]
    true, known = predictions.positives[0], predictions.known[0]
    name = str(predictions.file_names[0])

    def labels(flags: np.ndarray, good: np.ndarray) -> list[Label]:
        order = sorted(np.flatnonzero(flags).tolist(), key=lambda column: -scores[column])
        return [Label(run.classes[column], float(scores[column]), bool(good[column])) for column in order]

    shown = labels(true, predicted), labels(predicted & known, true), labels(predicted & ~known, true)
    return Photograph(name, loss, *shown, thumbnails.data_uri(name))

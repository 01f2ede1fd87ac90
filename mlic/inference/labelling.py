"""Labels of single photographs and the reasons for them; the work behind the page of `mlic.app`."""

import html
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import expit, logit
from torch import Tensor

from mlic.data.images import BadImageError, ImageReference, open_at_sizes, open_image
from mlic.errors import InputError
from mlic.evaluation.thresholds import CALIBRATED
from mlic.inference.activation_maps import ActivationMaps
from mlic.inference.classifier import Classifier
from mlic.inference.neighbours import TrainingPhotographs

THUMBNAIL_PIXELS = 480
NEIGHBOURS = 6
ROWS = 10  # of the table of scores, and those of further labels above their thresholds


@dataclass(frozen=True, eq=False)
class ScoredPhotograph:
    """A photograph with a small copy, its scores float64 (C,), and the input of the head."""

    path: Path
    thumbnail: Image.Image
    scores: np.ndarray
    inputs: Tensor

    def ranking(self) -> list[int]:
        """Return the columns of all classes, the best score first."""
        return np.argsort(-self.scores, kind="stable").tolist()


class PhotographLabeller:
    """Labels photographs with a run, and explains the labels.

    Attributes:
        classifier: the run.
        not_available: sentences about explanations that this run cannot give.
    """

    def __init__(
        self, classifier: Classifier, thresholds: Any = CALIBRATED, features_dir: str | None = None
    ) -> None:
        """Prepare the explanations.

        Args:
            classifier: the run.
            thresholds: see `Classifier.choose_thresholds`.
            features_dir: see `evaluate_run`.

        Raises:
            InputError: see `Classifier.choose_thresholds`.
        """
        self.classifier, self.not_available = classifier, list[str]()
        self._logits = logit(np.clip(classifier.choose_thresholds(thresholds), 1e-6, 1 - 1e-6))
        self._maps = self._training = None
        try:
            self._maps = ActivationMaps(classifier)
        except InputError as error:
            self.not_available.append(f"No activation maps: {error}")
        try:
            self._training = TrainingPhotographs(classifier, features_dir)
        except InputError as error:
            self.not_available.append(f"No similar training photographs: {error}")

    def score(self, path: Path) -> ScoredPhotograph:
        """Score a photograph.

        Raises:
            BadImageError: see `mlic.data.open_image`.
        """
        classifier = self.classifier
        image = open_at_sizes(path, classifier.draft_size, classifier.bits_stored)
        pixels = torch.from_numpy(np.array(classifier.backbone.transform(image)))[None]
        with torch.inference_mode():
            inputs = classifier.inputs(pixels)
        scores = torch.sigmoid(classifier.logits(inputs)[0].double()).numpy()
        return ScoredPhotograph(path, self._thumbnail(path), scores, inputs)

    def thresholds(self, strictness: float) -> np.ndarray:
        """Return the thresholds float64 (C,), moved by a number of logits; 0 are those of the run."""
        return expit(self._logits + strictness)

    def labels(self, photograph: ScoredPhotograph, strictness: float) -> list[str]:
        """Return the labels with a score above their threshold, the best first."""
        above = photograph.scores > self.thresholds(strictness)
        return [self.classifier.classes[column] for column in photograph.ranking() if above[column]]

    def activation_map(self, photograph: ScoredPhotograph, label: str) -> Image.Image | None:
        """Return the activation map of a label over the photograph; None if it is not available."""
        return self._maps.overlay(photograph.path, label) if self._maps else None

    def similar(self, photograph: ScoredPhotograph) -> list[tuple[Image.Image, str]]:
        """Return the training photographs with the most similar features, with cosine and labels in words."""
        found = self._training.nearest(photograph.inputs, NEIGHBOURS) if self._training else ()
        shown = []
        for image, labels, cosine in found:
            with suppress(BadImageError):  # moved or damaged since training
                shown.append((self._thumbnail(image), f"{cosine:.2f}: {', '.join(labels) or 'no label'}"))
        return shown

    def _thumbnail(self, reference: ImageReference) -> Image.Image:
        image = open_image(reference, draft_size=THUMBNAIL_PIXELS, bits_stored=self.classifier.bits_stored)
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        return image


def score_table(classes: Sequence[str], photograph: ScoredPhotograph, thresholds: np.ndarray) -> str:
    """Return an HTML table of the best labels, each with a bar for its score and a mark at its threshold."""
    rows = []
    for place, column in enumerate(photograph.ranking()):
        score, threshold = photograph.scores[column], thresholds[column]
        if place < ROWS or score > threshold:
            rows.append(
                f'<tr class="{"above" if score > threshold else "below"}"><td>{html.escape(classes[column])}</td>'
                f'<td class="bar"><div style="--score:{score:.1%};--threshold:{threshold:.1%}"></div></td>'
                f"<td>{score:.2f}</td><td>{threshold:.2f}</td></tr>"
            )
    header = "<tr><th>label</th><th></th><th>score</th><th>threshold</th></tr>"
    return f'<table class="scores">{header}{"".join(rows)}</table>'

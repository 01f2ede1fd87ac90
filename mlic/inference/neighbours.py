"""The training photographs that are most similar to a photograph, to explain its scores."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlic.data.images import ImageReference
from mlic.errors import InputError
from mlic.features.extraction import open_store
from mlic.inference.checkpoint import read_split
from mlic.inference.classifier import Classifier
from mlic.inference.evaluating import run_features_dir
from mlic.inference.labelled import read_labelled_set

CHUNK_ROWS = 8192  # training photographs that are read at once


class TrainingPhotographs:
    """The training photographs of a run, searched by the cosine of their stored features.

    Feature maps are averaged over their positions. The vectors are in memory, 2.6 MB for 1,000 photographs of a network
    with 1,280 channels.
    """

    def __init__(self, classifier: Classifier, features_dir: str | Path | None = None) -> None:
        """Find the rows of the training photographs in the feature store; nothing is computed.

        Args:
            classifier: a run of one network on cached features.
            features_dir: see `evaluate_run`.

        Raises:
            InputError: the run has no stored features, or its annotations, images or rows are not available.
        """
        split = read_split(classifier.saved)
        if not classifier.is_cached or len(classifier.backbone.members) > 1:
            raise InputError("they are found only for a run of a single network with stored features.")
        if split is None or "sha256" not in split.columns:
            raise InputError("the run has no split.csv with the sha256 of its photographs.")
        self.classifier, self.table = classifier, read_labelled_set(classifier.saved, None, "train").table
        digests = split.set_index("file_name")["sha256"].loc[list(self.table.file_names)].to_numpy("S64")
        folder, dtype = features_dir or run_features_dir(classifier), classifier.config["features"]["dtype"]
        sizes: dict[str, Any] = {"draft_size": classifier.draft_size, "bits_stored": classifier.bits_stored}
        store = open_store(classifier.backbone, folder, dtype=dtype, **sizes)
        if absent := int(store.is_missing(digests).sum()):
            raise InputError(
                f"features of {absent} of {len(digests)} training photographs are not in '{store.folder}'. "
                "mlic.evaluate part=train computes them."
            )
        reader, chunks = store.reader(digests), torch.arange(len(digests)).split(CHUNK_ROWS)
        self.vectors = torch.cat([classifier.unit_vectors(reader.gather(rows.numpy())) for rows in chunks])

    def nearest(self, features: Tensor, count: int) -> list[tuple[ImageReference, tuple[str, ...], float]]:
        """Return image, labels and cosine of the most similar training photographs, the most similar first.

        Args:
            features: output of the backbone for one image, (1, *feature_shape).
            count: number of photographs.
        """
        cosines = (self.vectors @ self.classifier.unit_vectors(features)[0]).float()
        images, classes = self.table.paths(), np.array(self.table.classes)
        return [
            (images[row], tuple(classes[self.table.positives[row]].tolist()), float(cosines[row]))
            for row in cosines.argsort(descending=True)[:count].tolist()
        ]

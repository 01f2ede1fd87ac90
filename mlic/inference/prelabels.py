"""Predicted labels as files of labelling tools and photograph managers; photographs are never changed."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import numpy as np

from mlic.errors import InputError, check_choice
from mlic.escaping import printable
from mlic.runs.folder import write_atomically

logger = logging.getLogger(__name__)

LABELSTUDIO, FIFTYONE, XMP = "labelstudio", "fiftyone", "xmp"
MARK = "mlic.predict"
MARK_WITHIN = 400  # characters from the beginning of a file
SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{mark}">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:subject><rdf:Bag>{keywords}</rdf:Bag></dc:subject>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
"""


class PreLabels:
    """Collects the predicted labels of images, and writes them for one program.

    `labelstudio`: tasks with predictions and scores, labelstudio.json. `fiftyone`: multi-label image classification,
    fiftyone.json. `xmp`: a sidecar with keywords for each image, in the folder xmp.
    """

    def __init__(self, kind: str, folder: Path, names: Sequence[str]) -> None:
        """Check the names of the files to be written.

        Args:
            kind: `labelstudio`, `fiftyone` or `xmp`.
            folder: folder of the files.
            names: names of all images.

        Raises:
            InputError: the kind is unknown, or a file there was written by something else.
        """
        check_choice("write", kind, (LABELSTUDIO, FIFTYONE, XMP))
        self.kind, self.folder = kind, folder
        self._rows: list[tuple[str, dict[str, float]]] = []
        for file in [self._sidecar(name) for name in names] if kind == XMP else [folder / f"{kind}.json"]:
            if file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace")[:MARK_WITHIN]:
                raise InputError(
                    f"write={kind}: '{file}' was not written by mlic.predict and would be lost. Choose another output."
                )

    def append(
        self, names: Sequence[str], scores: np.ndarray, upper: np.ndarray, classes: tuple[str, ...]
    ) -> None:
        """Add images with scores (B, C); NaN for images that cannot be used, which are left out."""
        for name, row in zip(names, scores.astype(np.float64), strict=True):
            if not np.isnan(row).any():
                order = [column for column in np.argsort(-row, kind="stable") if row[column] > upper[column]]
                self._rows.append((name, {classes[column]: round(float(row[column]), 4) for column in order}))

    def write(self) -> Path:
        """Write the files, and return the file or folder."""
        if self.kind == XMP:
            for name, labels in self._rows:
                keywords = "".join(f"<rdf:li>{escape(printable(label))}</rdf:li>" for label in labels)
                text = SIDECAR.format(mark=MARK, keywords=keywords)
                write_atomically(self._sidecar(name), text, durable=False)
            return self.folder / XMP
        content = [_task(*row) for row in self._rows] if self.kind == LABELSTUDIO else self._samples()
        file = self.folder / f"{self.kind}.json"
        write_atomically(file, json.dumps(content, indent=1) + "\n")
        return file

    def _sidecar(self, name: str) -> Path:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"write=xmp: '{name}' is not a name inside the folder of the images.")
        return self.folder / XMP / f"{name}.xmp"

    def _samples(self) -> dict[str, Any]:
        """Return labels by name without extension, as FiftyOne identifies images."""
        samples: dict[str, Any] = {}
        for name, labels in self._rows:
            key = PurePosixPath(name).with_suffix("").as_posix()
            if key in samples:
                logger.warning("write=fiftyone: '%s' is left out: another image is '%s', too", name, key)
                continue
            samples[key] = [{"label": label, "confidence": score} for label, score in labels.items()]
        return {"info": {"tool": MARK}, "labels": samples}


def _task(name: str, labels: dict[str, float]) -> dict[str, Any]:
    """Return a task of Label Studio with a prediction and no annotation."""
    names = {"from_name": "labels", "to_name": "image", "type": "choices"}
    result = {**names, "value": {"choices": list(labels)}, "meta": {"scores": labels}}
    prediction = {"model_version": MARK, "score": max(labels.values(), default=0.0), "result": [result]}
    address = f"/data/local-files/?d={quote(name, errors='surrogateescape')}"
    return {"predictions": [prediction], "annotations": [], "data": {"image": address}}

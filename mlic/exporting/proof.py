"""The proof in an exported model: images by their sha256, with the scores that torch computed for them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import Message
from onnx import ModelProto, TensorProto
from PIL import Image

from mlic.data import LabelTable
from mlic.data.images import ImageReference
from mlic.data.tar_images import read_tar_image
from mlic.errors import InputError
from mlic.exporting import predict
from mlic.exporting.graph import FEATURES, IMAGES, PIXELS, SCORES, add_outputs
from mlic.features.hashing import hash_files

TOLERANCE = 1e-3  # of scores for the same pixels in float32, and relative of mean and deviation of features
GREY_LEVELS = 1.0  # mean difference of pixels; rounding is 0.0002, a wrong crop or filter more than 1


def read_model(path: str | Path) -> ModelProto:
    """Read an exported model that may come from anyone; no other file is opened.

    Errors of protobuf, of which it has its own, and of JSON are left to the caller.

    Raises:
        InputError: the file has no proof, or refers to data in other files.
    """
    model = onnx.load(path, load_external_data=False)
    is_whole = all(tensor.data_location != TensorProto.EXTERNAL for tensor in _tensors(model))
    if not is_whole or not read_info(model).keys() >= {"mlic_version", "proof"}:
        raise InputError(
            f"check: '{path}' has no proof, or refers to data in other files. It is refused.", key="check"
        )
    return model


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Yield all tensors in a protobuf message: initializers, and those in attributes, subgraphs and functions."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


def read_info(model: ModelProto) -> dict[str, Any]:
    """Return the metadata of an exported model."""
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props}


def make_session(model: ModelProto | Path) -> Any:
    """Return a session of ONNX Runtime for a model, or its file, on the CPU, with as many threads as torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def by_digest(references: Iterable[ImageReference]) -> dict[str, ImageReference]:
    """Return images by the sha256 of their bytes."""
    images = list(references)
    return dict(zip(hash_files(images).digests.astype(str).tolist(), images, strict=True))


def proof_entry(
    name: str, digest: str, pixels: np.ndarray, features: np.ndarray, scores: np.ndarray
) -> dict[str, Any]:
    """Return what the proof says about an image.

    Args:
        name: file name.
        digest: sha256 of the file.
        pixels: uint8, resized and cropped.
        features: float32, of which mean and deviation are kept.
        scores: float32 (C,).
    """
    return {
        "name": name,
        "sha256": digest,
        "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "features": [float(features.mean()), float(features.std())],
        "scores": np.round(scores.astype(np.float64), 6).tolist(),
    }


def check_proof(file: str | Path, images: Iterable[ImageReference], folder: str | Path) -> dict[str, float]:
    """Compare the scores of ONNX Runtime for the images of the proof with those of torch.

    Args:
        file: exported model.
        images: images among which are those of the proof, by name and sha256.
        folder: folder for temporary files of the size of the model, so that its weights are in memory only once.

    Returns:
        `images`, their number, and the largest difference of a score: `same_pixels` after the resize of Pillow, and
        `whole_model` from the decoded image.

    Raises:
        InputError: a score in float32 differs by more than 0.001 for the same pixels, or the resize in the model is
            not that of Pillow, the message names the step: preprocessing, backbone or head; or there are no images.
    """
    model, start, rest = read_model(file), Path(folder) / "start.onnx", Path(folder) / "rest.onnx"
    info = read_info(model)
    add_outputs(model)
    onnx.save(model, start)
    add_outputs(model, from_pixels=True)
    onnx.save(model, rest)
    del model
    names = {str(entry["name"]) for entry in info["proof"]}
    files = by_digest(image for image in images if Path(image.name).name in names)
    entries = [entry for entry in info["proof"] if entry["sha256"] in files]
    if not entries:
        raise InputError(
            f"images: none is an image of the proof; expected {', '.join(sorted(names))}.", key="images"
        )
    sources = [open_file(files[entry["sha256"]]) for entry in entries]
    session = make_session(start)
    decoded = [session.run([SCORES, PIXELS], {IMAGES: predict.to_array(source, info)}) for source in sources]
    session = make_session(rest)
    same, whole = [], []
    for entry, source, (scores, own) in zip(entries, sources, decoded, strict=True):
        pixels = _pillow_pixels(source, info)
        features, expected = session.run([FEATURES, SCORES], {PIXELS: pixels})
        found = proof_entry("", "", pixels, features, expected[0])
        same.append(np.abs(np.subtract(found["scores"], entry["scores"])).max())
        whole.append(np.abs(np.subtract(scores[0], entry["scores"])).max())
        is_same = same[-1] <= TOLERANCE or (info["precision"] != "float32" and np.isfinite(same[-1]))
        is_resized = np.abs(own - pixels.astype(np.float32)).mean() <= GREY_LEVELS
        if is_same and is_resized:
            continue
        close = np.allclose(found["features"], entry["features"], rtol=TOLERANCE, atol=TOLERANCE)
        step = "head" if close else "backbone"
        step = step if is_resized and found["pixels"] == entry["pixels"] else "preprocessing"
        raise InputError(
            f"'{entry['name']}': the {step} of the exported model differs from that of the run; scores differ "
            f"by up to {max(same[-1], whole[-1]):.4f}. For the same pixels, at most {TOLERANCE} is rounding."
        )
    return {"images": len(entries), "same_pixels": float(np.max(same)), "whole_model": float(np.max(whole))}


def readable(table: LabelTable) -> LabelTable:
    """Return the images that predict.py can read, which excludes HEIC.

    Raises:
        InputError: there are none.
    """

    def can_read(reference: ImageReference) -> bool:
        with suppress(OSError), Image.open(open_file(reference), formats=predict.FORMATS):
            return True
        return False

    usable = np.array([can_read(path) for path in table.paths()])
    if not usable.any():
        raise InputError(f"part: Pillow alone reads none of the {len(usable)} images. Convert them to JPEG.")
    return table.select(usable)


def open_file(reference: ImageReference) -> Any:
    """Return what Pillow opens: the path of a file, or the content of an image in a tar shard."""
    return reference if isinstance(reference, Path) else BytesIO(read_tar_image(reference))


def _pillow_pixels(source: Any, info: dict[str, Any]) -> np.ndarray:
    """Return the input of the network as predict.py and Pillow prepare it, uint8 (1, 3, H, W), or (1, P) of several."""
    plans = info["preprocessing"]
    images = [predict.resize(predict.read_image(source, info, plan["draft"]), plan) for plan in plans]
    arrays = [np.asarray(image).transpose(2, 0, 1)[None] for image in images]
    return (
        np.concatenate([array.reshape(1, -1) for array in arrays], axis=1) if len(arrays) > 1 else arrays[0]
    )

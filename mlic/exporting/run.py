"""Export of a run: the model, its proof, what it costs in mAP, and its speed."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from mlic.data import LabelTable
from mlic.data.images import ImageReference, open_at_sizes
from mlic.errors import InputError
from mlic.evaluation.bootstrap import Bootstrap, paired_differences
from mlic.evaluation.predictions import Predictions
from mlic.exporting import card
from mlic.inference.classifier import Classifier
from mlic.inference.labelled import read_labelled_set
from mlic.inference.listing import list_images
from mlic.inference.loading import make_head
from mlic.runs.folder import replacing, write_atomically

logger = logging.getLogger(__name__)

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-3  # of scores for the same pixels in float32
LARGEST_LOSS = -0.005  # of mAP; an interval wholly below it is a warning
PROOF_IMAGES, CALIBRATION_IMAGES, SPEED_IMAGES, SPEED_ROUNDS = 16, 100, 8, 5
LARGEST_MODEL = 2**31 - 10**7  # bytes of weights in an ONNX file, a limit of protobuf
PREDICT = Path(__file__).with_name("predict.py")


def check_settings_of_export(config: DictConfig) -> None:
    """Check packages and output before anything is loaded.

    Raises:
        InputError: packages are not installed, settings do not fit each other, or the output is another file.
    """
    if config.format == "onnx" and not all(map(find_spec, ("onnx", "onnxruntime"))):
        raise InputError("mlic.export requires .venv/bin/pip install -e '.[onnx]', or set format=torch.")
    if config.format == "torch" and config.precision == "int8":
        raise InputError("precision=int8 requires format=onnx.", key="precision")
    if config.check:
        return
    for key, least in {"max_images": 1, "seed": 0}.items():
        if config[key] < least:
            raise InputError(f"{key} must be at least {least}, got {config[key]}.", key=key)
    if config.push:
        card.check_repository(config.push)
    output, suffix = Path(config.output), SUFFIXES[config.format]
    if output.suffix != suffix:
        raise InputError(f"output: expected a file name ending in {suffix}, got '{output}'.", key="output")
    marks = {output: b"mlic_version", output.with_suffix(".json"): b"mlic_version"}
    marks |= {output.with_name(PREDICT.name): b"Written by mlic.export"}
    marks |= {output.with_name(card.CARD): b"library_name: mlic"} if config.card or config.push else {}
    for file, mark in marks.items():
        if file.exists() and (file.is_dir() or mark not in file.read_bytes()):
            raise InputError(
                f"output: '{file}' was not written by mlic.export and would be lost. Choose another folder."
            )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"output: '{output.parent}' cannot be a folder ({error}).", key="output") from error


def check_file(config: DictConfig) -> dict[str, Any]:
    """Check an exported model; see `mlic.export.export`."""
    from mlic.exporting.proof import check_proof

    images, _ = list_images(config.images)
    try:
        with TemporaryDirectory() as folder:
            figures = check_proof(config.check, images, folder)
    except InputError:
        raise
    except Exception as error:  # whatever protobuf and ONNX Runtime make of a damaged model
        raise InputError(
            f"check: '{config.check}' cannot be used ({error!r}). Expected a file of mlic.export.",
            key="check",
        ) from error
    _log(figures)
    return figures


def export_run(config: DictConfig) -> dict[str, Any]:
    """Export a run; see `mlic.export.export`."""
    options = {"packages": config.packages, "weights": config.model.backbone.weights}
    classifier = Classifier.load(config.run, device="cpu", precision="float32", **options)
    backbone, saved = classifier.backbone, classifier.saved
    has_card = config.card or config.push
    if has_card and saved.folder is None:
        raise InputError(
            f"card=true: '{saved.checkpoint}' is not in a run folder, which it requires.", key="card"
        )
    for member in backbone.members:
        if getattr(member, "engine", None) == "onnxruntime":  # the scores to compare with are those of torch
            setattr(member, "engine", "torch")  # noqa: B010
            member.optimize_for(classifier.device)
    info = {
        "mlic_version": version("mlic"), "classes": list(classifier.classes),
        # infinity, of a guarantee that cannot be given, is not JSON; no score exceeds 1
        "thresholds": np.minimum(classifier.choose_thresholds(config.thresholds), 1).tolist(),
        "weights": backbone.weights_tag, "weights_digest": backbone.weights_digest,
        "weights_license": backbone.weights_license, "split_hash": saved.split_hash,
        "precision": config.precision, "resize": config.resize if config.format == "onnx" else "outside",
        "bits_stored": classifier.bits_stored,
    }  # fmt: skip
    head = make_head(saved, backbone.feature_shape, classifier.packages)
    whole = nn.Sequential(backbone, head, nn.Sigmoid()).eval()
    export = _export_onnx if config.format == "onnx" else _export_torch
    with torch.no_grad():
        report = {**info, **export(config, classifier, whole, info)}
    _log(report["figures"])
    output = Path(config.output)
    files = [output.with_suffix(".json"), output, saved.checkpoint]
    write_atomically(files[0], json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if config.format == "onnx":
        files.append(output.with_name(PREDICT.name))
        write_atomically(files[-1], PREDICT.read_text(encoding="utf-8"))
    logger.info("written to: %s", output)
    if has_card:
        files.append(card.write_card(saved, report, output))
    if config.push:
        card.push_files(config.push, files)
        logger.info("uploaded to: %s", config.push)
    return report


def _export_onnx(
    config: DictConfig, classifier: Classifier, whole: nn.Sequential, info: dict[str, Any]
) -> dict[str, Any]:
    from onnx import save

    from mlic.exporting import graph
    from mlic.exporting.proof import by_digest, check_proof, make_session, proof_entry, readable

    size = sum(tensor.numel() * tensor.element_size() for tensor in {*whole.parameters(), *whole.buffers()})
    if size > LARGEST_MODEL:
        raise InputError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file at most 2. Set format=torch."
        )
    backbone, scorer, resize = classifier.backbone, whole[1:], config.resize == "graph"
    plans = graph.preprocessing_of(backbone, reduced=classifier.draft_size is not None)
    if not resize and len(plans) > 1:
        raise InputError("resize=outside: an ensemble has several sizes. Set resize=graph.", key="resize")
    table = readable(_choose_images(classifier, config, config.part, config.max_images))
    files = by_digest(table.paths()[:PROOF_IMAGES])
    pixels = _pixels(classifier, files.values())
    features = backbone(pixels)
    steps = zip(files.items(), pixels.numpy(), features.numpy(), scorer(features).numpy(), strict=True)
    proof = [proof_entry(Path(path.name).name, digest, *arrays) for (digest, path), *arrays in steps]
    outside = ["decoding to upright RGB", *([] if resize else ["resize and crop"])]
    info = {**info, "outside": outside, "preprocessing": plans, "proof": proof}

    last = graph.trace(scorer, features[:2], graph.FEATURES, graph.SCORES)
    networks = {"float32": graph.trace(backbone, pixels[:2], graph.PIXELS, graph.FEATURES)}
    if config.precision == "int8":
        training = _choose_images(classifier, config, "train", CALIBRATION_IMAGES).paths()
        examples = (_pixels(classifier, [path]).numpy() for path in training)
        networks["int8"] = graph.quantize(networks["float32"], examples)
    output, some = Path(config.output), pixels[:SPEED_IMAGES]
    # The weights may have 2 GB: at any time, they are in memory once for torch, and once for ONNX.
    with TemporaryDirectory(dir=output.parent) as folder:
        parts = {name: Path(folder) / f"{name}.onnx" for name in networks}
        for name, part in parts.items():  # the last is the one to export
            network = graph.join(networks.pop(name), last)
            save(network, part)
        model = graph.build_graph(network, plans, info, resize=resize)
        del network, last
        save(model, whole_file := Path(folder) / "whole.onnx")
        del model
        figures = check_proof(whole_file, files.values(), folder)
        figures |= _compare(classifier, make_session(whole_file), info, table)
        engines: dict[str, Callable[[], Any]] = {"torch": partial(whole, some)}
        for name, part in parts.items():
            engines[f"ONNX {name}"] = partial(make_session(part).run, None, {graph.PIXELS: some.numpy()})
        figures |= _speeds(engines, len(some))
        whole_file.replace(output)
    return {**info, "figures": figures}


def _export_torch(
    config: DictConfig, classifier: Classifier, whole: nn.Sequential, info: dict[str, Any]
) -> dict[str, Any]:
    """Write a program of torch.export from resized pixels to scores, which torch loads without mlic."""
    table = _choose_images(classifier, config, config.part, min(PROOF_IMAGES, config.max_images))
    pixels, stream = _pixels(classifier, table.paths()), BytesIO()
    # torch.export would fix the number of images if it were 1
    example = torch.cat([pixels, pixels])[:PROOF_IMAGES]
    program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
    torch.export.save(program, stream, extra_files={"info.json": json.dumps(info)})
    difference = float((torch.export.load(stream).module()(pixels) - whole(pixels)).abs().max())
    if not difference <= TOLERANCE:  # or NaN
        raise InputError(f"the program of torch.export gives other scores, by up to {difference:.4f}.")
    with replacing(Path(config.output)) as file:
        file.write(stream.getvalue())
    return {"figures": {"images": len(pixels), "same_pixels": difference}}


def _choose_images(classifier: Classifier, config: DictConfig, part: str, number: int) -> LabelTable:
    """Return labelled images of a part of the run, at most `number` of them, chosen at random."""
    table = read_labelled_set(classifier.saved, config.get("data"), part).table
    return table.select(np.sort(np.random.default_rng(config.seed).permutation(len(table))[:number]))


def _pixels(classifier: Classifier, references: Iterable[ImageReference]) -> Tensor:
    """Return the input of the backbone for some images, uint8 (B, ...)."""
    images = [open_at_sizes(path, classifier.draft_size, classifier.bits_stored) for path in references]
    return torch.from_numpy(np.stack([classifier.backbone.transform(image) for image in images]))


def _compare(classifier: Classifier, session: Any, info: dict[str, Any], table: LabelTable) -> dict[str, Any]:
    """Compare ONNX Runtime, from the decoded image, with torch on labelled images."""
    from mlic.exporting.predict import to_array
    from mlic.exporting.proof import open_file

    expected = np.concatenate([batch.scores for batch in classifier.stream(table.paths(), num_workers=0)])
    usable = np.flatnonzero(np.isfinite(expected).all(axis=1))
    table, expected = table.select(usable), expected[usable]
    arrays = (to_array(open_file(path), info) for path in table.paths())
    found = np.concatenate([session.run(None, {"images": array})[0] for array in arrays])
    columns = [classifier.classes.index(name) for name in table.classes]
    runs = {}
    for name, scores in (("exported", found), ("torch", expected)):
        predictions = Predictions(table.file_names, scores[:, columns], table.labels, table.classes)
        runs[name] = Bootstrap(predictions, names=["map"])
    change, gaps = paired_differences(runs, "map")[0], np.abs(found - expected)
    if change.high < LARGEST_LOSS:
        logger.warning("the exported model loses mAP: the interval is below %s", LARGEST_LOSS)
    return {
        "test_images": len(table),
        "largest_difference": float(gaps.max()),
        "share_above_0.001": float((gaps > TOLERANCE).mean()),
        **{f"map_{name}": run.estimates["map"] for name, run in runs.items()},
        "map_change": change.estimate,
        "map_change_low": change.low,
        "map_change_high": change.high,
    }


def _speeds(engines: Mapping[str, Callable[[], Any]], images: int) -> dict[str, float]:
    """Return images/s without decoding and resize, timed in turns; the least time is the least disturbed one."""
    seconds = dict.fromkeys(engines, np.inf)
    for name, compute in list(engines.items()) * SPEED_ROUNDS:
        start = time.perf_counter()
        compute()
        seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {f"images_per_second {name}": round(images / least, 1) for name, least in seconds.items()}


def _log(figures: Mapping[str, Any]) -> None:
    logger.info("proof, and comparison with torch:\n%s", pd.Series(figures).map("{:.4g}".format).to_string())

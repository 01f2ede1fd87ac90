"""Export of a run: the model, its proof, what it costs in mAP, and its speed."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mlic.data import LabelTable
from mlic.data.images import ImageReference, open_at_sizes
from mlic.errors import InputError
from mlic.evaluation.bootstrap import Bootstrap, paired_differences
from mlic.evaluation.predictions import Predictions
from mlic.features.hashing import hash_files
from mlic.inference.classifier import Classifier
from mlic.inference.labelled import read_labelled_set
from mlic.inference.listing import list_images
from mlic.inference.loading import make_head
from mlic.runs.folder import replacing, write_atomically

logger = logging.getLogger(__name__)

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
LARGEST_LOSS = -0.005  # of mAP; an interval wholly below it is a warning
PROOF_IMAGES, CALIBRATION_IMAGES, SPEED_IMAGES, SPEED_ROUNDS = 16, 100, 8, 5
LARGEST_MODEL = 2**31 - 10**7  # bytes of weights in an ONNX file, a limit of protobuf
CARD = "README.md"
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
    output, suffix = Path(config.output), SUFFIXES[config.format]
    if output.suffix != suffix:
        raise InputError(f"output: expected a file name ending in {suffix}, got '{output}'.", key="output")
    marks = {output: b"mlic_version", output.with_suffix(".json"): b"mlic_version"}
    marks |= {output.with_name(PREDICT.name): b"Written by mlic.export"}
    marks |= {output.with_name(CARD): b"library_name: mlic"} if config.card or config.push else {}
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
    from mlic.exporting.proof import check_proof, read_info, read_model

    model = read_model(config.check)
    plain = cast("dict[str, Any]", OmegaConf.to_container(config))
    listed = zip(*list_images(plain["images"]), strict=True)
    try:
        names = {str(entry["name"]) for entry in read_info(model)["proof"]}
        files = _by_digest([path for path, name in listed if Path(name).name in names])
        figures = check_proof(model, files)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged model makes of ONNX Runtime
        raise InputError(f"check: '{config.check}' cannot be used ({error!r}).", key="check") from error
    if not figures["images"]:
        raise InputError(
            f"images: no image of the proof is in '{config.images}'; expected {', '.join(sorted(names))}."
        )
    return _log_proof(figures)


def export_run(config: DictConfig) -> dict[str, Any]:
    """Export a run; see `mlic.export.export`."""
    options = {"packages": config.packages, "weights": config.model.backbone.weights}
    classifier = Classifier.load(config.run, device="cpu", precision="float32", **options)
    for member in classifier.backbone.members:
        if getattr(member, "engine", None) == "onnxruntime":  # the scores to compare with are those of torch
            setattr(member, "engine", "torch")  # noqa: B010
            member.optimize_for(classifier.device)
    backbone, plain = classifier.backbone, cast("dict[str, Any]", OmegaConf.to_container(config))
    info = {
        "mlic_version": version("mlic"), "classes": list(classifier.classes),
        # infinity, of a guarantee that cannot be given, is not JSON; no score exceeds 1
        "thresholds": np.minimum(classifier.choose_thresholds(plain["thresholds"]), 1).tolist(),
        "weights": backbone.weights_tag, "weights_digest": backbone.weights_digest,
        "weights_license": backbone.weights_license, "split_hash": classifier.saved.split_hash,
        "precision": config.precision, "resize": config.resize if config.format == "onnx" else "outside",
        "bits_stored": classifier.bits_stored,
    }  # fmt: skip
    table = _choose_images(classifier, config, config.part, config.max_images)
    export = _export_onnx if config.format == "onnx" else _export_torch
    with torch.no_grad():
        report = {**info, **export(config, classifier, table, info)}
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_atomically(Path(config.output).with_suffix(".json"), text)
    logger.info("written to: %s", config.output)
    if config.card or config.push:
        _publish(config, classifier, report)
    return report


def _publish(config: DictConfig, classifier: Classifier, report: Mapping[str, Any]) -> None:
    """Write the model card, and upload it with the checkpoint and the files of the export."""
    from mlic.exporting.card import push_files, write_card

    saved, output = classifier.saved, Path(config.output)
    files = [write_card(saved, report, output), output, output.with_suffix(".json"), saved.checkpoint]
    files += [output.with_name(PREDICT.name)] if config.format == "onnx" else []
    if config.push:
        push_files(config.push, files)
        logger.info("uploaded to: %s", config.push)


def _export_onnx(
    config: DictConfig, classifier: Classifier, table: LabelTable, info: Mapping[str, Any]
) -> dict[str, Any]:
    from onnx import compose

    from mlic.exporting import graph
    from mlic.exporting.proof import check_proof, make_session, proof_entry, readable

    table = readable(table)
    backbone, paths, resize = classifier.backbone, table.paths(), config.resize == "graph"
    plans = graph.preprocessing_of(backbone, reduced=classifier.draft_size is not None)
    if not resize and len(plans) > 1:
        raise InputError(
            "resize=outside: an ensemble has several sizes of input. Set resize=graph.", key="resize"
        )
    files = _by_digest(paths[:PROOF_IMAGES])
    pixels = _pixels(classifier, list(files.values()))
    features, scores = backbone(pixels), torch.sigmoid(classifier.logits(classifier.inputs(pixels)))
    names = [Path(getattr(path, "name", "")).name for path in files.values()]
    columns = zip(names, files, pixels.numpy(), features.numpy(), scores.numpy(), strict=True)
    outside = ["decoding to upright RGB", *([] if resize else ["resize and crop"])]
    proof = [proof_entry(*row) for row in columns]
    info = {**info, "outside": outside, "preprocessing": plans, "proof": proof}

    _check_size(backbone, classifier.head)
    head = torch.nn.Sequential(
        make_head(classifier.saved, backbone.feature_shape, classifier.packages), torch.nn.Sigmoid()
    )
    networks = {"float32": graph.trace(backbone, pixels[:2], graph.PIXELS, graph.FEATURES)}
    scorer = graph.trace(head, features[:2], graph.FEATURES, graph.SCORES)
    if config.precision == "int8":
        training = _choose_images(classifier, config, "train", CALIBRATION_IMAGES).paths()
        examples = (_pixels(classifier, [path]).numpy() for path in training)
        networks["int8"] = graph.quantize(networks["float32"], examples)
    sessions, output = {}, Path(config.output)
    # the last is the one to write; several copies of a network of 1 GB would not fit in memory
    for name in list(networks):
        join = [(graph.FEATURES, graph.FEATURES)]
        network = compose.merge_models(networks.pop(name), scorer, io_map=join)
        sessions[name] = make_session(network)
    model = graph.build_graph(network, plans, info, resize=resize)
    del network
    content = model.SerializeToString()
    figures = _log_proof(check_proof(model, files))
    del model
    figures |= _compare(classifier, make_session(content), info, table)
    some = pixels[:SPEED_IMAGES]
    engines: dict[str, Callable[[], Any]] = {
        f"ONNX Runtime {name}": partial(session.run, None, {graph.PIXELS: some.numpy()})
        for name, session in sessions.items()
    }
    engines["torch"] = lambda: classifier.logits(classifier.inputs(some))
    figures["images_per_second"] = _speeds(engines, len(some))
    with replacing(output) as file:
        file.write(content)
    write_atomically(output.with_name(PREDICT.name), PREDICT.read_text(encoding="utf-8"))
    return {**info, "figures": figures}


def _check_size(*modules: torch.nn.Module) -> None:
    tensors = {tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > LARGEST_MODEL:
        raise InputError(
            f"the weights have {size / 1e9:.1f} GB, and an ONNX file at most 2. Set format=torch."
        )


def _export_torch(
    config: DictConfig, classifier: Classifier, table: LabelTable, info: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a program of torch.export from resized pixels to scores, which torch loads without mlic."""
    head = make_head(classifier.saved, classifier.backbone.feature_shape, classifier.packages)
    whole = torch.nn.Sequential(classifier.backbone, head, torch.nn.Sigmoid()).eval()
    pixels = _pixels(classifier, table.paths()[:PROOF_IMAGES])
    # torch.export would fix the number of images if it were 1
    example = torch.cat([pixels, pixels])[:PROOF_IMAGES]
    program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
    stream = BytesIO()
    torch.export.save(program, stream, extra_files={"info.json": json.dumps(info)})
    difference = float((torch.export.load(stream).module()(pixels) - whole(pixels)).abs().max())
    if not difference <= 1e-3:  # or NaN
        raise InputError(f"the program of torch.export gives other scores, by up to {difference:.4f}.")
    with replacing(Path(config.output)) as file:
        file.write(stream.getvalue())
    return {
        "figures": _log_proof({"images": len(pixels), "same_pixels": difference, "whole_model": difference})
    }


def _choose_images(classifier: Classifier, config: DictConfig, part: str, number: int) -> LabelTable:
    """Return labelled images of a part of the run, at most `number` of them, chosen at random."""
    table = read_labelled_set(classifier.saved, config.get("data"), part).table
    return table.select(np.sort(np.random.default_rng(config.seed).permutation(len(table))[:number]))


def _by_digest(references: Sequence[ImageReference]) -> dict[str, ImageReference]:
    return dict(zip(hash_files(references).digests.astype(str).tolist(), references, strict=True))


def _pixels(classifier: Classifier, references: Sequence[ImageReference]) -> Tensor:
    """Return the input of the backbone for some images, uint8 (B, ...)."""
    images = [open_at_sizes(path, classifier.draft_size, classifier.bits_stored) for path in references]
    return torch.from_numpy(np.stack([classifier.backbone.transform(image) for image in images]))


def _compare(
    classifier: Classifier, session: Any, info: Mapping[str, Any], table: LabelTable
) -> dict[str, Any]:
    """Compare ONNX Runtime, from the decoded image, with torch on labelled images."""
    from mlic.exporting.predict import to_array
    from mlic.exporting.proof import open_file

    expected = np.concatenate([batch.scores for batch in classifier.stream(table.paths(), num_workers=0)])
    usable = np.flatnonzero(np.isfinite(expected).all(axis=1))
    table, expected = table.select(usable), expected[usable]
    found = [session.run(None, {"images": to_array(open_file(path), info)})[0] for path in table.paths()]
    scores = {"exported": np.concatenate(found), "torch": expected}
    columns = [classifier.classes.index(name) for name in table.classes]
    runs = {
        name: Bootstrap(
            Predictions(table.file_names, own[:, columns], table.labels, table.classes), names=["map"]
        )
        for name, own in scores.items()
    }
    change, gaps = paired_differences(runs, "map")[0], np.abs(scores["exported"] - scores["torch"])
    figures = {
        "test_images": len(table),
        "largest_difference": float(gaps.max()),
        "above": float((gaps > 1e-3).mean()),
    }
    figures |= {f"map_{name}": run.estimates["map"] for name, run in runs.items()}
    figures |= {"map_change": change.estimate, "map_change_low": change.low, "map_change_high": change.high}
    logger.info(
        "%(test_images)d images: largest difference of a score %(largest_difference).4f, share above 0.001 %(above).3f"
        "; mAP %(map_exported).4f, with torch %(map_torch).4f: change %(map_change)+.4f, 95 %% interval "
        "%(map_change_low)+.4f to %(map_change_high)+.4f",
        figures,
    )
    if change.high < LARGEST_LOSS:
        logger.warning("the exported model loses mAP: the interval is below %s", LARGEST_LOSS)
    return figures


def _speeds(engines: Mapping[str, Callable[[], Any]], images: int) -> dict[str, float]:
    """Return images/s of each engine, timed in turns; the least time is the one that other programs disturbed least."""
    seconds = dict.fromkeys(engines, np.inf)
    for name, compute in list(engines.items()) * SPEED_ROUNDS:
        start = time.perf_counter()
        compute()
        seconds[name] = min(seconds[name], time.perf_counter() - start)
    speeds = {name: round(images / least, 1) for name, least in seconds.items()}
    logger.info(
        "images/s without decoding and resize: %s", ", ".join(f"{name} {n}" for name, n in speeds.items())
    )
    return speeds


def _log_proof(figures: dict[str, Any]) -> dict[str, Any]:
    logger.info(
        "proof: %d images, largest difference of a score %.1e for the same pixels, %.1e from the decoded image",
        *figures.values(),
    )
    return figures

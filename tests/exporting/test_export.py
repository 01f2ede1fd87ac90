import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import DictConfig
from onnx import helper
from onnx.external_data_helper import set_external_data
from PIL import Image

from mlic import models
from mlic.config import compose
from mlic.errors import InputError
from mlic.export import export
from mlic.exporting.graph import FEATURES, PIXELS, SCORES, build_graph, join, preprocessing_of, trace
from mlic.exporting.proof import make_session, read_info, read_model
from mlic.inference.classifier import Classifier
from mlic.models import EnsembleBackbone, FrozenBackbone

CPU = torch.device("cpu")
Exported = tuple[Path, dict[str, Any]]


def config_of(*overrides: str, output: Path) -> DictConfig:
    return compose(*overrides, output=output, config_name="export")


def check(model: Path, images: Path) -> dict[str, Any]:
    return export(config_of(f"check='{model}'", f"images='{images}'", output=model))


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """(model.onnx, report) of the small run; do not write to it."""
    output = tmp_path_factory.mktemp("exported") / "model.onnx"
    return output, export(config_of(f"run='{tiny_run}'", output=output))


@pytest.fixture(scope="module")
def backbones() -> dict[str, Any]:
    """Small random networks: a convolutional one, a transformer, and both side by side."""
    torch.manual_seed(0)
    common = {"pretrained": False, "precision": "float32"}
    both = [{"name": "test_vit", "mirror": True}, {"name": "test_efficientnet", "image_size": 64}]
    made = {
        f"{name} {pool}": FrozenBackbone(name, pool=pool, mirror=pool == "grid7", image_size=size, **common)
        for name, size in (("test_efficientnet", 320), ("test_vit", None))
        for pool in ("auto", "none", "grid7", "flatten")
    }
    made["ensemble"] = EnsembleBackbone(both, **common)  # pyright: ignore[reportAssignmentType, reportArgumentType]
    return {name: backbone.optimize_for(CPU) for name, backbone in made.items()}


def test_the_export_proves_itself(exported: Exported, tiny_run: Path, tiny_images: Path):
    output, report = exported
    assert sorted(path.name for path in output.parent.iterdir()) == ["model.json", "model.onnx", "predict.py"]
    assert report["figures"]["same_pixels"] < 1e-5 and report["figures"]["largest_difference"] < 1e-3
    assert report["figures"]["map_change_low"] <= 0 <= report["figures"]["map_change_high"]
    assert json.loads(output.with_suffix(".json").read_text())["proof"] == report["proof"]
    figures = check(output, tiny_images)
    assert figures["images"] == len(report["proof"]) == 12 and figures["same_pixels"] < 1e-5
    info, classifier = read_info(read_model(output)), Classifier.load(tiny_run, device="cpu")
    assert info["classes"] == list(classifier.classes) and classifier.thresholds is not None
    assert info["thresholds"] == classifier.thresholds.tolist()
    assert info["split_hash"] == classifier.saved.split_hash


def test_the_check_names_the_step_that_differs(exported: Exported, tiny_images: Path, tmp_path: Path):
    for operator, factor, step in (
        ("Conv", 5, "backbone"), ("Gemm", 5, "head"), ("Gemm", np.nan, "head"), ("Resize", 0, "preprocessing")
    ):  # fmt: skip
        model = onnx.load(exported[0])
        node = [node for node in model.graph.node if node.op_type == operator][-1]
        if operator == "Resize":
            kept = [attribute for attribute in node.attribute if attribute.name == "mode"]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute[0].s = b"nearest"
        else:
            weight = next(each for each in model.graph.initializer if each.name == node.input[1])
            changed = np.float32(factor) * onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
        onnx.save(model, tmp_path / "changed.onnx")
        with pytest.raises(InputError, match=f"the {step} of the exported model differs"):
            check(tmp_path / "changed.onnx", tiny_images)


def test_a_received_model_opens_no_other_file(exported: Exported, tiny_images: Path, tmp_path: Path):
    secret, file = tmp_path / "secret", tmp_path / "received.onnx"
    secret.write_bytes(bytes(64))
    model = onnx.load(exported[0])
    tensor = onnx.TensorProto(name="t", data_type=onnx.TensorProto.FLOAT, dims=[16], raw_data=bytes(64))
    set_external_data(tensor, location="secret")
    # deep in the file: a constant in a branch of a condition
    constant = helper.make_node("Constant", [], ["inner"], value=tensor)
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("inner", 1, [16])])
    condition = helper.make_node("If", ["c"], ["unused"], then_branch=branch, else_branch=branch)
    model.graph.node.append(condition)
    without, damaged = onnx.load(exported[0]), onnx.load(exported[0])
    helper.set_model_props(without, {"mlic_version": '"1"'})
    helper.set_model_props(damaged, {"mlic_version": '"1"', "proof": "[1]"})
    contents = [each.SerializeToString() for each in (model, without, damaged)]
    refused, unusable = "has no proof, or refers to data in other files", "cannot be used"
    for content, message in zip(
        [*contents, b"no model"], [refused, refused, unusable, unusable], strict=True
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            check(file, tiny_images)


MAP_HEADS = (models.CSRAHead, models.AttentionHead)
HEADS = (models.DenseHead, models.RidgeHead, models.BlendHead, models.NearestHead, *MAP_HEADS)


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_on_every_kind_of_features_gives_the_same_scores(kind: Any, backbones: dict[str, Any]):
    for name, backbone in backbones.items():
        is_map = len(backbone.feature_shape) == 3
        if is_map != (kind in MAP_HEADS) or (kind is not models.DenseHead and "flatten" in name):
            continue
        one = torch.from_numpy(backbone.transform(Image.new("RGB", (64, 64))))
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (3, *one.shape), dtype=torch.uint8, generator=random)
        head: Any = kind(backbone.feature_shape, 5)
        with torch.no_grad():
            features = backbone(pixels)
            if hasattr(head, "fit_closed_form"):
                labels = np.eye(5, dtype=np.int8)[np.arange(20) % 5]
                rows = torch.randn(20, *backbone.feature_shape, generator=random)
                head.fit_closed_form(rows.__getitem__, labels)
            whole = torch.nn.Sequential(head, torch.nn.Sigmoid()).eval()
            expected = whole(features).numpy()
        first = trace(backbone, pixels[:2], PIXELS, FEATURES)
        session = make_session(join(first, trace(whole, features[:2], FEATURES, SCORES)))
        found = session.run(None, {PIXELS: pixels.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)


class Same(torch.nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + 0


@pytest.mark.parametrize("size", [(640, 427), (333, 500), (64, 64), (61, 90), (1000, 30)])
def test_the_resize_in_the_graph_is_that_of_pillow(size: tuple[int, int], backbones: dict[str, Any]):
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    photo = small.resize(size, Image.Resampling.BICUBIC)
    for name in ("test_efficientnet auto", "test_vit auto", "ensemble"):
        backbone = backbones[name]
        expected = backbone.transform(photo).astype(int)
        plans = preprocessing_of(backbone, reduced=False)
        example = torch.zeros(2, *expected.shape, dtype=torch.uint8)
        first, last = trace(Same(), example, PIXELS, FEATURES), trace(Same(), example, FEATURES, SCORES)
        session = make_session(build_graph(join(first, last), plans, {}, resize=True))
        found = session.run(None, {"images": np.stack([np.asarray(photo)] * 2)})[0]
        assert found.shape == (2, *expected.shape)
        gaps = np.abs(found[1].astype(int) - expected)
        assert gaps.max() <= 3 and gaps.mean() < 0.05, f"{name} {size}"


@pytest.mark.slow
def test_int8_has_the_same_proof_and_its_cost_is_measured(tiny_run: Path, tmp_path: Path):
    figures = export(config_of(f"run='{tiny_run}'", "precision=int8", output=tmp_path / "model.onnx"))[
        "figures"
    ]
    engines = ("torch", "ONNX float32", "ONNX int8")
    assert {f"images_per_second {engine}" for engine in engines} <= figures.keys()
    assert 1e-5 < figures["same_pixels"] < 0.5
    model = onnx.load(tmp_path / "model.onnx")
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}


@pytest.mark.slow
def test_a_program_of_torch_export_needs_torch_alone(
    make_run: Callable[..., Path], tmp_path: Path, tiny_images: Path
):
    live_run, output = make_run("features=live", "trainer.max_epochs=1"), tmp_path / "model.pt2"
    report = export(config_of(f"run='{live_run}'", "format=torch", "max_images=1", output=output))
    assert report["figures"]["images"] == 1 and report["figures"]["same_pixels"] < 1e-5
    classifier = Classifier.load(live_run, device="cpu")
    paths = sorted(tiny_images.iterdir())[:2]
    pixels = [classifier.backbone.transform(Image.open(path)) for path in paths]
    np.save(tmp_path / "pixels.npy", np.stack(pixels))
    program = (
        "import sys, numpy, torch\n"
        "model = torch.export.load('model.pt2').module()\n"
        "numpy.save('scores.npy', model(torch.from_numpy(numpy.load('pixels.npy'))).detach().numpy())\n"
        "assert not {'mlic', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    expected = next(classifier.stream(paths, num_workers=0)).scores
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), expected, atol=1e-5)


def test_what_cannot_be_exported_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "model.onnx"
    other.write_text("of someone else")
    cases = {
        "was not written by mlic.export": config_of("run=x", output=other),
        "ending in .onnx": config_of("run=x", output=tmp_path / "model.pt2"),
        "int8 requires format=onnx": config_of("run=x", "format=torch", "precision=int8", output=other),
        "run is missing": config_of(output=other),
        "max_images must be at least 1": config_of("run=x", "max_images=0", output=other),
        "cannot be a folder": config_of("run=x", output=other / "new.onnx"),
        "push: expected <user>/<name>": config_of("run=x", "push=my models/x", output=tmp_path / "new.onnx"),
    }
    for message, config in cases.items():
        with pytest.raises(InputError, match=message):
            export(config)
    other.unlink()
    (tmp_path / "README.md").write_text("Our project uses mlic.")
    with pytest.raises(InputError, match=r"README\.md' was not written by mlic.export"):
        export(config_of("run=x", "card=true", output=other))
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    monkeypatch.setattr("mlic.exporting.run.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"requires .*'\.\[onnx\]'"):
        export(config_of("run=x", output=tmp_path / "new.onnx"))


def test_the_card_and_the_files_are_uploaded_by_one_commit(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[Any] = []

    class Hub:
        def create_repo(self, name: str, **options: Any) -> None:
            calls.append((name, options))

        def create_commit(self, name: str, operations: list[Any], **options: Any) -> None:
            calls.append((name, {each.path_in_repo: Path(each.path_or_fileobj) for each in operations}))

    monkeypatch.setattr("mlic.exporting.card.HfApi", Hub)
    limits = json.loads((tiny_run / "thresholds.json").read_text())
    limits["per_class"]["circle"] = None  # a guarantee that cannot be given
    (tmp_path / "limits.json").write_text(json.dumps(limits))
    settings = (
        f"run='{tiny_run}'", "push=me/shapes", "max_images=4", f"thresholds='{tmp_path / 'limits.json'}'",
    )  # fmt: skip
    export(config_of(*settings, output=tmp_path / "model.onnx"))
    (created, options), (name, files) = calls
    assert created == name == "me/shapes" and options["private"]
    assert set(files) == {"README.md", "best.ckpt", "model.json", "model.onnx", "predict.py"}
    report = files["model.json"].read_text()
    assert json.loads(report)["thresholds"][json.loads(report)["classes"].index("circle")] == 1
    assert "Infinity" not in report  # no JSON
    card: Any = ModelCard.load(files["README.md"])
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    assert card.data.eval_results[0].metric_value == pytest.approx(metrics["test"]["map"], abs=1e-4)
    counts = json.loads((tiny_run / "dataset.json").read_text())["counts"]
    assert f"| circle | {counts['train']['circle']} | {counts['test']['circle']} | " in card.text
    monkeypatch.setattr(Hub, "create_repo", lambda self, name, **options: 1 / 0)
    with pytest.raises(InputError, match="not uploaded"):
        export(config_of(*settings, output=tmp_path / "model.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["graph", "outside"])
def test_predict_py_gives_the_scores_of_the_run_with_three_packages(
    resize: str, tiny_run: Path, tiny_images: Path, plain_python: Path, tmp_path: Path
):
    folder, photos = tmp_path / "model", tmp_path / "photos"
    export(config_of(f"run='{tiny_run}'", f"resize={resize}", output=folder / "model.onnx"))
    photos.mkdir()
    Image.open(tiny_images / "shapes_01.jpg").rotate(90).resize((99, 64)).save(
        photos / "=1+1.jpg", exif=turned()
    )
    Image.open(tiny_images / "shapes_02.jpg").convert("RGBA").save(photos / "a.png")
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(deep).save(photos / "deep.png")
    Image.fromarray(deep / np.float32(65535)).save(photos / "float.tif")
    (photos / "photo.heic").write_bytes(b"not readable without mlic[heif]")
    (photos / ".hidden.jpg").write_bytes((tiny_images / "shapes_01.jpg").read_bytes())
    (photos / "z.jpg").write_bytes(b"broken")
    model, found = [plain_python, folder / "predict.py", folder / "model.onnx"], tmp_path / "found.csv"
    for given, shown in ((photos / "a.png", ""), (photos, "z.jpg")):
        command = list(map(str, [*model, given, found]))
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
        assert done.returncode == bool(shown) and shown in done.stderr, done.stdout + done.stderr
        assert "\na.png," in found.read_text()
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = Classifier.load(tiny_run, device="cpu").predict(photos, num_workers=0)
    assert [row["file_name"].lstrip("'") for row in rows] == table["file_name"].tolist()
    assert [row["file_name"] for row in rows if row["error"]] == ["float.tif", "photo.heic", "z.jpg"]
    for row, (_, expected) in zip(rows, table.iterrows(), strict=True):
        assert bool(row["error"]) == bool(expected["error"]) and row["labels"] == expected["labels"]
        if row["error"]:
            continue
        for name in ("circle", "square"):
            assert float(row[f"score:{name}"]) == pytest.approx(expected[f"score:{name}"], abs=1e-3)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with numpy, Pillow and onnxruntime alone; skips where they cannot be downloaded."""
    folder = tmp_path_factory.mktemp("plain") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    install = [*uv, "pip", "install", "-q", "--python", folder / "bin" / "python"]
    packages = ["numpy", "pillow", "onnxruntime"]
    done = subprocess.run([*map(str, install), *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"packages cannot be installed: {done.stderr[-200:]}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"numpy, Pillow and onnxruntime: {size / 1e6:.0f} MB")
    assert size < 500e6
    return folder / "bin" / "python"

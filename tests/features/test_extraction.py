"""Extraction computes exactly the rows that are missing, stores what the backbone gives, and serves it."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mlic.errors import InputError
from mlic.features import extraction, predicting, source
from mlic.features.dataset import MemoryRows, StreamedRows
from mlic.features.extraction import ExtractionResult, extract_features
from mlic.features.source import CachedFeatures
from mlic.models import EnsembleBackbone, FrozenBackbone

Extract = Callable[..., ExtractionResult]
SETTINGS: dict[str, Any] = {"batch_size": 4, "num_workers": 0, "trainer": {"accelerator": "cpu"}}


@pytest.fixture
def extract(tmp_path: Path) -> Extract:
    """Extracts into one folder, in this process, with small batches."""

    def run(backbone: Any, paths: list[Path], **options: Any) -> ExtractionResult:
        return extract_features(backbone, paths, directory=tmp_path / "features", **SETTINGS | options)

    return run


@pytest.fixture
def make_source(tmp_path: Path, images: list[Path]) -> Callable[..., CachedFeatures]:
    """Makes the features of the images."""

    def make(backbone: Any, **options: Any) -> CachedFeatures:
        made = CachedFeatures(backbone, directory=tmp_path / "features", **SETTINGS | options)
        made.extract(images)
        return made

    return make


def _expected(backbone: Any, paths: list[Path]) -> Tensor:
    pixels = [torch.from_numpy(backbone.transform(Image.open(path).convert("RGB")).copy()) for path in paths]
    return backbone(torch.stack(pixels)).half()


def test_engine_and_time_are_found_before_many_images_are_computed(
    extract, images, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(predicting, "MEASURED_FROM", 7)
    monkeypatch.setattr(extraction, "ESTIMATE_ROWS", 7)
    caplog.set_level(logging.INFO)
    own = FrozenBackbone("test_efficientnet", pretrained=False, precision="float32", image_size=64)
    extract(own, images[:3])
    assert any(re.search(r" 0 rows found, 3 to compute; .* that are free", line) for line in caplog.messages)
    assert extract(own, images).computed == 7
    choice = json.loads((tmp_path / "features" / predicting.ENGINES_FILE).read_text())
    assert list(choice.values()) == [own.engine]
    expected = r" 3 rows found, 7 to compute at about \S+ images/s, 0:00:\d\d \(h:mm:ss\); .* that are free"
    assert any(re.search(expected, line) for line in caplog.messages)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_what_the_backbone_gives(extract, backbone, images, num_workers, caplog):
    caplog.set_level(logging.INFO)
    result = extract(backbone, images, num_workers=num_workers, batch_size=1)
    assert (result.found, result.computed, result.bad) == (0, 10, {})
    rows = result.stores[0].load(result.digests)
    assert rows.dtype == torch.float16
    torch.testing.assert_close(rows, _expected(backbone, images))
    assert result.stores[0].folder.name.startswith("tiny-flatten-float16-identity-")
    lines = [record.message for record in caplog.records if "images/s" in record.message]
    assert len(lines) == 10 and "10 of 10 images" in lines[-1]


def test_one_more_one_changed_one_copied_one_renamed(extract, backbone, images, make_images):
    extract(backbone, images)
    batches, again = backbone.num_batches, extract(backbone, images[::-1])
    assert (again.found, again.computed, backbone.num_batches) == (10, 0, batches)
    more = make_images(images[0].parent, 1, seed=1)
    more_result = extract(backbone, images + more)
    assert (more_result.found, more_result.computed) == (10, 1)
    shutil.copy(make_images(images[0].parent / "other", 1, seed=2)[0], images[3])
    shutil.copy(images[0], images[4])
    changed = extract(backbone, images)
    assert (changed.found, changed.computed) == (8, 1)
    folder = images[0].parent.rename(images[0].parent.parent / "renamed")
    moved = [folder / path.name for path in images]
    renamed = extract(backbone, moved)
    assert (renamed.found, renamed.computed) == (9, 0)
    torch.testing.assert_close(renamed.stores[0].load(renamed.digests), _expected(backbone, moved))


def test_another_backbone_or_decoding_or_dtype_is_another_store(extract, make_backbone, images, monkeypatch):
    variants = ({}, {"draft_size": 16}, {"dtype": "float32"}, {"bits_stored": 10})
    results = [extract(make_backbone(), images, **options) for options in variants]
    results.append(extract(make_backbone(scale=2.0), images))
    assert [result.computed for result in results] == [10] * 5
    assert len({result.stores[0].folder for result in results}) == 5
    assert extract(make_backbone(), images, bits_stored=16).found == 10
    with pytest.raises(InputError, match=r"features\.batch_size=0: expected a whole number of at least 1"):
        extract(make_backbone(), images, batch_size=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    backbone = make_backbone(scale=3.0)
    with pytest.raises(InputError, match=r"features.dir: 10 rows .* 100 MB free.*model.backbone.pool=avg"):
        extract(backbone, images)
    assert backbone.num_batches == 0


def test_bad_images_are_listed_and_never_stored(extract: Extract, make_backbone: Any, images: list[Path]):
    backbone = make_backbone()
    images[1].write_bytes(images[1].read_bytes()[:200])
    images[4].write_bytes(b"no image")
    missing = images[0].with_name("missing.png")
    transform = backbone.transform

    def slow_transform(image: Image.Image) -> np.ndarray:
        os.utime(images[2], (1, 1))  # while it is read
        return transform(image)

    backbone.transform = slow_transform
    result = extract(backbone, [*images, missing])
    reasons = {1: "truncated", 2: "it changed while it was read", 4: "not an image"}
    assert result.bad.keys() == {missing, *(images[number] for number in reasons)}
    assert all(reason in result.bad[images[number]] for number, reason in reasons.items())
    assert "No such file" in result.bad[missing]
    assert (result.computed, result.stores[0].num_rows) == (7, 7)
    good = [0, 3, 5, 6, 7, 8, 9]
    rows = result.stores[0].load(result.digests[good])
    torch.testing.assert_close(rows, _expected(backbone, [images[number] for number in good]))


def test_rows_beyond_the_range_of_float16_are_float32_by_themselves(
    extract, make_source, make_backbone, images
):
    backbone, large = make_backbone(), [2, 3, 9]
    plain, forward = _expected(backbone, images), backbone.forward

    def enlarge(pixels: Tensor) -> Tensor:
        features = forward(pixels)
        found = torch.cdist(features, plain[large].float()).min(dim=1).values < 0.1
        return torch.where(found[:, None], features * 1e6, features)

    backbone.forward = enlarge
    result = extract(backbone, images)
    assert (result.computed, result.bad) == (10, {})
    store = result.stores[0]
    rows, kept = store.load(result.digests), [0, 1, 4, 5, 6, 7, 8]
    assert rows.dtype == torch.float32
    assert torch.equal(rows[kept], plain[kept].float()), "the others are rounded as ever"
    assert torch.isfinite(rows).all() and rows[large].abs().min(dim=1).values.max() > 65504
    assert store.load(result.digests[kept]).dtype == torch.float16
    assert store.refresh() == [] and store.num_rows == 10
    for memory_gb in (None, 1e-9):
        served = make_source(backbone, memory_gb=memory_gb).dataset(images, np.zeros((10, 1)))
        assert torch.equal(served.__getitems__(range(10))[0], rows)


def test_rows_before_an_error_or_a_signal_are_kept(extract, make_backbone, images):
    backbone = make_backbone()
    forward = backbone.forward

    def fail_late(pixels: Tensor) -> Tensor:
        if backbone.num_batches == 2:
            raise SystemExit("out of order")
        return forward(pixels)

    backbone.forward = fail_late
    with pytest.raises(SystemExit, match="out of order"):
        extract(backbone, images)
    again = extract(make_backbone(), images)
    assert (again.found, again.computed) == (8, 2)
    with pytest.raises(InputError, match=r"features of 10 of 10 images .*_0000\.png'\. Check"):
        extract(make_backbone(scale=float("inf")), images, batch_size=16)


def test_datasets_are_served_from_memory_or_streamed(make_source, backbone, images, monkeypatch):
    images[2].write_bytes(b"")
    good, targets = [path for path in images if path != images[2]][::-1], np.eye(9)
    cached = make_source(backbone)
    assert list(cached.result.bad) == [images[2]]
    stored = cached.result.stores[0].load(cached.result.digests[[9, 0]]).float()
    for memory_gb, kind in ((1.0, MemoryRows), (1e-8, StreamedRows), (None, MemoryRows)):
        cached = make_source(backbone, memory_gb=memory_gb)
        dataset = cached.dataset(good, targets)
        inputs, _, rows = dataset.__getitems__([0, 8])
        assert isinstance(dataset.rows, kind)
        assert torch.equal(inputs, stored) and rows.tolist() == [0, 8]
        assert sorted(cached.training_sampler(np.arange(4), 0)) == [0, 1, 2, 3]
    shutil.rmtree(cached.result.stores[0].folder)
    assert make_source(backbone).result.computed == 9
    # to a device only when they fit there
    assert make_source(backbone, device="meta").dataset(good, targets).targets.device.type == "cpu"
    monkeypatch.setattr(source, "_free_on", lambda device: 1e6)
    assert make_source(backbone, device="meta").dataset(good, targets).targets.device.type == "meta"


def test_an_ensemble_serves_the_stores_of_its_members(make_source, images):
    torch.manual_seed(0)
    members = [{"name": "test_efficientnet", "image_size": 64}, {"name": "test_resnet", "image_size": 96}]
    ensemble = EnsembleBackbone(members, pretrained=False, precision="float32")
    alone = make_source(ensemble.members[1], draft_size=ensemble.resize_size[1])
    together = make_source(ensemble, draft_size=ensemble.resize_size)
    assert (together.result.found, together.result.computed) == (10, 10)
    streamed = make_source(ensemble, draft_size=ensemble.resize_size, memory_gb=1e-8)
    assert (streamed.result.found, streamed.result.computed) == (20, 0)
    served = [made.dataset(images, np.eye(10)) for made in (together, streamed, alone)]
    features, other, expected = (dataset.__getitems__(range(10))[0] for dataset in served)
    assert torch.equal(features, other)
    assert torch.equal(features[:, ensemble.members[0].feature_shape[0] :], expected)

"""Extraction computes exactly the rows that are missing, and stores what the backbone gives."""

import logging
import os
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

from mlic.data.image_dataset import PADDING
from mlic.errors import InputError
from mlic.features import CachedFeatures, ExtractionResult, extract_features
from mlic.features.hashing import state_of
from mlic.features.images import HashedImages, RankSampler
from mlic.models import FrozenBackbone

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def extract(tmp_path: Path) -> Callable[..., ExtractionResult]:
    """Extracts into one folder, in this process, with small batches."""

    def run(backbone: Any, paths: list[Path], **options: Any) -> ExtractionResult:
        settings = {"batch_size": 4, "num_workers": 0, "trainer": {"accelerator": "cpu"}, **options}
        return extract_features(backbone, paths, directory=tmp_path / "features", **settings)

    return run


def _expected(backbone: Any, paths: list[Path]) -> Tensor:
    pixels = [torch.from_numpy(backbone.transform(Image.open(path).convert("RGB")).copy()) for path in paths]
    return backbone(torch.stack(pixels)).half()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_rows_are_what_the_backbone_gives(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path], num_workers: int
):
    result = extract(backbone, images, num_workers=num_workers)
    assert (result.found, result.computed, result.bad) == (0, 10, {})
    rows = result.stores[0].load(result.digests)
    assert rows.dtype == torch.float16
    torch.testing.assert_close(rows, _expected(backbone, images))
    assert result.folder.name.startswith("tiny-flatten-float16-identity-")
    assert result.bytes >= rows.nbytes


def test_a_second_run_computes_nothing(
    extract: Callable[..., ExtractionResult],
    backbone: Any,
    images: list[Path],
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    first = extract(backbone, images)
    assert "0 rows found, 10 to compute from 10 images" in caplog.text
    assert str(first.folder) in caplog.text
    num_batches = backbone.num_batches
    second = extract(backbone, images[::-1])
    assert (second.found, second.computed, backbone.num_batches) == (10, 0, num_batches)
    assert "all 10 rows found" in caplog.text
    assert second.digests.tolist() == first.digests.tolist()[::-1]


def test_one_more_one_changed_one_renamed(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path], make_images: MakeImages
):
    extract(backbone, images)
    (more,) = make_images(images[0].parent, 1, seed=1)
    more_result = extract(backbone, [*images, more])
    assert (more_result.found, more_result.computed) == (10, 1)
    shutil.copy(make_images(images[0].parent / "other", 1, seed=2)[0], images[3])
    changed = extract(backbone, images)
    assert (changed.found, changed.computed) == (9, 1)
    folder = images[0].parent.rename(images[0].parent.parent / "renamed")
    renamed = extract(backbone, [folder / path.name for path in images])
    assert (renamed.found, renamed.computed) == (10, 0)
    torch.testing.assert_close(
        renamed.stores[0].load(renamed.digests), _expected(backbone, [folder / path.name for path in images])
    )


def test_the_same_content_is_computed_once(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path]
):
    copy = images[0].with_name("copy.png")
    shutil.copy(images[0], copy)
    result = extract(backbone, [*images, copy])
    assert (result.computed, result.stores[0].num_rows) == (10, 10)
    rows = result.stores[0].load(result.digests)
    assert torch.equal(rows[0], rows[10])


def test_another_backbone_or_decoding_or_dtype_is_another_store(
    extract: Callable[..., ExtractionResult], make_backbone: Callable[..., Any], images: list[Path]
):
    results = [
        extract(make_backbone(), images),
        extract(make_backbone(scale=2.0), images),
        extract(make_backbone(), images, draft_size=16),
        extract(make_backbone(), images, dtype="float32"),
    ]
    assert [result.computed for result in results] == [10] * 4
    assert len({result.folder for result in results}) == 4


def test_rows_do_not_depend_on_what_shares_the_batch(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path], tmp_path: Path
):
    together = extract(backbone, images)
    rows = together.stores[0].load(together.digests)
    shutil.rmtree(together.folder)
    extract(backbone, images[7:8])
    extract(backbone, images[5:])
    again = extract(backbone, images)
    assert again.computed == 5
    assert torch.equal(again.stores[0].load(again.digests), rows)


def test_bad_images_are_listed_and_never_stored(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path]
):
    images[1].write_bytes(images[1].read_bytes()[:200])
    images[4].write_bytes(b"no image")
    missing = images[0].with_name("missing.png")
    result = extract(backbone, [*images, missing])
    assert set(result.bad) == {images[1], images[4], missing}
    assert "truncated" in result.bad[images[1]]
    assert "not an image" in result.bad[images[4]]
    assert "No such file" in result.bad[missing]
    assert (result.computed, result.stores[0].num_rows) == (8, 8)
    good = [0, 2, 3, 5, 6, 7, 8, 9]
    rows = result.stores[0].load(result.digests[good])
    torch.testing.assert_close(rows, _expected(backbone, [images[number] for number in good]))


def test_an_image_that_changes_while_it_is_read_is_not_stored(
    extract: Callable[..., ExtractionResult], make_backbone: Callable[..., Any], images: list[Path]
):
    backbone = make_backbone()
    transform = backbone.transform

    def slow_transform(image: Image.Image) -> np.ndarray:
        os.utime(images[0], (1, 1))
        return transform(image)

    backbone.transform = slow_transform
    result = extract(backbone, images[:1])
    assert list(result.bad) == [images[0]]
    assert "it changed while it was read" in result.bad[images[0]]
    assert result.stores[0].num_rows == 0


def test_views(extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path]):
    extract(backbone, images[:6])
    result = extract(backbone, images, views=2)
    assert (result.found, result.computed) == (6, 14)
    flipped = result.stores[1].load(result.digests)
    mirrored = images[0].with_name("mirrored.png")
    Image.open(images[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    torch.testing.assert_close(flipped[:1], _expected(backbone, [mirrored]))
    assert [store.view for store in result.stores] == ["identity", "flip"]
    with pytest.raises(InputError, match=r"features.views: 3 is none of 1"):
        extract(backbone, images, views=3)


def test_views_that_are_there_are_not_computed(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path]
):
    extract(backbone, images[:4])
    num_batches = backbone.num_batches
    extract(backbone, images[:4], views=2)
    assert backbone.num_batches == num_batches + 1


def test_a_disk_without_the_room_is_refused_before_the_start(
    extract: Callable[..., ExtractionResult],
    make_backbone: Callable[..., Any],
    images: list[Path],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    backbone = make_backbone()
    with pytest.raises(InputError, match=r"features.dir: 10 rows .* 100 MB free.*model.backbone.pool=avg"):
        extract(backbone, images)
    assert backbone.num_batches == 0
    with pytest.raises(InputError, match=r"Choose another folder with features.dir, or make room") as error:
        extract(make_backbone(pool="avg"), images)
    assert "pool=avg" not in str(error.value)


def test_bits_stored_are_part_of_a_store_only_where_they_are_not_all(
    extract: Callable[..., ExtractionResult], backbone: Any, images: list[Path], tmp_path: Path
):
    greys = np.linspace(0, 1023, 24 * 24).astype(np.uint16).reshape(24, 24)
    files = [tmp_path / "deep.png", tmp_path / "same.png"]
    Image.fromarray(greys).save(files[0])
    Image.fromarray(((greys.astype(np.int64) * 255 + 511) // 1023).astype(np.uint8)).save(files[1])
    plain, full, ten = (
        extract(backbone, files, **options) for options in ({}, {"bits_stored": 16}, {"bits_stored": 10})
    )
    assert full.folder == plain.folder != ten.folder
    assert "bits_stored" not in plain.stores[0].identity
    rows = ten.stores[0].load(ten.digests)
    torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=0)
    assert extract(backbone, files, bits_stored=9).bad == {
        files[0]: "its largest value, 1023, exceeds data.bits_stored=9"
    }


def overflowing(make_backbone: Callable[..., Any], images: list[Path], rows: list[int]) -> Any:
    """A backbone whose features of some of the images are beyond the range of float16."""
    backbone = make_backbone()
    expected, forward = _expected(backbone, images).float(), backbone.forward

    def enlarge(pixels: Tensor) -> Tensor:
        features = forward(pixels)
        large = torch.cdist(features, expected[rows]).min(dim=1).values < 0.1
        return torch.where(large[:, None], features * 1e6, features)

    backbone.forward = enlarge
    return backbone


@pytest.mark.parametrize("views", [1, 2])
def test_rows_beyond_the_range_of_float16_are_float32_by_themselves(
    extract: Callable[..., ExtractionResult],
    make_backbone: Callable[..., Any],
    images: list[Path],
    views: int,
):
    backbone = overflowing(make_backbone, images, [2, 3, 9])
    result = extract(backbone, images, views=views)
    assert (result.computed, result.bad) == (10 * views, {})
    assert extract(backbone, images, views=views).computed == 0
    store, plain = result.stores[0], _expected(make_backbone(), images)
    rows = store.load(result.digests)
    assert rows.dtype == torch.float32
    kept = [0, 1, 4, 5, 6, 7, 8]
    assert torch.equal(rows[kept], plain[kept].float()), "the others are rounded as ever"
    assert torch.isfinite(rows).all() and rows[[2, 3, 9]].abs().max() > 65504
    assert store.load(result.digests[kept]).dtype == torch.float16
    assert store.verify() == [] and store.num_rows == 10


def test_training_takes_float32_rows_among_the_others(
    make_backbone: Callable[..., Any], images: list[Path], tmp_path: Path
):
    served = []
    for memory_gb in (None, 1e-9):
        features = CachedFeatures(
            overflowing(make_backbone, images, [2, 9]),
            directory=tmp_path / "features", views=2, memory_gb=memory_gb, batch_size=4, num_workers=0,
            trainer={"accelerator": "cpu"},
        )  # fmt: skip
        features.extract(images)
        features.dataset(images, np.zeros((10, 1)))
        served.append(features.evaluation_dataset().__getitems__(list(range(10)))[0])
    assert served[0].shape == (10, 2, 6) and torch.isfinite(served[0]).all()
    assert served[0][[2, 9]].abs().max() > 65504
    assert torch.equal(*served), "from memory and from the disk"


def test_features_that_are_no_numbers_are_told_with_three_images_and_a_count(
    extract: Callable[..., ExtractionResult], make_backbone: Callable[..., Any], images: list[Path]
):
    backbone = make_backbone(scale=float("inf"))
    with pytest.raises(
        InputError, match=r"features of 10 of 10 images .*_0002\.png and 7 more\. Look for"
    ) as error:
        extract(backbone, images, batch_size=16)
    assert str(error.value).count(".png") == 3


def test_rows_before_an_error_are_kept(
    extract: Callable[..., ExtractionResult], make_backbone: Callable[..., Any], images: list[Path]
):
    backbone = make_backbone()
    forward = backbone.forward

    def fail_late(pixels: Tensor) -> Tensor:
        if backbone.num_batches == 2:
            raise RuntimeError("out of order")
        return forward(pixels)

    backbone.forward = fail_late
    with pytest.raises(RuntimeError, match="out of order"):
        extract(backbone, images)
    again = extract(make_backbone(), images)
    assert (again.found, again.computed) == (8, 2)


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    extract: Callable[..., ExtractionResult],
    backbone: Any,
    images: list[Path],
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO)
    extract(backbone, images, batch_size=1)
    lines = [record.message for record in caplog.records if "images/s" in record.message]
    assert len(lines) == 10
    assert "10 of 10 images" in lines[-1]
    assert lines[-1].endswith("0 s left")


def test_each_image_goes_to_one_process():
    parts = [list(RankSampler(10, rank, 4)) for rank in range(4)]
    assert sorted(index for part in parts for index in part) == list(range(10))
    assert list(RankSampler(1, 1, 2)) == [PADDING]
    assert len(RankSampler(0, 0, 1)) == 1


def test_an_image_that_changed_since_it_was_hashed_is_left_out(images: list[Path], backbone: Any):
    states = np.array([state_of(images[0]), (0, 0, 0)], dtype=np.int64)
    data = HashedImages(images[:2], states, backbone.transform, None, 16)
    assert data[0][1:] == (0, "")
    assert data[1][1:] == (PADDING, "it changed while it was read")
    assert data[1][0].max() == 0


def test_a_backbone_that_was_never_set_up_is_set_up_for_the_device(tiny_images: Path, tmp_path: Path):
    backbone = FrozenBackbone("test_efficientnet", pretrained=False, precision="bfloat16")
    assert not backbone.is_optimized
    paths = sorted(tiny_images.iterdir())[:2]
    extract_features(
        backbone, paths, directory=tmp_path, num_workers=0, trainer={"accelerator": "cpu", "devices": 1}
    )
    assert backbone.is_optimized and next(backbone.network.parameters()).dtype == torch.bfloat16

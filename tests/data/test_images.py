from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlic.data import check_images, open_image
from mlic.data import images as images_module
from mlic.data.images import full_check, largest_grey, open_at_sizes, quick_check

ORANGE = (230, 120, 20)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def picture(width: int = 48, height: int = 32) -> Image.Image:
    return Image.new("RGB", (width, height), ORANGE)


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(int(value) for value in np.asarray(image)[y, x])


def test_sixteen_bits_of_the_full_range_are_scaled_by_default(tmp_path: Path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(Image.fromarray(values), tmp_path / "deep.png")
    expected = (values.astype(np.int64) + 128) // 257
    np.testing.assert_array_equal(np.asarray(open_image(path))[..., 1], expected)
    assert largest_grey(path) == 65535
    assert largest_grey(save(picture(), tmp_path / "colour.png")) is None


@pytest.mark.parametrize("bits", [8, 12])
def test_bits_stored_scale_what_is_used_to_the_full_range(tmp_path: Path, bits: int):
    largest = 2**bits - 1
    values = np.linspace(0, largest // 2, 64).astype(np.uint16).reshape(8, 8)  # of a dark photograph
    deep = save(Image.fromarray(values), tmp_path / "deep.tiff")
    of_two_sizes: Any = open_at_sizes(Image.open(deep), (9, 8), bits)
    for image in (open_image(deep, bits_stored=bits), *of_two_sizes):
        np.testing.assert_allclose(np.asarray(image)[..., 0], values * (255 / largest), atol=0.5)
    reason = f"its largest value, {largest // 2}, exceeds data.bits_stored={bits - 2}"
    assert check_images([deep], full=True, bits_stored=bits - 2) == {deep: reason}
    assert check_images([deep], full=True, bits_stored=bits) == {}


def test_heic_is_read_upright_without_a_change_of_pillow(
    tmp_path: Path, heic_photo: bytes, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic_photo)
    loaded = open_image(path, draft_size=8)
    assert (loaded.mode, loaded.size) == ("RGB", (48, 64))
    np.testing.assert_allclose(colour(loaded, 4, 4), ORANGE, atol=6)
    np.testing.assert_allclose(colour(loaded, 44, 4), (0, 0, 0), atol=6)
    assert (quick_check(path), full_check(path)) == (None, None)
    path.write_bytes(heic_photo[:560])
    assert "truncated or damaged" in (full_check(path) or "")
    assert "HEIF" not in Image.OPEN and ".heic" not in Image.registered_extensions()
    monkeypatch.setattr(images_module, "HEIF_READER", "not_installed_heif")
    assert check_images([path]) == {path: "a HEIC file, which requires: pip install 'mlic[heif]'"}


def test_the_preview_in_a_raw_file_is_not_taken_for_the_photograph(tmp_path: Path):
    raw = save(picture(), tmp_path / "DSC_0001.NEF", format="TIFF")
    assert quick_check(raw) == full_check(raw) == "a raw file of a camera; convert it to JPEG or TIFF"
    assert full_check(save(picture(), tmp_path / "really_jpeg.dng", format="JPEG")) is None


def test_draft_decodes_jpeg_smaller_but_not_below_the_size(tmp_path: Path):
    path = save(picture(960, 640), tmp_path / "a.jpg")
    sizes: Any = open_at_sizes(path, (160, 161, 2000))
    assert [image.size for image in sizes] == [(240, 160), (480, 320), (960, 640)]
    np.testing.assert_allclose(colour(sizes[0], 100, 60), ORANGE, atol=6)

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from mlic.data import BadImageError, check_images, open_image
from mlic.data import images as images_module
from mlic.data.images import check_bits_stored, full_check, largest_grey, open_at_sizes, quick_check
from mlic.errors import InputError

WIDTH, HEIGHT = 48, 32
ORANGE = (230, 120, 20)


def picture() -> Image.Image:
    """48 x 32, orange, with a black block in the upper left."""
    image = Image.new("RGB", (WIDTH, HEIGHT), ORANGE)
    image.paste((0, 0, 0), (0, 0, 16, 16))
    return image


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # pyright: ignore[reportArgumentType]
    return path


def colour(image: Image.Image, x: int = 40, y: int = 24) -> tuple[int, ...]:
    return tuple(int(value) for value in np.asarray(image)[y, x])


def test_sixteen_bits_of_the_full_range_are_scaled_by_default(tmp_path: Path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(Image.fromarray(values), tmp_path / "deep.png")
    expected = (values.astype(np.int64) + 128) // 257
    np.testing.assert_array_equal(np.asarray(open_image(path))[..., 1], expected)
    assert largest_grey(path) == 65535
    assert largest_grey(save(picture(), tmp_path / "colour.png")) is None


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_bits_stored_scale_what_is_used_to_the_full_range(tmp_path: Path, bits: int):
    largest = 2**bits - 1
    values = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    dark = np.zeros((8, 8), dtype=np.uint16)
    dark[0, 0] = largest // 2
    deep, other = (
        save(Image.fromarray(pixels), tmp_path / f"{pixels.max()}.tiff") for pixels in (values, dark)
    )
    for loaded in (
        open_image(deep, bits_stored=bits),
        open_at_sizes(deep, None, bits),
        open_at_sizes(Image.open(deep), (9,), bits),
    ):
        image = loaded[0] if isinstance(loaded, list) else loaded
        np.testing.assert_allclose(np.asarray(image)[..., 0], values * (255 / largest), atol=0.5)
    # the same value is the same grey in each file
    assert colour(open_image(other, bits_stored=bits), 0, 0)[0] == round(largest // 2 * 255 / largest)
    reason = f"its largest value, {largest}, does not fit data.bits_stored={bits - 1}"
    assert full_check(deep, bits - 1) == reason
    assert check_images([deep], full=True, bits_stored=bits - 1) == {deep: reason}
    assert check_images([deep], full=True, bits_stored=bits) == {}


@pytest.mark.parametrize("wrong", [7, 17, 12.0, "12", True, None])
def test_bits_stored_must_be_a_whole_number_from_8_to_16(wrong: Any):
    with pytest.raises(InputError, match=rf"data.bits_stored: '{wrong}' must be a whole number from 8 to 16"):
        check_bits_stored(wrong)


def test_heic_is_read_upright_without_a_change_of_pillow(tmp_path: Path, heic_photo: bytes):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic_photo)
    loaded = open_image(path, draft_size=8)
    assert (loaded.mode, loaded.size) == ("RGB", (48, 64))
    np.testing.assert_allclose(colour(loaded, 4, 4), ORANGE, atol=6)
    np.testing.assert_allclose(colour(loaded, 44, 4), (0, 0, 0), atol=6)
    assert (quick_check(path), full_check(path)) == (None, None)
    path.write_bytes(heic_photo[:560])
    assert "truncated or damaged" in (full_check(path) or "") and "truncated or damaged" in (
        quick_check(path) or ""
    )
    assert "HEIF" not in Image.OPEN and ".heic" not in Image.registered_extensions()


def test_heic_without_its_reader_names_the_extra(
    tmp_path: Path, heic_photo: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(images_module, "HEIF_READER", "not_installed_heif")
    path = tmp_path / "photo.heic"
    path.write_bytes(heic_photo)
    expected = "a HEIC file, which needs: pip install 'mlic[heif]'"
    assert check_images([path], full=True) == check_images([path]) == {path: expected}


def test_the_preview_in_a_raw_file_is_not_taken_for_the_photograph(tmp_path: Path):
    raw = save(picture(), tmp_path / "DSC_0001.NEF", format="TIFF")
    assert quick_check(raw) == full_check(raw) == "a camera's raw file; convert it to JPEG or TIFF"
    assert full_check(save(picture(), tmp_path / "really_jpeg.dng", format="JPEG")) is None


def test_draft_decodes_jpeg_smaller_but_not_below_the_size(tmp_path: Path):
    path = save(picture().resize((960, 640)), tmp_path / "a.jpg")
    assert open_image(path).size == (960, 640)
    assert open_image(path, draft_size=160).size == (240, 160)
    assert open_image(path, draft_size=161).size == (480, 320)
    assert open_image(path, draft_size=2000).size == (960, 640)
    np.testing.assert_allclose(colour(open_image(path, draft_size=80), 100, 60), ORANGE, atol=6)
    grey = save(picture().convert("L").resize((960, 640)), tmp_path / "grey.jpg")
    assert open_image(grey, draft_size=160).size == (240, 160)


def test_a_quick_check_decodes_nothing_of_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(picture(), tmp_path / "a.jpg")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    assert quick_check(path) is None


def test_a_file_that_vanishes_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(BadImageError, match=r"a\.jpg: no such file"):
        open_image(tmp_path / "a.jpg")

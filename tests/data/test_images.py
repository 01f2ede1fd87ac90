import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from mlic.data import BadImageError, ImageDataset, check_images, load_image
from mlic.data import images as images_module
from mlic.data.images import check_bits_stored, decode, full_check, largest_grey, quick_check
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


@pytest.mark.parametrize(
    ("mode", "ending", "tolerance"),
    [("RGB", "jpg", 6), ("RGB", "png", 0), ("P", "png", 60), ("P", "gif", 60), ("CMYK", "jpg", 12),
     ("RGB", "tiff", 0), ("RGB", "webp", 12), ("RGB", "bmp", 0), ("RGB", "avif", 12),
     ("YCbCr", "jpg", 6), ("CMYK", "tiff", 6)],
)  # fmt: skip
def test_colour_forms_become_rgb(tmp_path: Path, mode: str, ending: str, tolerance: int):
    loaded = load_image(save(picture().convert(mode), tmp_path / f"a.{ending}"))
    assert (loaded.mode, loaded.size) == ("RGB", (WIDTH, HEIGHT))
    np.testing.assert_allclose(colour(loaded), ORANGE, atol=tolerance)
    np.testing.assert_allclose(colour(loaded, 4, 4), (0, 0, 0), atol=max(tolerance, 1))


def test_grey_and_black_and_white(tmp_path: Path):
    grey = load_image(save(Image.new("L", (8, 8), 77), tmp_path / "grey.png"))
    assert colour(grey, 0, 0) == (77, 77, 77)
    line = load_image(save(Image.new("1", (8, 8), 1), tmp_path / "line.png"))
    assert colour(line, 0, 0) == (255, 255, 255)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, ending: str):
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    loaded = load_image(save(Image.fromarray(values), tmp_path / f"deep.{ending}"))
    assert np.asarray(loaded)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert loaded.mode == "RGB"


def test_sixteen_bits_of_the_full_range_are_scaled_by_default(tmp_path: Path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = save(Image.fromarray(values), tmp_path / "deep.png")
    expected = (values.astype(np.int64) + 128) // 257
    np.testing.assert_array_equal(np.asarray(load_image(path))[..., 1], expected)
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
        load_image(deep, bits_stored=bits),
        decode(deep, None, bits),
        decode(Image.open(deep), (9,), bits),
    ):
        image = loaded[0] if isinstance(loaded, list) else loaded
        np.testing.assert_allclose(np.asarray(image)[..., 0], values * (255 / largest), atol=0.5)
    # the same value is the same grey in each file
    assert colour(load_image(other, bits_stored=bits), 0, 0)[0] == round(largest // 2 * 255 / largest)
    reason = f"its largest value, {largest}, does not fit data.bits_stored={bits - 1}"
    assert full_check(deep, bits - 1) == reason
    assert check_images([deep], full=True, bits_stored=bits - 1) == {deep: reason}
    assert check_images([deep], full=True, bits_stored=bits) == {}


@pytest.mark.parametrize("wrong", [7, 17, 12.0, "12", None, True])
def test_bits_stored_out_of_range_are_told(wrong: Any):
    with pytest.raises(InputError, match=rf"data.bits_stored: '{wrong}' must be a whole number from 8 to 16"):
        check_bits_stored(wrong)


def test_heic_is_read_upright_without_a_change_of_pillow(tmp_path: Path, heic_photo: bytes):
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(heic_photo)
    loaded = load_image(path, draft_size=8)
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


def test_pixels_that_are_no_picture_are_refused(tmp_path: Path):
    path = save(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), tmp_path / "depth.tiff")
    with pytest.raises(BadImageError, match=r"depth.tiff: .*floating-point numbers; expected 8 or 16 bits"):
        load_image(path)


def test_alpha_is_laid_on_white(tmp_path: Path):
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    np.testing.assert_allclose(
        colour(load_image(save(half, tmp_path / "a.png")), 0, 0), (255, 127, 127), atol=1
    )
    grey = Image.new("LA", (8, 8), (0, 0))
    assert colour(load_image(save(grey, tmp_path / "b.png")), 0, 0) == (255, 255, 255)
    palette = picture().quantize(8)
    transparent = palette.getpixel((0, 0))
    loaded = load_image(save(palette, tmp_path / "c.png", transparency=transparent))
    assert colour(loaded, 4, 4) == (255, 255, 255)
    np.testing.assert_allclose(colour(loaded), ORANGE, atol=3)


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "ul"), (2, "ur"), (3, "lr"), (4, "ll"), (5, "ul"), (6, "ur"), (7, "lr"), (8, "ll")],
)
@pytest.mark.parametrize("ending", ["jpg", "png", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, ending: str, orientation: int, corner: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(save(picture(), tmp_path / f"a.{ending}", exif=exif))
    assert loaded.size == ((WIDTH, HEIGHT) if orientation <= 4 else (HEIGHT, WIDTH))
    x, y = 4 if corner[1] == "l" else loaded.width - 5, 4 if corner[0] == "u" else loaded.height - 5
    assert max(colour(loaded, x, y)) < 12
    assert colour(loaded, loaded.width - 1 - x, loaded.height - 1 - y)[0] > 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path):
    path = save(picture(), tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert load_image(path).size == (WIDTH, HEIGHT)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path):
    frames = [Image.new("RGB", (8, 8), name) for name in ("red", "blue")]
    for ending in ("gif", "png", "webp", "mpo"):
        path = save(frames[0], tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(colour(load_image(path), 0, 0), (255, 0, 0), atol=6)


def test_the_ending_of_the_name_does_not_matter(tmp_path: Path):
    path = save(picture(), tmp_path / "really_png.jpg", format="PNG")
    assert colour(load_image(path)) == ORANGE
    assert quick_check(path) is None


def test_draft_decodes_jpeg_smaller_but_not_below_the_size(tmp_path: Path):
    path = save(picture().resize((960, 640)), tmp_path / "a.jpg")
    assert load_image(path).size == (960, 640)
    assert load_image(path, draft_size=160).size == (240, 160)
    assert load_image(path, draft_size=161).size == (480, 320)
    assert load_image(path, draft_size=2000).size == (960, 640)
    np.testing.assert_allclose(colour(load_image(path, draft_size=80), 100, 60), ORANGE, atol=6)
    grey = save(picture().convert("L").resize((960, 640)), tmp_path / "grey.jpg")
    assert load_image(grey, draft_size=160).size == (240, 160)


def test_several_draft_sizes_decode_once_for_each_reduction(tmp_path: Path):
    path = save(picture().resize((960, 640)), tmp_path / "a.jpg")
    sizes = (160, 161, 150, 2000)
    images = decode(path, sizes)
    assert isinstance(images, list)
    for image, size in zip(images, sizes, strict=True):
        np.testing.assert_array_equal(image, load_image(path, draft_size=size))
    assert images[0] is images[2]
    assert len({id(image) for image in images}) == 3
    whole = decode(path, None)
    assert isinstance(whole, Image.Image) and whole.size == (960, 640)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadImageError, match=r"a\.jpg: truncated"):
        decode(path, sizes)


def bomb(width: int, height: int) -> bytes:
    """A PNG of some bytes that claims to be huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    body = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def encoded(file_format: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, file_format)
    return stream.getvalue()


BAD_FILES = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"<html>404 Not Found</html>", "not an image"),
    "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
    "cut.jpg": (encoded("JPEG")[:-8000], "truncated"),
    "cut.png": (encoded("PNG")[:-8000], "truncated"),
    "header.jpg": (encoded("JPEG")[:12], "not an image|truncated"),
    "bomb.png": (bomb(60000, 60000), "limit of 89,478,485"),
    "large.png": (bomb(10000, 9000), "limit of 89,478,485"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_are_refused_by_name_and_reason(tmp_path: Path, name: str):
    content, reason = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=reason) as refusal:
        load_image(path)
    assert refusal.value.path == path
    assert str(refusal.value) == f"{path}: {refusal.value.reason}"
    assert isinstance(refusal.value, InputError)
    assert quick_check(path) == full_check(path) == refusal.value.reason
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_missing_files_and_folders_are_refused(tmp_path: Path):
    assert quick_check(tmp_path / "none.jpg") == full_check(tmp_path / "none.jpg") == "no such file"
    assert quick_check(tmp_path) == full_check(tmp_path) == "not a regular file"


def test_cut_formats_without_end_mark_are_found_by_decoding(tmp_path: Path):
    path = tmp_path / "cut.webp"
    path.write_bytes(encoded("WEBP")[:-5000])
    assert full_check(path) is not None


def test_bytes_after_the_end_are_no_fault(tmp_path: Path):
    for file_format in ("JPEG", "PNG"):
        path = tmp_path / file_format
        path.write_bytes(encoded(file_format) + b"\0" * 20_000)
        assert quick_check(path) is None


def test_a_quick_check_decodes_nothing_of_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(picture(), tmp_path / "a.jpg")
    monkeypatch.setattr(images_module, "load_image", lambda *_, **__: pytest.fail("decoded"))
    assert quick_check(path) is None


@pytest.mark.parametrize(("full", "workers"), [(False, 1), (True, 3)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_all_bad_files_are_listed_in_one_go(tmp_path: Path, full: bool, workers: int):
    good = [save(picture(), tmp_path / f"good{number}.jpg") for number in range(5)]
    bad = [tmp_path / name for name in BAD_FILES]
    for path in bad:
        path.write_bytes(BAD_FILES[path.name][0])
    found = check_images([*bad, *good, tmp_path / "none.jpg"], full=full, workers=workers)
    assert list(found) == [*bad, tmp_path / "none.jpg"]
    assert all(found.values())
    assert check_images(good, full=full, workers=workers) == check_images([], full=full) == {}


def to_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).transpose(2, 0, 1)


def make_dataset(
    folder: Path, count: int, transform: Callable[[Image.Image], np.ndarray] = to_array
) -> ImageDataset:
    paths = [save(Image.new("RGB", (8, 6), (row, 0, 0)), folder / f"{row}.png") for row in range(count)]
    return ImageDataset(paths, np.eye(count, 3), transform)


def test_data_set_rows_are_image_target_and_row(tmp_path: Path):
    dataset = make_dataset(tmp_path, 4)
    image, target, row = dataset[2]
    assert (image.dtype, tuple(image.shape), int(image[0, 0, 0])) == (torch.uint8, (3, 6, 8), 2)
    assert (target.dtype, target.tolist(), row) == (torch.float32, [0, 0, 1], 2)
    assert len(dataset) == 4
    images, targets, rows = next(iter(DataLoader(dataset, batch_size=4)))
    assert images.shape == (4, 3, 6, 8)
    assert rows.tolist() == images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(targets, torch.eye(4, 3))
    with pytest.raises(ValueError, match="1 paths, but 2 rows of targets"):
        ImageDataset([tmp_path], np.eye(2), to_array)


def test_data_set_hands_on_the_draft_size(tmp_path: Path):
    path = save(picture().resize((960, 640)), tmp_path / "a.jpg")
    dataset = ImageDataset([path], np.eye(1), to_array, draft_size=160)
    assert tuple(dataset[0][0].shape) == (3, 160, 240)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_never_replaced(tmp_path: Path, workers: int):
    dataset = make_dataset(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(BadImageError, match=r"1.png: the file is empty"):
        list(DataLoader(dataset, batch_size=1, num_workers=workers, prefetch_factor=1 if workers else None))


def test_a_file_that_vanishes_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(BadImageError, match=r"a\.jpg: no such file"):
        load_image(tmp_path / "a.jpg")

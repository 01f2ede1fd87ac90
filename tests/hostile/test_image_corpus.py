"""Every kind of image file and of damage: the right pixels, or a refusal with its reason; never a third thing."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from mlic.data.images import BadImageError, check_images, full_check, open_image, quick_check
from mlic.models import FrozenBackbone

pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:.*EXIF.*"),
    pytest.mark.filterwarnings("ignore:Metadata Warning"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore:Tag data larger than file"),
]
WIDTH, HEIGHT = 48, 32
ORANGE = (230, 120, 20)
CUTS = 20


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Orange, with a black block in the upper left."""
    image = Image.new("RGB", (width, height), ORANGE)
    image.paste((0, 0, 0), (0, 0, 16, 16))
    return image


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", extra: Any = ()
) -> bytes:
    """A PNG chunk by chunk, so that it can say what is not true."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(data or b"\0" * 100)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def exif(orientation: Any, tag_type: int | None = None) -> bytes:
    """EXIF data that says so; `tag_type` writes the tag in that type of TIFF's."""
    if tag_type is None:
        data = Image.Exif()
        data[0x0112] = orientation
        return data.tobytes()
    entry = struct.pack("<HHI4s", 0x0112, tag_type, 1, orientation)
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"


class Handled(NamedTuple):
    """Decoded to the picture, or to `pixel` everywhere where that is given."""

    content: bytes
    tolerance: int = 0
    pixel: tuple[int, int, int] | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)


class Refused(NamedTuple):
    """A `BadImageError` whose reason matches."""

    content: bytes
    reason: str


def kinds() -> dict[str, Handled]:
    """Forms that a picture may have."""
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    frames: dict[str, Any] = {"save_all": True, "append_images": [blue]}
    small, half_red = (8, 8), Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    sixteen = np.full((8, 8), 128 * 257, dtype=np.uint16)
    deep_rgb = b"".join(b"\0" + bytes([230, 0, 120, 0, 20, 0]) * 8 for _ in range(8))
    palette = Image.new("P", small, 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    return {
        "baseline.jpg": Handled(encode(picture(), "JPEG"), 6),
        "progressive.jpg": Handled(encode(picture(), "JPEG", progressive=True), 6),
        "cmyk.jpg": Handled(encode(picture().convert("CMYK"), "JPEG"), 12),
        "grey.jpg": Handled(encode(Image.new("L", small, 77), "JPEG"), 2, (77, 77, 77), small),
        "rgb.png": Handled(encode(picture(), "PNG")),
        "rgb_as.jpg": Handled(encode(picture(), "PNG")),
        "jpeg_as.png": Handled(encode(picture(), "JPEG"), 6),
        "no_ending": Handled(encode(picture(), "WEBP", lossless=True)),
        "palette.png": Handled(encode(picture().quantize(8), "PNG"), 3),
        "one_bit.png": Handled(encode(Image.new("1", small, 1), "PNG"), 0, (255, 255, 255), small),
        "grey16.png": Handled(encode(Image.fromarray(sixteen), "PNG"), 0, (128, 128, 128), small),
        "grey16.tiff": Handled(encode(Image.fromarray(sixteen), "TIFF"), 0, (128, 128, 128), small),
        "rgb16.png": Handled(png(8, 8, depth=16, data=deep_rgb), 1, ORANGE, small),
        "alpha.png": Handled(encode(half_red, "PNG"), 1, (255, 127, 127), small),
        "alpha.webp": Handled(encode(half_red, "WEBP", lossless=True), 1, (255, 127, 127), small),
        "alpha.tiff": Handled(encode(half_red, "TIFF"), 1, (255, 127, 127), small),
        "grey_alpha.png": Handled(encode(Image.new("LA", small, (0, 0)), "PNG"), 0, (255, 255, 255), small),
        "clear_palette.png": Handled(encode(palette, "PNG", transparency=0), 0, (255, 255, 255), small),
        "half_clear_palette.png": Handled(
            encode(palette, "PNG", transparency=bytes([128, 255])), 1, (255, 127, 127), small
        ),
        "clear.gif": Handled(encode(palette, "GIF", transparency=0), 0, (255, 255, 255), small),
        "clear_colour.png": Handled(
            encode(red, "PNG", transparency=(255, 0, 0)), 0, (255, 255, 255), small
        ),
        "animated.gif": Handled(encode(red, "GIF", **frames), 3, (255, 0, 0), small),
        "animated.png": Handled(encode(red, "PNG", **frames), 0, (255, 0, 0), small),
        "animated.webp": Handled(encode(red, "WEBP", lossless=True, **frames), 0, (255, 0, 0), small),
        "pages.tiff": Handled(encode(red, "TIFF", **frames), 0, (255, 0, 0), small),
        "two_pictures.mpo": Handled(encode(red, "MPO", **frames), 6, (255, 0, 0), small),
        "cmyk.tiff": Handled(encode(picture().convert("CMYK"), "TIFF"), 6),
        "lzw.tiff": Handled(encode(picture(), "TIFF", compression="tiff_lzw")),
        "rgb.bmp": Handled(encode(picture(), "BMP")),
        "rgb.ppm": Handled(encode(picture(), "PPM")),
        "rgb.tga": Handled(encode(picture(), "TGA")),
        "rgb.pcx": Handled(encode(picture(), "PCX")),
        "rgb.jp2": Handled(encode(picture(), "JPEG2000"), 6),
        "rgb.avif": Handled(encode(picture(), "AVIF"), 12),
        "icon.ico": Handled(encode(red.resize((32, 32)), "ICO"), 0, (255, 0, 0), (32, 32)),
        "trailing_bytes.jpg": Handled(encode(picture(), "JPEG") + b"\0" * 9000, 6),
        "one_pixel.png": Handled(encode(Image.new("RGB", (1, 1), ORANGE), "PNG"), 0, ORANGE, (1, 1)),
        "one_pixel.jpg": Handled(encode(Image.new("RGB", (1, 1), ORANGE), "JPEG"), 6, ORANGE, (1, 1)),
        "wide.png": Handled(encode(Image.new("RGB", (20_000, 1), ORANGE), "PNG"), 0, ORANGE, (20_000, 1)),
        "wide.jpg": Handled(encode(Image.new("RGB", (20_000, 2), ORANGE), "JPEG"), 6, ORANGE, (20_000, 2)),
        "high.png": Handled(encode(Image.new("RGB", (1, 20_000), ORANGE), "PNG"), 0, ORANGE, (1, 20_000)),
        "widest.png": Handled(
            png(1_000_000, 1, colour=0, data=b"\0" + b"M" * 1_000_000), 0, (77, 77, 77), (1_000_000, 1)
        ),
    }  # fmt: skip


def orientations() -> dict[str, Handled]:
    """The picture as cameras store it, to be turned upright; and EXIF data that says nothing of use."""
    to_store = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    cases = {}
    for number, turn in to_store.items():
        stored = picture() if turn is None else picture().transpose(turn)
        cases[f"orientation{number}.jpg"] = Handled(encode(stored, "JPEG", exif=exif(number)), 8)
        cases[f"orientation{number}.png"] = Handled(encode(stored, "PNG", exif=exif(number)))
    broken = {
        "orientation0": exif(0), "orientation9": exif(9), "orientation65535": exif(65535),
        "orientation_text": exif(b"6\0\0\0", 2), "orientation_rational": exif(b"\xff\xff\xff\xff", 5),
        "garbage": b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", "cut": exif(6)[:12], "only_mark": b"Exif\0\0",
        "not_tiff": b"Exif\0\0" + b"A" * 60, "unknown_type": exif(b"\x06\0\0\0", 99),
    }  # fmt: skip
    for name, data in broken.items():
        cases[f"exif_{name}.jpg"] = Handled(encode(picture(), "JPEG", exif=data), 6)
    return cases


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def refusals() -> dict[str, Refused]:
    """Files that are no picture, or that would be one of too many pixels."""
    limit, none = "more than the limit of 89,478,485", "not an image in a supported format"
    bmp, gif, webp = (encode(picture(), kind) for kind in ("BMP", "GIF", "WEBP"))
    text_bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    return {
        "zero_bytes.jpg": Refused(b"", r"empty \(0 bytes\)"),
        "one_byte.jpg": Refused(b"\xff", none),
        "zeros.jpg": Refused(bytes(10_000), none),
        "page.jpg": Refused(b"<html>404 Not Found</html>", none),
        "lfs_pointer.jpg": Refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", none),
        "drawing.svg": Refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>", none),
        "script.eps": Refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", none),
        "paper.pdf": Refused(b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", none),
        "archive.jpg": Refused(zipped("a.jpg", encode(picture(), "JPEG")), none),
        "pickle.jpg": Refused(pickle.dumps([1, 2, 3]), none),
        "depth.tiff": Refused(encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating-point pixels"),
        "bomb.png": Refused(png(60_000, 60_000), "limit of 89,478,485"),
        "large.png": Refused(png(10_000, 9_000), limit),
        "longest.png": Refused(png(2**31 - 1, 1), "limit of 89,478,485"),
        "bomb.gif": Refused(gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "limit of 89,478,485"),
        "bomb.bmp": Refused(bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:], "limit of 89,478,485"),
        "bomb.ppm": Refused(b"P6 60000 60000 255\n", "limit of 89,478,485"),
        "text_bomb.png": Refused(png(8, 8, extra=[text_bomb]), "truncated or damaged"),
        "no_width.png": Refused(png(0, 8), "0 x 8 pixels|truncated or damaged|not an image"),
        "no_width.ppm": Refused(b"P6 0 8 255\n", "0 x 8 pixels|truncated or damaged|not an image"),
        "no_data.png": Refused(png(8, 8, data=b"\0"), "truncated or damaged"),
        "wrong_sum.png": Refused(encode(noise(), "PNG").replace(b"IDAT", b"IDAZ"), "truncated|not an image"),
        "header_alone.webp": Refused(webp[:30], "not an image|truncated or damaged"),
    }  # fmt: skip


def cut_short() -> dict[str, tuple[bytes, bytes]]:
    """(part, whole) of pictures cut at many places."""
    wholes = {
        "baseline.jpg": (encode(noise(), "JPEG"), CUTS),
        "progressive.jpg": (encode(noise(), "JPEG", progressive=True), CUTS),
        "noise.png": (encode(noise(), "PNG"), CUTS), "flat.png": (encode(picture(), "PNG"), CUTS),
        "noise.gif": (encode(noise(), "GIF"), 6), "noise.bmp": (encode(noise(), "BMP"), 6),
        "raw.tiff": (encode(noise(), "TIFF"), 6), "lzw.tiff": (encode(noise(), "TIFF", compression="tiff_lzw"), 6),
        "noise.webp": (encode(noise(), "WEBP"), 6), "noise.avif": (encode(noise(), "AVIF"), 6),
        "noise.jp2": (encode(noise(), "JPEG2000"), 6), "noise.ppm": (encode(noise(), "PPM"), 6),
    }  # fmt: skip
    cases = {}
    for name, (whole, cuts) in wholes.items():
        for cut in range(cuts):
            # the last one takes a single byte away
            length = len(whole) - 1 if cut == cuts - 1 else (cut + 1) * len(whole) // (cuts + 1)
            cases[f"cut{cut:02d}_{name}"] = (whole[:length], whole)
    return cases


HANDLED = {**kinds(), **orientations()}
REFUSED = refusals()
CUT = cut_short()


@pytest.fixture(scope="module")
def backbone() -> FrozenBackbone:
    return FrozenBackbone("test_efficientnet", pretrained=False, image_size=64)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", HANDLED)
def test_the_right_pixels(name: str, tmp_path: Path, backbone: FrozenBackbone):
    case = HANDLED[name]
    path = write(tmp_path, name, case.content)
    loaded = open_image(path)
    wanted = np.asarray(picture()) if case.pixel is None else np.full((*case.size[::-1], 3), case.pixel)
    assert (loaded.mode, loaded.size) == ("RGB", case.size)
    # blocks of a JPEG blur the edge of the block
    inside = np.s_[2:12, 2:12], np.s_[20:, 20:]
    for part in inside if case.pixel is None else (np.s_[:],):
        np.testing.assert_allclose(
            np.asarray(loaded)[part].astype(int), wanted[part].astype(int), atol=case.tolerance
        )
    assert quick_check(path) is full_check(path) is None
    assert backbone.transform(loaded).shape == (3, 64, 64)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (33, 1)])
def test_strips_come_to_the_size_of_the_input(size: tuple[int, int], crop_mode: str):
    transform = FrozenBackbone(
        "test_efficientnet", pretrained=False, image_size=64, crop_mode=crop_mode
    ).transform
    pixels = transform(Image.new("RGB", size, ORANGE))
    assert pixels.shape == (3, 64, 64)
    np.testing.assert_array_equal(pixels[:, 32, 32], ORANGE)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str, tmp_path: Path):
    path = write(tmp_path, name, REFUSED[name].content)
    with pytest.raises(BadImageError, match=REFUSED[name].reason) as refusal:
        open_image(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert full_check(path) == refusal.value.reason
    assert quick_check(path) in (None, refusal.value.reason)


@pytest.mark.parametrize("name", CUT)
def test_a_part_of_a_picture_is_refused_or_shows_all_of_it(name: str, tmp_path: Path):
    part, whole = CUT[name]
    expected = np.asarray(open_image(write(tmp_path, "whole", whole)))
    path = write(tmp_path, name, part)
    if full_check(path) is None:
        np.testing.assert_array_equal(np.asarray(open_image(path)), expected)
        assert len(part) > 0.8 * len(whole)
    else:
        with pytest.raises(BadImageError, match=r"truncated or damaged|not an image"):
            open_image(path)


def special(folder: Path) -> dict[str, str]:
    """Names in the folder that are no regular files -> reason."""
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere")
    (folder / "endless.jpg").symlink_to("/dev/zero")
    return {
        "folder.jpg": "not a regular file", "pipe.jpg": "not a regular file", "loop.jpg": "no such file",
        "dangling.jpg": "no such file", "endless.jpg": "not a regular file", "absent.jpg": "no such file",
        f"{'n' * 300}.jpg": "cannot be read (File name too long)", "a.jpg/b.jpg": "no such file",
    }  # fmt: skip


def test_what_is_no_regular_file(tmp_path: Path):
    for name, reason in special(tmp_path).items():
        assert full_check(tmp_path / name) == quick_check(tmp_path / name) == reason


def test_a_name_in_the_other_form_of_unicode_is_told(tmp_path: Path):
    write(tmp_path, "Ka\u0308lte.png", encode(picture(), "PNG"))
    assert "looks the same, in Unicode form NFD; rename it" in str(full_check(tmp_path / "K\u00e4lte.png"))
    assert full_check(tmp_path / "Ka\u0308lte.png") is None


def test_the_whole_corpus_in_one_go(tmp_path: Path):
    """As a data set: all that is bad is listed at once, each with its reason, and nothing else is."""
    contents = {name: case.content for name, case in {**HANDLED, **REFUSED}.items()}
    paths = [write(tmp_path, name, content) for name, content in contents.items()]
    odd = special(tmp_path)
    found = check_images([*paths, *(tmp_path / name for name in odd)], full=True, workers=2)
    assert {path.name for path in found} >= REFUSED.keys()
    assert {Path(str(path)).relative_to(tmp_path).as_posix() for path in found} == {*REFUSED, *odd}
    assert len(contents) + len(odd) + len(CUT) >= 200
    print(f"{len(HANDLED)} handled, {len(REFUSED) + len(odd)} refused, {len(CUT)} cut short")

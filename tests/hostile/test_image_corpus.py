"""Every kind of image file and of damage: the right pixels, or a refusal with its reason; never a third thing."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from mlic.data.images import BadImageError, check_images, full_check, open_image, quick_check

pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:.*EXIF.*"),
    pytest.mark.filterwarnings("ignore:Metadata Warning"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore:Tag data larger than file"),
]
WIDTH, HEIGHT = 48, 32
ORANGE = (230, 120, 20)


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
    small, white, red_pixel = (8, 8), (255, 255, 255), (255, 0, 0)
    red, half_red = Image.new("RGB", small, "red"), Image.new("RGBA", small, (255, 0, 0, 128))
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", small, "blue")]}
    sixteen = Image.fromarray(np.full(small, 128 * 257, dtype=np.uint16))
    deep_rgb = b"".join(b"\0" + bytes([230, 0, 120, 0, 20, 0]) * 8 for _ in range(8))
    palette = Image.new("P", small, 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    plain = {"BMP": 0, "PPM": 0, "TGA": 0, "PCX": 0, "JPEG": 6, "JPEG2000": 6, "AVIF": 12, "PNG": 0}
    several = {"GIF": 3, "WEBP": 6, "TIFF": 0, "MPO": 6}
    return {
        **{f"{kind}_as.jpg": Handled(encode(picture(), kind), far) for kind, far in plain.items()},
        **{kind: Handled(encode(red, kind, **frames), far, red_pixel, small) for kind, far in several.items()},
        "progressive.jpg": Handled(encode(picture(), "JPEG", progressive=True), 6),
        "cmyk.jpg": Handled(encode(picture().convert("CMYK"), "JPEG"), 12),
        "grey.jpg": Handled(encode(Image.new("L", small, 77), "JPEG"), 2, (77, 77, 77), small),
        "one_bit.png": Handled(encode(Image.new("1", small, 1), "PNG"), 0, white, small),
        "grey16.png": Handled(encode(sixteen, "PNG"), 0, (128, 128, 128), small),
        "rgb16.png": Handled(png(8, 8, depth=16, data=deep_rgb), 1, ORANGE, small),
        "alpha.png": Handled(encode(half_red, "PNG"), 1, (255, 127, 127), small),
        "grey_alpha.png": Handled(encode(Image.new("LA", small, (0, 0)), "PNG"), 0, white, small),
        "clear_palette.png": Handled(encode(palette, "PNG", transparency=0), 0, white, small),
        "clear_colour.png": Handled(encode(red, "PNG", transparency=red_pixel), 0, white, small),
        "icon.ico": Handled(encode(red.resize((32, 32)), "ICO"), 0, red_pixel, (32, 32)),
        "trailing_bytes.jpg": Handled(encode(picture(), "JPEG") + b"\0" * 9000, 6),
        "one_pixel.png": Handled(encode(Image.new("RGB", (1, 1), ORANGE), "PNG"), 0, ORANGE, (1, 1)),
    }  # fmt: skip


def orientations() -> dict[str, Handled]:
    """The picture as cameras store it, to be turned upright; and EXIF data that says nothing of use."""
    flip = Image.Transpose
    stored = {
        2: flip.FLIP_LEFT_RIGHT, 3: flip.ROTATE_180, 4: flip.FLIP_TOP_BOTTOM, 5: flip.TRANSPOSE, 6: flip.ROTATE_90,
        7: flip.TRANSVERSE, 8: flip.ROTATE_270,
    }  # fmt: skip
    turned = {
        f"orientation{number}.png": Handled(encode(picture().transpose(turn), "PNG", exif=exif(number)))
        for number, turn in stored.items()
    }
    useless = {
        "orientation9": exif(9), "text": exif(b"6\0\0\0", 2), "rational": exif(b"\xff\xff\xff\xff", 5),
        "garbage": b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", "cut": exif(6)[:12], "only_mark": b"Exif\0\0",
    }  # fmt: skip
    broken = {
        f"exif_{name}.jpg": Handled(encode(picture(), "JPEG", exif=data), 6) for name, data in useless.items()
    }
    return {**turned, **broken}


def refusals() -> dict[str, Refused]:
    """Files that are no picture, or that would be one of too many pixels."""
    limit, none = "limit of 89,478,485", "not an image in a supported format"
    gif = encode(picture(), "GIF")
    text_bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    floats = Image.fromarray(np.zeros((4, 4), np.float32))
    return {
        "zero_bytes.jpg": Refused(b"", r"empty \(0 bytes\)"),
        "script.eps": Refused(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", none),
        "pickle.jpg": Refused(pickle.dumps([1, 2, 3]), none),
        "depth.tiff": Refused(encode(floats, "TIFF"), "floating-point pixels"),
        "large.png": Refused(png(10_000, 9_000), limit),
        "longest.png": Refused(png(2**31 - 1, 1), limit),
        "bomb.gif": Refused(gif[:6] + b"\xff\xff\xff\xff" + gif[10:], limit),
        "bomb.ppm": Refused(b"P6 60000 60000 255\n", limit),
        "text_bomb.png": Refused(png(8, 8, extra=[text_bomb]), "truncated or damaged"),
        "no_data.png": Refused(png(8, 8, data=b"\0"), "truncated or damaged"),
        "wrong_sum.png": Refused(encode(noise(), "PNG").replace(b"IDAT", b"IDAZ"), "truncated|not an image"),
    }


HANDLED = {**kinds(), **orientations()}
REFUSED = refusals()
TO_BE_CUT = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", HANDLED)
def test_the_right_pixels(name: str, tmp_path: Path):
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


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str, tmp_path: Path):
    path = write(tmp_path, name, REFUSED[name].content)
    with pytest.raises(BadImageError, match=REFUSED[name].reason) as refusal:
        open_image(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert full_check(path) == refusal.value.reason
    assert quick_check(path) in (None, refusal.value.reason)


@pytest.mark.parametrize("kind", TO_BE_CUT)
def test_a_part_of_a_picture_is_refused_or_shows_all_of_it(kind: str, tmp_path: Path):
    whole = encode(noise(), kind)
    expected = np.asarray(open_image(write(tmp_path, "whole", whole)))
    # the last one takes a single byte away
    for length in (*range(len(whole) // 13, len(whole) - 1, len(whole) // 13), len(whole) - 1):
        path = write(tmp_path, "part", whole[:length])
        if full_check(path) is None:
            np.testing.assert_array_equal(np.asarray(open_image(path)), expected)
            assert length > 0.8 * len(whole)
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


def test_the_whole_corpus_in_one_go(tmp_path: Path):
    """As a data set: all that is bad is listed at once, each with its reason, and nothing else is."""
    paths = [write(tmp_path, name, case.content) for name, case in {**HANDLED, **REFUSED}.items()]
    odd = {tmp_path / name: reason for name, reason in special(tmp_path).items()}
    found = check_images([*paths, *odd], full=True, workers=2)
    assert found.keys() == {*(tmp_path / name for name in REFUSED), *odd}
    assert {path: reason for path, reason in found.items() if path in odd} == odd
    assert {path: quick_check(path) for path in odd} == odd

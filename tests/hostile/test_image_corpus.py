"""Every kind of image file and of damage: the right pixels, or a refusal with its reason; never a third thing."""

import io
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

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
SMALL, ORANGE, RED = (8, 8), (230, 120, 20), (255, 0, 0)
LOSSLESS, LOSSY = 0, 6  # mean difference of the pixels


def picture() -> Image.Image:
    """Orange, with a black block in the upper left."""
    image = Image.new("RGB", (48, 32), ORANGE)
    image.paste((0, 0, 0), (0, 0, 16, 16))
    return image


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *, depth: int = 8, data: bytes = b"\0" * 100, extra: Any = ()) -> bytes:
    """A PNG chunk by chunk, so that it can say what is not true."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def orientation(number: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = number
    return data.tobytes()


def read_images() -> dict[str, tuple[bytes, Image.Image, int]]:
    """Content, picture that it shows, and tolerance of each form that a picture may have."""
    red, half_red = Image.new("RGB", SMALL, RED), Image.new("RGBA", SMALL, (*RED, 128))
    white, grey = Image.new("RGB", SMALL, "white"), Image.new("RGB", SMALL, (128, 128, 128))
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", SMALL, "blue")]}
    sixteen = Image.fromarray(np.full(SMALL, 128 * 257, dtype=np.uint16))
    deep_rgb = b"".join(b"\0" + bytes([230, 0, 120, 0, 20, 0]) * 8 for _ in range(8))
    palette = Image.new("P", SMALL, 0)
    palette.putpalette([*RED, 0, 255, 0])
    plain = {
        "BMP": 0,
        "PPM": 0,
        "TGA": 0,
        "PCX": 0,
        "PNG": 0,
        "JPEG": LOSSY,
        "JPEG2000": LOSSY,
        "AVIF": LOSSY,
    }
    turns: dict[int, Any] = dict(
        zip(range(2, 9), (0, 3, 1, 5, 2, 6, 4), strict=True)
    )  # Image.Transpose by the EXIF orientation
    useless = {
        "text": b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 0x0112, 2, 1, b"6\0\0\0") + b"\0\0\0\0",
        "garbage": b"Exif\0\0MM\0*\xff\xff\xff\xff garbage", "cut": orientation(6)[:12], "nine": orientation(9),
    }  # fmt: skip
    return {
        **{f"{kind}_as.jpg": (encode(picture(), kind), picture(), far) for kind, far in plain.items()},
        **{f"frames.{kind}": (encode(red, kind, **frames), red, LOSSY) for kind in ("GIF", "WEBP", "TIFF", "MPO")},
        **{
            f"turned{number}.png": (encode(picture().transpose(turn), "PNG", exif=orientation(number)), picture(), 0)
            for number, turn in turns.items()
        },
        **{f"exif_{name}": (encode(picture(), "JPEG", exif=data), picture(), LOSSY) for name, data in useless.items()},
        "progressive.jpg": (encode(picture(), "JPEG", progressive=True), picture(), LOSSY),
        "cmyk.jpg": (encode(picture().convert("CMYK"), "JPEG"), picture(), LOSSY),
        "grey.jpg": (encode(grey.convert("L"), "JPEG"), grey, LOSSY),
        "one_bit.png": (encode(white.convert("1"), "PNG"), white, LOSSLESS),
        "grey16.png": (encode(sixteen, "PNG"), grey, LOSSLESS),
        "rgb16.png": (png(8, 8, depth=16, data=deep_rgb), Image.new("RGB", SMALL, ORANGE), 1),
        "alpha.png": (encode(half_red, "PNG"), Image.new("RGB", SMALL, (255, 127, 127)), 1),
        "grey_alpha.png": (encode(Image.new("LA", SMALL, (0, 0)), "PNG"), white, LOSSLESS),
        "clear_palette.png": (encode(palette, "PNG", transparency=0), white, LOSSLESS),
        "clear_colour.png": (encode(red, "PNG", transparency=RED), white, LOSSLESS),
        "trailing_bytes.jpg": (encode(picture(), "JPEG") + b"\0" * 9000, picture(), LOSSY),
    }  # fmt: skip


def refused_images() -> dict[str, tuple[bytes, str]]:
    """Content of files that are no picture, or would be one of too many pixels, and the reason."""
    limit, none, gif = "limit of 89,478,485", "not an image in a supported format", encode(picture(), "GIF")
    text_bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    return {
        "zero_bytes.jpg": (b"", r"empty \(0 bytes\)"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", none),
        "pickle.jpg": (pickle.dumps([1, 2, 3]), none),
        "depth.tiff": (
            encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
            "floating-point pixels",
        ),
        "large.png": (png(10_000, 9_000), limit),
        "longest.png": (png(2**31 - 1, 1), limit),
        "bomb.gif": (gif[:6] + b"\xff\xff\xff\xff" + gif[10:], limit),
        "bomb.ppm": (b"P6 60000 60000 255\n", limit),
        "text_bomb.png": (png(8, 8, extra=[text_bomb]), "truncated or damaged"),
        "no_data.png": (png(8, 8, data=b"\0"), "truncated or damaged"),
        "wrong_sum.png": (encode(noise(), "PNG").replace(b"IDAT", b"IDAZ"), "truncated|not an image"),
    }


READ, REFUSED = read_images(), refused_images()


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", READ)
def test_the_right_pixels(name: str, tmp_path: Path):
    content, expected, tolerance = READ[name]
    path = write(tmp_path, name, content)
    loaded = open_image(path)
    assert (loaded.mode, loaded.size) == ("RGB", expected.size)
    assert np.abs(np.asarray(loaded).astype(int) - np.asarray(expected)).mean() <= tolerance
    assert quick_check(path) is full_check(path) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(name: str, tmp_path: Path):
    content, reason = REFUSED[name]
    path = write(tmp_path, name, content)
    with pytest.raises(BadImageError, match=reason) as refusal:
        open_image(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert full_check(path) == refusal.value.reason and quick_check(path) in (None, refusal.value.reason)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM"])
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


def test_the_whole_corpus_in_one_go_with_names_that_are_no_files(tmp_path: Path):
    paths = [write(tmp_path, name, content) for name, (content, *_) in {**READ, **REFUSED}.items()]
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, target in {
        "loop.jpg": "loop.jpg",
        "dangling.jpg": "nowhere",
        "endless.jpg": "/dev/zero",
    }.items():
        (tmp_path / name).symlink_to(target)
    odd = {f"{'n' * 300}.jpg": "cannot be read (File name too long)"}
    odd |= dict.fromkeys(("folder.jpg", "pipe.jpg", "endless.jpg"), "not a regular file")
    odd |= dict.fromkeys(("loop.jpg", "dangling.jpg", "absent.jpg", "a.jpg/b.jpg"), "no such file")
    reasons = {tmp_path / name: reason for name, reason in odd.items()}
    found = check_images([*paths, *reasons], full=True, workers=2)
    assert found.keys() == {*(tmp_path / name for name in REFUSED), *reasons}
    assert {path: found[path] for path in reasons} == reasons
    assert {path: quick_check(path) for path in reasons} == reasons

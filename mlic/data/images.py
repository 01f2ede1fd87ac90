"""Image files: decoded to upright 8-bit RGB, and checked."""

import io
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from mlic.errors import InputError
from mlic.tars.members import find_member, read_member

# Pillow's own warning limit, 256 MB of RGB: larger files are refused by their header, before any pixel is
# decoded.
MAX_PIXELS = 89_478_485
# Pictures only; Pillow would also hand PostScript to an interpreter. Its JPEG covers cameras' MPO files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "PCX")
# How a complete file ends, and how many bytes may follow (some cameras append data).
END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
END_BYTES = 4096
CHUNK_FILES = 4096  # handed to the threads at a time
WHITE = (255, 255, 255, 255)


class BadImageError(InputError):
    """An image that cannot be used.

    Attributes:
        path: the file.
        reason: in words, such as "truncated".
    """

    def __init__(self, path: Path | str, reason: str = "") -> None:
        """With a path alone it takes a whole message: so an error comes back from a worker process."""
        super().__init__(f"{path}: {reason}" if reason else str(path))
        self.path, self.reason = Path(path), reason


DraftSize = int | tuple[int, ...] | None


def decode(source: Path | Image.Image, draft_size: DraftSize) -> Image.Image | list[Image.Image]:
    """What a transform takes: an image, or with several draft sizes an image for each of them.

    Args:
        source: a file, or an image in memory, which is converted as `load_image` does, at its full size.
        draft_size: see `load_image`.

    Raises:
        BadImageError: see `load_image`.
    """
    if isinstance(source, Image.Image):
        image = _convert(source)
        return [image] * len(draft_size) if isinstance(draft_size, tuple) else image
    if isinstance(draft_size, tuple):
        return _load(source, draft_size)
    return load_image(source, draft_size=draft_size)


def _convert(image: Image.Image) -> Image.Image:
    path = Path(getattr(image, "filename", "") or "image")
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise BadImageError(path, _size_in_words(image))
    try:
        return _to_rgb(_upright(image))
    except Exception as error:  # an opened file is decoded now
        raise BadImageError(path, _reason(path, error)) from error


def load_image(path: Path, *, draft_size: int | None = None) -> Image.Image:
    """Decode an image file, or an image in a tar shard, to upright 8-bit RGB.

    The first frame of an animation is taken, the EXIF orientation applied, 16-bit grey scaled to 8 bit, and
    alpha or a transparent colour laid on white. The file's name ending does not matter.

    Args:
        path: the file.
        draft_size: decode a JPEG at a half, quarter or eighth of its size where its short side stays at least
            this
            many pixels: up to several times faster, when it will be scaled down anyway. Pixels differ
                slightly.

    Raises:
        BadImageError: missing, no image, truncated, of more than `MAX_PIXELS`, or of a pixel form that is no
            picture.
        InputError: its tar shard cannot be read; that is no fault of the image.
    """
    (image,) = _load(path, (draft_size,))
    return image


def _load(path: Path, draft_sizes: Sequence[int | None]) -> list[Image.Image]:
    """The image at each of the draft sizes; those that lead to the same reduction are decoded once."""
    decoded: dict[tuple[int, int], Image.Image] = {}
    sizes = []
    try:
        for draft_size in draft_sizes:
            with _open(path) as image:
                if draft_size is not None:
                    image.draft(None, (draft_size, draft_size))
                sizes.append(image.size)
                if image.size not in decoded:
                    image.load()
                    decoded[sizes[-1]] = _to_rgb(_upright(image))
        return [decoded[size] for size in sizes]
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything on broken data
        raise BadImageError(path, _reason(path, error)) from error


def quick_check(path: Path) -> str | None:
    """Look at a file without decoding it: header, size limit and end. Thousands of files a second.

    A JPEG or PNG without its end mark near the end of the file is decoded to decide. For an image in a tar shard that
    was done when the shard was indexed.

    Returns:
        What is wrong with it, or None.
    """
    if (member := find_member(path)) is not None:
        return member.flaw or None
    try:
        with _open(path) as image:
            end_mark = END_MARKS.get(image.format or "")
    except BadImageError as error:
        return error.reason
    except Exception as error:  # as above
        return _reason(path, error)
    if end_mark is None or end_mark in _last_bytes(path):
        return None
    return full_check(path)


def quick_check_bytes(content: bytes) -> str | None:
    """As `quick_check`, for the content of a file."""
    path = Path("image")
    try:
        with _identify(path, io.BytesIO(content)) as image:
            if END_MARKS.get(image.format or "", b"") in content[-END_BYTES:]:
                return None
            image.load()
    except BadImageError as error:
        return error.reason
    except Exception as error:  # as above
        return _reason(path, error)
    return None


def full_check(path: Path) -> str | None:
    """Decode a file.

    Returns:
        What is wrong with it, or None.
    """
    try:
        load_image(path)
    except BadImageError as error:
        return error.reason
    return None


def check_images(paths: Sequence[Path], *, full: bool = False, workers: int = 1) -> dict[Path, str]:
    """Check many files, with a progress bar where the output is a terminal.

    Args:
        paths: the files.
        full: decode each; otherwise see `quick_check`.
        workers: threads (decoding does not hold Python's lock).

    Returns:
        Bad files with what is wrong with each, in the order of `paths`.
    """
    check = full_check if full else quick_check
    with ThreadPoolExecutor(max(1, workers)) as pool:
        chunks = (paths[start : start + CHUNK_FILES] for start in range(0, len(paths), CHUNK_FILES))
        checks = chain.from_iterable(pool.map(check, chunk) for chunk in chunks)
        reasons = list(tqdm(checks, "checking images", len(paths), leave=False, disable=None))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


@cache
def image_suffixes() -> frozenset[str]:
    """Name endings of `FORMATS`, in small letters with the dot."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with; it fails on others."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _open(path: Path) -> Image.Image:
    """Open by the header; nothing is decoded yet."""
    if (member := find_member(path)) is not None:
        return _identify(path, io.BytesIO(read_member(member)))
    if not path.exists():
        raise BadImageError(path, _no_such_file(path))
    if not path.is_file():
        raise BadImageError(path, "not a regular file")
    return _identify(path, path)


def _identify(path: Path, file: Path | io.BytesIO) -> Image.Image:
    if (path.stat().st_size if isinstance(file, Path) else len(file.getbuffer())) == 0:
        raise BadImageError(path, "the file is empty (0 bytes)")
    image = Image.open(file, formats=_formats())
    pixels = image.width * image.height
    if 0 < pixels <= MAX_PIXELS:
        return image
    image.close()
    raise BadImageError(path, _size_in_words(image))


def _size_in_words(image: Image.Image) -> str:
    excess = f", more than the limit of {MAX_PIXELS:,}" if image.width * image.height else ""
    return f"{image.width} x {image.height} pixels{excess}"


def _no_such_file(path: Path) -> str:
    """In words; a name may be there in the other of Unicode's forms, which look the same (macOS decomposes letters)."""
    for form in ("NFC", "NFD"):
        other = path.with_name(unicodedata.normalize(form, path.name))
        if other.name != path.name and other.is_file():
            return (
                f"no such file; there is one whose name looks the same, in Unicode's form {form}: rename it"
            )
    return "no such file"


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image that can be read (expected {', '.join(FORMATS[:3])}, … content)"
    if isinstance(error, FileNotFoundError):  # it vanished after it was looked for
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, MemoryError):
        return "no memory to decode it"
    if isinstance(error, OSError) and error.errno is not None:  # decoders' own errors have no number
        return f"cannot be read ({error.strerror})"
    return f"truncated or damaged ({str(error).replace(str(path), path.name)})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data is no reason to refuse the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow would clip at 255; 16 bits may also come as "I", in 32-bit integers
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    return image.convert("RGB")


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - END_BYTES))
        return stream.read()

"""Decoding of image files to upright 8-bit RGB, and checks of image files."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from mlic.data.tar_images import TarImage, read_tar_image
from mlic.errors import InputError

ImageReference = Path | TarImage
Result = TypeVar("Result")

# Pillow's default warning limit, 256 MB of RGB. Larger images are refused before any pixel is decoded.
MAX_PIXELS = 89_478_485
# Raster formats only; Pillow would pass PostScript to an interpreter. JPEG includes the MPO files of cameras.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "PCX")
# Photographs (such as HEIC of phones) that Pillow alone cannot read. Searches of folders must not skip them.
MORE_SUFFIXES = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".jxl", ".jxr", ".mpo"))
# Raw files of cameras. Many are TIFF files whose first image is a small preview.
RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))  # fmt: skip
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
HEIF_READER = "pi_heif"
FULL_BITS = 16
# End marks of complete files, and the number of bytes that may follow (some cameras append data).
END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
END_BYTES = 4096
CHUNK_FILES = 4096  # files submitted to the threads at a time
WHITE = (255, 255, 255, 255)


class BadImageError(InputError):
    """An image that cannot be used.

    Attributes:
        path: reference of the image.
        reason: reason in words, such as "truncated".
    """

    def __init__(self, path: ImageReference | str, reason: str = "") -> None:
        """Create the error; `path` alone is a complete message, as when the error is unpickled from a worker."""
        super().__init__(f"{path}: {reason}" if reason else str(path))
        self.path, self.reason = path, reason


class UnusableError(ValueError):
    """An image is refused for the reason in the message."""


DraftSize = int | tuple[int, ...] | None


def check_bits_stored(bits_stored: int) -> int:
    """Return `bits_stored` if it is an integer from 8 to 16, else raise an InputError."""
    if type(bits_stored) is not int or not 8 <= bits_stored <= FULL_BITS:
        raise InputError(f"data.bits_stored={bits_stored}: expected a whole number from 8 to {FULL_BITS}.")
    return bits_stored


def open_image(
    reference: ImageReference | Image.Image, *, draft_size: int | None = None, bits_stored: int = FULL_BITS
) -> Image.Image:
    """Decode an image to upright 8-bit RGB. Every command reads its images through this function.

    Takes the first frame of an animation, applies the EXIF orientation, scales 16-bit greyscale to 8 bits, and
    composites transparency onto white. The file extension is ignored, except that raw files of cameras are refused,
    because their TIFF content is a small preview. HEIC requires the extra `mlic[heif]`.

    Args:
        reference: a file, an image in a tar shard, or an image in memory, which is used at full size.
        draft_size: decode a JPEG at a half, quarter or eighth of its size as long as its short side has at least this
            many pixels. This is several times faster for images that are scaled down anyway; pixels differ slightly.
        bits_stored: bits in use in 16-bit greyscale images (a DICOM term). Values 0 .. 2^bits_stored - 1 are scaled to
            0 .. 255, independently of the largest value of a file, so that equal values stay equal across files.

    Raises:
        BadImageError: the image is missing, truncated, not an image, has more than `MAX_PIXELS` pixels, an unsupported
            pixel format, or values of more than `bits_stored` bits.
        InputError: the tar shard of the image cannot be read.
    """
    with _opened(reference) as image:
        if draft_size is not None and not isinstance(reference, Image.Image):
            image.draft(None, (draft_size, draft_size))
        image.load()
        return _to_rgb(_upright(image), bits_stored)


def open_at_sizes(
    reference: ImageReference | Image.Image, draft_size: DraftSize, bits_stored: int = FULL_BITS
) -> Image.Image | list[Image.Image]:
    """Decode the input of a transform: one image, or one per draft size if there are several.

    Arguments and errors are those of `open_image`.
    """
    if not isinstance(draft_size, tuple):
        return open_image(reference, draft_size=draft_size, bits_stored=bits_stored)
    images = {size: open_image(reference, draft_size=size, bits_stored=bits_stored) for size in {*draft_size}}
    return [images[size] for size in draft_size]


def quick_check(source: ImageReference | BytesIO) -> str | None:
    """Check header, size limit and end mark of an image, usually without decoding it (thousands of files per second).

    A JPEG or PNG without an end mark near the end of the file is decoded to decide. Images in tar shards were checked
    when the shard was indexed.

    Args:
        source: a reference, or the content of a file.

    Returns:
        The reason why the image cannot be used, or None.
    """
    if isinstance(source, TarImage):
        return source.flaw or None
    try:
        with _opened(source) as image:
            if END_MARKS.get(image.format or "", b"") not in _last_bytes(source):
                image.load()
    except BadImageError as error:
        return error.reason
    return None


def full_check(reference: ImageReference, bits_stored: int = FULL_BITS) -> str | None:
    """Check an image by decoding it.

    Returns:
        The reason why the image cannot be used, or None.
    """
    try:
        open_image(reference, bits_stored=bits_stored)
    except BadImageError as error:
        return error.reason
    return None


def largest_grey(reference: ImageReference) -> int | None:
    """Return the largest value of a 16-bit greyscale image; None for other images, without decoding them.

    Raises:
        BadImageError: see `open_image`.
    """
    with _opened(reference) as image:
        return int(np.asarray(image).max()) if image.mode.startswith("I") else None


def check_images(
    references: Sequence[ImageReference],
    *,
    full: bool = False,
    workers: int = 1,
    bits_stored: int = FULL_BITS,
) -> dict[ImageReference, str]:
    """Check many images, with a progress bar if the output is a terminal.

    Args:
        references: images to check.
        full: decode each image; otherwise see `quick_check`.
        workers: number of threads.
        bits_stored: see `open_image`.

    Returns:
        The bad images and the reasons, in the order of `references`.
    """
    check = partial(full_check, bits_stored=bits_stored) if full else quick_check
    reasons = map_images(check, references, workers)
    return {image: reason for image, reason in zip(references, reasons, strict=True) if reason is not None}


def map_images(
    function: Callable[[ImageReference], Result], references: Sequence[ImageReference], workers: int
) -> Iterator[Result]:
    """Apply a function to each image in parallel threads and yield the results in order.

    Threads suffice because decoding releases the GIL. At most a few thousand references are held in memory at a time. A
    progress bar is shown if the output is a terminal.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        starts = range(0, len(references), CHUNK_FILES)
        chunks = (references[start : start + CHUNK_FILES] for start in starts)
        results = chain.from_iterable(pool.map(function, chunk) for chunk in chunks)
        yield from tqdm(results, "checking images", len(references), leave=False, disable=None)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the file extensions of all image formats except raw files, in lower case with the dot."""
    own = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    return MORE_SUFFIXES | own


def without_image_extension(name: str) -> str:
    """Return a file name without its extension, if that is one of images."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in image_suffixes() else name


def image_files(folder: Path) -> Iterator[str]:
    """Yield the names, relative to the folder, of all visible files with an extension of images.

    Links to folders are not followed, because they may be circular.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in image_suffixes():
                yield name if inner == "." else f"{inner}/{name}"


def reads_heif() -> bool:
    """Return True if the extra `mlic[heif]` is installed."""
    return find_spec(HEIF_READER) is not None


@cache
def _formats() -> list[str]:
    """Return the formats of `FORMATS` that this build of Pillow supports; it raises an error for others."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def _opened(source: ImageReference | BytesIO | Image.Image) -> Iterator[Image.Image]:
    """Open an image without decoding it; errors in the block become a BadImageError."""
    in_memory = isinstance(source, BytesIO | Image.Image)
    name = str(getattr(source, "filename", "") or "image") if in_memory else source
    try:
        if isinstance(source, Image.Image):
            _check_size(source)
            yield source
            return
        with _open_stream(source) as stream:
            image = _identify(stream)
            if image.format == "TIFF" and os.path.splitext(str(name))[1].lower() in RAW_SUFFIXES:
                raise UnusableError("a raw file of a camera; convert it to JPEG or TIFF")
            _check_size(image)
            yield image
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything on broken data
        raise BadImageError(name, _reason(error)) from error


def _open_stream(source: ImageReference | BytesIO) -> BinaryIO:
    if isinstance(source, BytesIO):
        return source
    if isinstance(source, TarImage):
        return BytesIO(read_tar_image(source))
    if not source.exists():
        raise UnusableError("no such file")
    if not source.is_file():
        raise UnusableError("not a regular file")
    return source.open("rb")


def _identify(stream: BinaryIO) -> Image.Image:
    start = stream.read(12)
    stream.seek(0)
    if not start:
        raise UnusableError("the file is empty (0 bytes)")
    try:
        return Image.open(stream, formats=_formats())
    except Image.UnidentifiedImageError:
        # the main brand of an ISO media file; Pillow itself reads AVIF
        if start[4:8] != b"ftyp" or start[8:] not in HEIF_BRANDS:
            raise
    if not reads_heif():
        raise UnusableError("a HEIC file, which requires: pip install 'mlic[heif]'")
    stream.seek(0)
    # use the class directly instead of registering it, which would change Pillow for the whole process
    return import_module(f"{HEIF_READER}.as_plugin").HeifImageFile(stream)


def _check_size(image: Image.Image) -> None:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        excess = f", more than the limit of {MAX_PIXELS:,}" if image.width * image.height else ""
        raise UnusableError(f"{image.width} x {image.height} pixels{excess}")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more pixels than the limit of {MAX_PIXELS:,}"
    if isinstance(error, UnusableError):
        return str(error)
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image in a supported format ({', '.join(FORMATS[:3])}, …)"
    if isinstance(error, MemoryError):
        return "out of memory while decoding it"
    if isinstance(error, OSError) and error.errno is not None:  # errors of decoders have no number
        return f"cannot be read ({error.strerror})"
    return f"truncated or damaged ({' '.join(str(error).split())})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # ignore broken EXIF data
        return image


def _to_rgb(image: Image.Image, bits_stored: int) -> Image.Image:
    if image.mode == "F":
        raise UnusableError("floating-point pixels; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow would clip at 255; 16-bit values may also be stored as "I" (32-bit integers)
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        largest = 2**bits_stored - 1
        if values.max() > largest:
            raise UnusableError(f"its largest value, {values.max()}, exceeds data.bits_stored={bits_stored}")
        image = Image.fromarray(((values * 255 + largest // 2) // largest).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    return image.convert("RGB")


def _last_bytes(source: Path | BytesIO) -> bytes:
    with BytesIO(source.getvalue()) if isinstance(source, BytesIO) else source.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - END_BYTES))
        return stream.read()

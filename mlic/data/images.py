"""Image files: decoded to upright 8-bit RGB, and checked."""

import io
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
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
# Photographs of phones (HEIC) and others that Pillow alone cannot read; they are never passed over.
MORE_SUFFIXES = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".jxl", ".jxr", ".mpo"))
# Cameras' raw files. Many are TIFF files whose first image is a preview of some pixels.
RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
))  # fmt: skip
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
HEIF_READER = "pi_heif"
FULL_BITS = 16
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


class PixelError(ValueError):
    """Pixels of a form that is not used; the message is the whole reason."""


DraftSize = int | tuple[int, ...] | None


def check_bits_stored(bits_stored: int) -> int:
    """The setting `data.bits_stored`, if it is a whole number from 8 to 16; else an InputError."""
    if type(bits_stored) is not int or not 8 <= bits_stored <= FULL_BITS:
        raise InputError(f"data.bits_stored: '{bits_stored}' must be a whole number from 8 to {FULL_BITS}.")
    return bits_stored


def decode(
    source: Path | Image.Image, draft_size: DraftSize, bits_stored: int = FULL_BITS
) -> Image.Image | list[Image.Image]:
    """What a transform takes: an image, or with several draft sizes an image for each of them.

    Args:
        source: a file, or an image in memory, which is converted as `load_image` does, at its full size.
        draft_size: see `load_image`.
        bits_stored: see `load_image`.

    Raises:
        BadImageError: see `load_image`.
    """
    if isinstance(source, Image.Image):
        image = _convert(source, bits_stored)
        return [image] * len(draft_size) if isinstance(draft_size, tuple) else image
    if isinstance(draft_size, tuple):
        return _load(source, draft_size, bits_stored)
    return load_image(source, draft_size=draft_size, bits_stored=bits_stored)


def _convert(image: Image.Image, bits_stored: int) -> Image.Image:
    path = Path(getattr(image, "filename", "") or "image")
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise BadImageError(path, _size_in_words(image))
    try:
        return _to_rgb(_upright(image), bits_stored)
    except Exception as error:  # an opened file is decoded now
        raise BadImageError(path, _reason(path, error)) from error


def load_image(path: Path, *, draft_size: int | None = None, bits_stored: int = FULL_BITS) -> Image.Image:
    """Decode an image file, or an image in a tar shard, to upright 8-bit RGB.

    The first frame of an animation is taken, the EXIF orientation applied, 16-bit grey scaled to 8 bit, and
    alpha or a transparent colour laid on white. The file's name ending does not matter, except that a camera's
    raw file is refused: its TIFF content would be a small preview. HEIC needs the extra `mlic[heif]`.

    Args:
        path: the file.
        draft_size: decode a JPEG at a half, quarter or eighth of its size where its short side stays at least
            this
            many pixels: up to several times faster, when it will be scaled down anyway. Pixels differ
                slightly.
        bits_stored: of 16-bit grey, the bits in use (DICOM's term): values are scaled from
            0 .. 2^bits_stored - 1 to 0 .. 255. A file's own largest value is not looked at, so that equal
            values are equal in all files.

    Raises:
        BadImageError: missing, no image, truncated, of more than `MAX_PIXELS`, of a pixel form that is no
            picture, or with a value that takes more than `bits_stored`.
        InputError: its tar shard cannot be read; that is no fault of the image.
    """
    (image,) = _load(path, (draft_size,), bits_stored)
    return image


def _load(path: Path, draft_sizes: Sequence[int | None], bits_stored: int) -> list[Image.Image]:
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
                    decoded[sizes[-1]] = _to_rgb(_upright(image), bits_stored)
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


def full_check(path: Path, bits_stored: int = FULL_BITS) -> str | None:
    """Decode a file.

    Returns:
        What is wrong with it, or None.
    """
    try:
        load_image(path, bits_stored=bits_stored)
    except BadImageError as error:
        return error.reason
    return None


def largest_grey(path: Path) -> int | None:
    """The largest value of a 16-bit grey image; None for others, of which only the header is read.

    Raises:
        BadImageError: see `load_image`.
    """
    try:
        with _open(path) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I") else None
    except InputError:
        raise
    except Exception as error:  # as in `_load`
        raise BadImageError(path, _reason(path, error)) from error


def check_images(
    paths: Sequence[Path], *, full: bool = False, workers: int = 1, bits_stored: int = FULL_BITS
) -> dict[Path, str]:
    """Check many files, with a progress bar where the output is a terminal.

    Args:
        paths: the files.
        full: decode each; otherwise see `quick_check`.
        workers: threads (decoding does not hold Python's lock).
        bits_stored: see `load_image`.

    Returns:
        Bad files with what is wrong with each, in the order of `paths`.
    """
    check = partial(full_check, bits_stored=bits_stored) if full else quick_check
    with ThreadPoolExecutor(max(1, workers)) as pool:
        chunks = (paths[start : start + CHUNK_FILES] for start in range(0, len(paths), CHUNK_FILES))
        checks = chain.from_iterable(pool.map(check, chunk) for chunk in chunks)
        reasons = list(tqdm(checks, "checking images", len(paths), leave=False, disable=None))
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


@cache
def image_suffixes() -> frozenset[str]:
    """Name endings of `FORMATS`, and of other photographs but raw ones, in small letters with the dot."""
    own = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    return MORE_SUFFIXES | own


def reads_heif() -> bool:
    """Return True if the extra `mlic[heif]` is installed."""
    return find_spec(HEIF_READER) is not None


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
    image = _open_by_content(path, file)
    if image.format == "TIFF" and path.suffix.lower() in RAW_SUFFIXES:
        image.close()
        raise BadImageError(path, "a camera's raw file; convert it to JPEG or TIFF")
    if 0 < image.width * image.height <= MAX_PIXELS:
        return image
    image.close()
    raise BadImageError(path, _size_in_words(image))


def _open_by_content(path: Path, file: Path | io.BytesIO) -> Image.Image:
    try:
        return Image.open(file, formats=_formats())
    except Image.UnidentifiedImageError:
        if not _is_heif(file):
            raise
    if not reads_heif():
        raise BadImageError(path, "a HEIC file, which needs: pip install 'mlic[heif]'")
    # by its class, and not registered with Pillow, whose other users would read HEIC from then on
    return import_module(f"{HEIF_READER}.as_plugin").HeifImageFile(file)


def _is_heif(file: Path | io.BytesIO) -> bool:
    """By the main brand of an ISO media file; that of AVIF is Pillow's."""
    if isinstance(file, io.BytesIO):
        start = file.getvalue()[:12]
    else:
        with file.open("rb") as stream:
            start = stream.read(12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS


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
    if isinstance(error, PixelError):
        return str(error)
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
    text = " ".join(str(error).replace(str(path), path.name).split())
    return f"truncated or damaged ({text})"


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data is no reason to refuse the picture
        return image


def _to_rgb(image: Image.Image, bits_stored: int) -> Image.Image:
    if image.mode == "F":
        raise PixelError("pixels are floating-point numbers; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        # Pillow would clip at 255; 16 bits may also come as "I", in 32-bit integers
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        largest = 2**bits_stored - 1
        if values.max() > largest:
            raise PixelError(
                f"its largest value, {values.max()}, does not fit data.bits_stored={bits_stored}"
            )
        image = Image.fromarray(((values * 255 + largest // 2) // largest).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    return image.convert("RGB")


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - END_BYTES))
        return stream.read()

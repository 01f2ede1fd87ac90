"""Small JPEG copies of photographs for embedding in a page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mlic.data.images import FULL_BITS, ImageReference, check_bits_stored, open_image
from mlic.data.readers.tar_shards import find_indexed
from mlic.errors import InputError

QUALITY = 80


class Thumbnails:
    """Photographs of some folders, or of tar shards, as small JPEGs; each is read once."""

    def __init__(self, folders: Sequence[Path], pixels: int, bits_stored: int = FULL_BITS) -> None:
        """Read from `folders`; the longer side has at most `pixels`; for `bits_stored` see `open_image`."""
        self.folders = tuple(folder.resolve() for folder in folders)
        self.pixels, self.bits_stored = pixels, bits_stored
        self._read: dict[str, bytes | None] = {}

    @property
    def available(self) -> bool:
        """True if one of the folders exists."""
        return any(folder.is_dir() for folder in self.folders)

    def jpeg(self, file_name: str) -> bytes | None:
        """Return a small upright copy; None if the file is missing, unreadable or outside the folders."""
        if file_name not in self._read:
            self._read[file_name] = self._make(file_name)
        return self._read[file_name]

    def data_uri(self, file_name: str) -> str | None:
        """Return a small upright copy as a `data:` address, or None."""
        jpeg = self.jpeg(file_name)
        return None if jpeg is None else as_data_uri(jpeg)

    def reference(self, file_name: str) -> ImageReference | None:
        """Return the file or the image in a tar shard, or None if it is missing or outside the folders."""
        paths = [(folder / file_name).resolve() for folder in self.folders]
        inside = [
            path for path, folder in zip(paths, self.folders, strict=True) if path.is_relative_to(folder)
        ]
        file = next((path for path in inside if path.is_file()), None)
        return file or next(filter(None, map(find_indexed, inside)), None)

    def _make(self, file_name: str) -> bytes | None:
        reference = self.reference(file_name)
        if reference is None:
            return None
        try:
            small = thumbnail(reference, self.pixels, check_bits_stored(self.bits_stored))
        except InputError:  # the page shows a gap
            return None
        return to_jpeg(small)


def thumbnail(reference: ImageReference, pixels: int, bits_stored: int = FULL_BITS) -> Image.Image:
    """Return an image as read by training (upright RGB) with a longer side of at most `pixels`.

    Raises:
        InputError: see `mlic.data.open_image`.
    """
    image = open_image(reference, draft_size=pixels, bits_stored=bits_stored)
    image.thumbnail((pixels, pixels))
    return image


def to_jpeg(image: Image.Image) -> bytes:
    """Return the content of a JPEG file of an RGB image."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return stream.getvalue()


def as_data_uri(jpeg: bytes) -> str:
    """Return a JPEG file as a `data:` address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def image_folders(dataset: dict) -> list[Path]:
    """Return the folders of the photographs recorded in dataset.json."""
    folders = dataset.get("source", {}).get("images") or []
    return [Path(folder) for folder in ([folders] if isinstance(folders, str) else folders)]

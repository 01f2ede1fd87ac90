"""Small JPEG copies of photographs for embedding in a page."""

import base64
import io
from pathlib import Path

from PIL import Image

from mlic.data.images import FULL_BITS, ImageReference, check_bits_stored, open_image
from mlic.data.tars.index import find_indexed
from mlic.errors import InputError

QUALITY = 80


class Thumbnails:
    """Photographs of one folder, or of tar shards, as small JPEGs; each is read once."""

    def __init__(self, folder: Path | None, pixels: int, bits_stored: int = FULL_BITS) -> None:
        """Read from `folder` (or None); the longer side has at most `pixels`; for `bits_stored` see `open_image`."""
        self.folder = None if folder is None else folder.resolve()
        self.pixels, self.bits_stored = pixels, bits_stored
        self._read: dict[str, bytes | None] = {}

    @property
    def available(self) -> bool:
        """True if the folder exists."""
        return self.folder is not None and self.folder.is_dir()

    def jpeg(self, file_name: str) -> bytes | None:
        """Return a small upright copy; None if the file is missing, unreadable or outside the folder."""
        if file_name not in self._read:
            self._read[file_name] = self._make(file_name)
        return self._read[file_name]

    def data_uri(self, file_name: str) -> str | None:
        """Return a small upright copy as a `data:` address, or None."""
        jpeg = self.jpeg(file_name)
        return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()

    def reference(self, file_name: str) -> ImageReference | None:
        """Return the file or the image in a tar shard, or None if it is missing or outside the folder."""
        if self.folder is None:
            return None
        path = (self.folder / file_name).resolve()
        if not path.is_relative_to(self.folder):
            return None
        return path if path.is_file() else find_indexed(path)

    def _make(self, file_name: str) -> bytes | None:
        reference = self.reference(file_name)
        if reference is None:
            return None
        try:
            small = thumbnail(reference, self.pixels, check_bits_stored(self.bits_stored))
        except InputError:  # the page shows a gap
            return None
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=QUALITY, optimize=True)
        return stream.getvalue()


def thumbnail(reference: ImageReference, pixels: int, bits_stored: int = FULL_BITS) -> Image.Image:
    """Return an image as read by training (upright RGB) with a longer side of at most `pixels`.

    Raises:
        InputError: see `mlic.data.open_image`.
    """
    image = open_image(reference, draft_size=pixels, bits_stored=bits_stored)
    image.thumbnail((pixels, pixels))
    return image


def image_folder(dataset: dict) -> Path | None:
    """Return the folder of the photographs recorded in dataset.json."""
    folder = dataset.get("source", {}).get("images")
    return None if folder is None else Path(folder)

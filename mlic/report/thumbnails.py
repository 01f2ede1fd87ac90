"""Small JPEG copies of photographs, to be embedded in a page."""

import base64
import io
from pathlib import Path

from PIL import Image

from mlic.data.images import FULL_BITS, check_bits_stored, load_image
from mlic.errors import InputError
from mlic.tars.members import find_member

QUALITY = 80


class Thumbnails:
    """Photographs of one folder, or of tar shards, as JPEG bytes; each is read once."""

    def __init__(self, folder: Path | None, pixels: int, bits_stored: int = FULL_BITS) -> None:
        """Read from `folder` (None: there is none), longer side at most `pixels`; bits as for `load_image`."""
        self.folder = None if folder is None else folder.resolve()
        self.pixels, self.bits_stored = pixels, bits_stored
        self._read: dict[str, bytes | None] = {}

    @property
    def available(self) -> bool:
        """Whether the folder is there."""
        return self.folder is not None and self.folder.is_dir()

    def jpeg(self, file_name: str) -> bytes | None:
        """A small upright copy; None where the file is absent, unreadable or outside the folder."""
        if file_name not in self._read:
            self._read[file_name] = self._make(file_name)
        return self._read[file_name]

    def data_uri(self, file_name: str) -> str | None:
        """The same as a `data:` address."""
        jpeg = self.jpeg(file_name)
        return None if jpeg is None else "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()

    def path(self, file_name: str) -> Path | None:
        """The file, if it is there and inside the folder."""
        if self.folder is None:
            return None
        path = (self.folder / file_name).resolve()
        is_there = path.is_relative_to(self.folder) and (path.is_file() or find_member(path) is not None)
        return path if is_there else None

    def _make(self, file_name: str) -> bytes | None:
        path = self.path(file_name)
        if path is None:
            return None
        try:
            small = thumbnail(path, self.pixels, check_bits_stored(self.bits_stored))
        except InputError:  # the page shows a gap
            return None
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=QUALITY, optimize=True)
        return stream.getvalue()


def thumbnail(path: Path, pixels: int, bits_stored: int = FULL_BITS) -> Image.Image:
    """An image as training reads it, upright RGB, its longer side at most `pixels`.

    Raises:
        InputError: see `mlic.data.load_image`.
    """
    image = load_image(path, draft_size=pixels, bits_stored=bits_stored)
    image.thumbnail((pixels, pixels))
    return image


def image_folder(dataset: dict) -> Path | None:
    """The folder of the photographs as dataset.json names it."""
    folder = dataset.get("source", {}).get("images")
    return None if folder is None else Path(folder)

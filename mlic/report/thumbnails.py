"""Small copies of photographs for embedding in a page, one copy of each."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mlic.data.images import FULL_BITS, ImageReference, check_bits_stored, open_image
from mlic.data.readers.tar_shards import find_indexed
from mlic.errors import InputError

PIXELS = 192  # longer side
QUALITY = 65
MAX_BYTES = 3_000_000  # of all `data:` addresses of a page
MAX_PHOTOGRAPHS = 800  # of a page, with and without an image


class ImageFolders:
    """The photographs of some folders, or of tar shards."""

    def __init__(self, folders: Sequence[Path], bits_stored: int = FULL_BITS) -> None:
        """Read from `folders`; for `bits_stored` see `open_image`."""
        self.folders = tuple(folder.resolve() for folder in folders)
        self.bits_stored = bits_stored

    @property
    def available(self) -> bool:
        """True if one of the folders exists."""
        return any(folder.is_dir() for folder in self.folders)

    def reference(self, file_name: str) -> ImageReference | None:
        """Return the file or the image in a tar shard, or None if it is missing or outside the folders."""
        paths = [(folder / file_name).resolve() for folder in self.folders]
        inside = [
            path for path, folder in zip(paths, self.folders, strict=True) if path.is_relative_to(folder)
        ]
        file = next((path for path in inside if path.is_file()), None)
        return file or next(filter(None, map(find_indexed, inside)), None)

    def thumbnail(self, file_name: str) -> Image.Image | None:
        """Return a small upright RGB copy; None if the file is missing, unreadable or outside the folders."""
        reference = self.reference(file_name)
        try:
            bits_stored = check_bits_stored(self.bits_stored)
            return None if reference is None else thumbnail(reference, bits_stored)
        except InputError:  # the page shows a gap
            return None


class PhotographPool:
    """The photographs of a page, each once, in the order in which they were added."""

    def __init__(self) -> None:
        """Begin without photographs."""
        self.names: list[str] = []
        self.addresses: list[str | None] = []
        self.bytes = 0
        self._index: dict[tuple[tuple[Path, ...], str], int] = {}

    def add(self, source: ImageFolders, file_name: str) -> int | None:
        """Return the index of a photograph, or None if it is new and the page is full."""
        key = (source.folders, file_name)
        if key not in self._index and self.bytes < MAX_BYTES and len(self.names) < MAX_PHOTOGRAPHS:
            image = source.thumbnail(file_name)
            self._index[key] = self._append(file_name, None if image is None else data_uri(image))
        return self._index.get(key)

    def find(self, source: ImageFolders, file_name: str) -> int | None:
        """Return the index of a photograph that was added, or None."""
        return self._index.get((source.folders, file_name))

    def _append(self, name: str, address: str | None) -> int:
        self.names.append(name)
        self.addresses.append(address)
        self.bytes += len(address or "")
        return len(self.names) - 1


def thumbnail(reference: ImageReference, bits_stored: int = FULL_BITS) -> Image.Image:
    """Return an image as read by training (upright RGB) with a longer side of at most PIXELS.

    Raises:
        InputError: see `mlic.data.open_image`.
    """
    image = open_image(reference, draft_size=PIXELS, bits_stored=bits_stored)
    image.thumbnail((PIXELS, PIXELS))
    return image


def data_uri(image: Image.Image) -> str:
    """Return an RGB image as the `data:` address of a WebP file."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def image_folders(dataset: dict) -> list[Path]:
    """Return the folders of the photographs recorded in dataset.json."""
    folders = dataset.get("source", {}).get("images") or []
    return [Path(folder) for folder in ([folders] if isinstance(folders, str) else folders)]

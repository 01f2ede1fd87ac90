"""Small JPEG copies of photographs, to be embedded in a page."""

import base64
import io
from pathlib import Path

from PIL import Image, ImageOps

from mlic.tars.members import find_member, read_member

# Pictures only; Pillow would also hand PostScript to an interpreter.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
QUALITY = 80


class Thumbnails:
    """Photographs of one folder, or of tar shards, as JPEG bytes; each is read once."""

    def __init__(self, folder: Path | None, pixels: int) -> None:
        """Read from `folder` (None: there is none), longer side at most `pixels`."""
        self.folder = None if folder is None else folder.resolve()
        self.pixels = pixels
        self._formats: list[str] | None = None
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
            with Image.open(image_source(path), formats=self._known_formats()) as image:
                image.draft("RGB", (self.pixels, self.pixels))
                upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((self.pixels, self.pixels))
            stream = io.BytesIO()
            upright.save(stream, "JPEG", quality=QUALITY, optimize=True)
            return stream.getvalue()
        except Exception:  # decoders raise almost anything on broken data; the page shows a gap
            return None

    def _known_formats(self) -> list[str]:
        """Those of FORMATS that this Pillow was built with; it fails on others."""
        if self._formats is None:
            Image.init()
            self._formats = [name for name in FORMATS if name in Image.OPEN]
        return self._formats


def image_source(path: Path) -> Path | io.BytesIO:
    """What Pillow opens: the file, or the content of an image in a tar shard.

    Raises:
        InputError: the shard cannot be read.
    """
    member = find_member(path)
    return path if member is None else io.BytesIO(read_member(member))


def image_folder(dataset: dict) -> Path | None:
    """The folder of the photographs as dataset.json names it."""
    folder = dataset.get("source", {}).get("images")
    return None if folder is None else Path(folder)

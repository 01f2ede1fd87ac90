"""COCO val2017: 5,000 photographs with 80 classes, downloaded on first use."""

from pathlib import Path

from filelock import FileLock

from mlic.data.cache import cache_dir
from mlic.data.download import RemoteFile, download, unpack
from mlic.data.readers.coco import read_coco
from mlic.data.table import LabelTable
from mlic.errors import InputError

BASE_URL = "http://images.cocodataset.org"
# COCO publishes no digests; these are the MD5 digests in general use for its two archives.
IMAGES = RemoteFile("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80")
ANNOTATIONS = RemoteFile("annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c")
INSTANCES, PHOTOGRAPHS = "annotations/instances_val2017.json", "val2017"


def read_coco_val2017(
    images: str | Path | None = None,
    *,
    base_url: str = BASE_URL,
    crowd: str = "keep",
    unannotated: str = "keep",
) -> LabelTable:
    """Read COCO val2017, and download it first if it is missing (1.1 GB, 0.9 GB unpacked).

    The folder has COCO's layout: `val2017/` and `annotations/instances_val2017.json`. If one of them is missing, its
    archive is downloaded into the folder, unless it is already there, and unpacked. The archives can be removed
    afterwards.

    Args:
        images: the folder. Default: a folder in the cache.
        base_url: address of a mirror, without `/zips/val2017.zip`.
        crowd: see `read_coco`.
        unannotated: see `read_coco`.

    Returns:
        The label table.

    Raises:
        InputError: the download failed or the files are wrong; the message says which files to put where.
    """
    folder = Path(images) if images is not None else cache_dir() / "coco_val2017"
    members = {INSTANCES: ANNOTATIONS, PHOTOGRAPHS: IMAGES}
    if not all(_is_there(folder / member) for member in members):  # a complete folder may be read-only
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for member, archive in members.items():
                if not _is_there(folder / member):
                    unpack(_download(archive, folder, base_url), member, folder / member)
    return read_coco(folder / INSTANCES, folder / PHOTOGRAPHS, crowd=crowd, unannotated=unannotated)


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def _download(archive: RemoteFile, folder: Path, base_url: str) -> Path:
    try:
        return download(RemoteFile(f"{base_url}/{archive.url}", archive.md5), folder / Path(archive.url).name)
    except InputError as error:
        raise InputError(
            f"{error}\nCOCO val2017 consists of {base_url}/{IMAGES.url} and {base_url}/{ANNOTATIONS.url}. "
            f"To avoid this download, put both archives into {folder}, or a copy of COCO at {folder / PHOTOGRAPHS} and "
            f"{folder / INSTANCES}; or set data.images to a folder that contains them."
        ) from error

"""COCO val2017: 5,000 photographs with 80 classes, downloaded on first use."""

from pathlib import Path

from filelock import FileLock

from mlic.data.annotations import read_coco
from mlic.data.cache import cache_dir
from mlic.data.download import RemoteFile, download, unpack
from mlic.data.table import LabelTable
from mlic.errors import InputError

BASE_URL = "http://images.cocodataset.org"
# The MD5 digests are those in general use for the two files of the COCO site.
IMAGES = RemoteFile("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80")
ANNOTATIONS = RemoteFile("annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c")
INSTANCES = "annotations/instances_val2017.json"


def read_coco_val2017(
    images: str | Path | None = None,
    *,
    base_url: str = BASE_URL,
    crowd: str = "keep",
    unannotated: str = "keep",
) -> LabelTable:
    """Read COCO val2017, and download it first if it is not there (1.1 GB, and 0.9 GB unpacked).

    The folder has COCO's own layout, `val2017/` and `annotations/instances_val2017.json`; where one of them
    is missing its archive is looked for in the folder, then downloaded into it. Archives may be removed
    afterwards.

    Args:
        images: that folder; by default one in the cache.
        base_url: what comes before `/zips/val2017.zip`, for a mirror.
        crowd: see `read_coco`.
        unannotated: see `read_coco`.

    Returns:
        The table of labels.

    Raises:
        InputError: no connection, or wrong files; the message has the addresses and where to put the files.
    """
    folder = Path(images) if images is not None else cache_dir() / "coco_val2017"
    instances, photographs = folder / INSTANCES, folder / "val2017"
    if not (instances.is_file() and _has_files(photographs)):  # a folder that has all may be read-only
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            try:
                if not instances.is_file():
                    archive = _archive(ANNOTATIONS, folder, base_url)
                    unpack(archive, INSTANCES, instances)
                if not _has_files(photographs):
                    archive = _archive(IMAGES, folder, base_url)
                    unpack(archive, "val2017", photographs)
            except InputError as error:
                raise InputError(f"{error}\n{_by_hand(folder, base_url)}") from error
    return read_coco(instances, photographs, crowd=crowd, unannotated=unannotated)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _archive(part: RemoteFile, folder: Path, base_url: str) -> Path:
    remote = RemoteFile(f"{base_url}/{part.url}", part.md5)
    return download(remote, folder / Path(part.url).name)


def _by_hand(folder: Path, base_url: str) -> str:
    return (
        f"COCO val2017 is made of {base_url}/{IMAGES.url} and {base_url}/{ANNOTATIONS.url}. "
        f"To do without this download, put both files into {folder} as they are, or a copy of COCO as "
        f"{folder / 'val2017'} and {folder / INSTANCES}; or set data.images to a folder that has them."
    )

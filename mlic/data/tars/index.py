"""Index of the content of tar shards. Each shard is read once; the index is kept in the cache folder."""

import hashlib
import io
import json
import logging
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

from filelock import FileLock
from tqdm import tqdm

from mlic.addresses import open_address
from mlic.data.cache import cache_dir
from mlic.data.file_names import leaves_folder
from mlic.data.images import image_suffixes, quick_check, reads_heif
from mlic.data.tars.images import TarImage
from mlic.data.tars.listing import UNPACK, Shard, ShardPaths, list_shards
from mlic.errors import InputError

logger = logging.getLogger(__name__)

VERSION = 1
LABEL_MEMBERS = ("json", "cls", "txt", "labels")
MOST_LABEL_BYTES, MOST_IMAGE_BYTES = 1 << 22, 1 << 30
REQUEST_BYTES = 1 << 22
STREAM_BYTES = 1 << 16  # a small value, because tarfile copies its buffer at each read
PROBLEMS_SHOWN = 20
MOST_THREADS = 8
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
CUT_OFF = "the tar file ends without an end mark: it was truncated, or its writer was not closed"

Problem = tuple[str, str]


class ShardIndex(NamedTuple):
    """The usable images of a shard in the order of their names.

    Attributes:
        images: locations of the images.
        labels: labels of each image: a text, a list of names or numbers, or None.
        problems: unusable members and the reasons.
    """

    images: list[TarImage]
    labels: list[Any]
    problems: list[Problem]


def read_shards(
    paths: ShardPaths, *, on_bad_sample: str = "drop", label_member: str = "none", label_key: str = ""
) -> tuple[str, dict[str, TarImage], list[Any]]:
    """List the images in tar shards; new and changed shards are read and indexed.

    Args:
        paths: see `list_shards`.
        on_bad_sample: `error`, or `drop` to leave out and log broken and incomplete samples.
        label_member: extension of the members with labels; `auto` takes the one present, `none` reads no labels.
        label_key: key of the labels in a JSON object.

    Returns:
        The folder of all shards; the images by `<shard>/<name in the shard>`, sorted; and the labels of each image, see
        `ShardIndex`.

    Raises:
        InputError: shards are missing or cannot be read, or, with `error`, members cannot be used.
    """
    root, shards = list_shards(paths)
    folder = _cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # the lock keeps several processes of one training from reading the same shards
    with FileLock(folder / ".lock"), ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        jobs = threads.map(lambda shard: _index(shard, label_member, label_key), shards)
        found = list(tqdm(jobs, "reading shards", len(shards), leave=False, disable=None))
    read = sum(is_new for _, is_new in found)
    logger.info("%d tar shards, %d of them newly indexed in '%s'", len(shards), read, folder)
    images, labels, problems = {}, [], []
    for shard, (index, _) in zip(shards, found, strict=True):
        images |= {f"{shard.name}/{image.name}": image for image in index.images}
        labels += index.labels
        problems += [f"  {shard.url}: {member or 'the shard'}: {text}" for member, text in index.problems]
    if problems:
        message = f"{len(problems)} members of the tar shards cannot be used"
        more = [f"  and {len(problems) - PROBLEMS_SHOWN} more"] if len(problems) > PROBLEMS_SHOWN else []
        listing = "\n".join(problems[:PROBLEMS_SHOWN] + more)
        if on_bad_sample == "error":
            advice = "Repair them, or leave their samples out with data.on_bad_image=drop."
            raise InputError(f"{message}:\n{listing}\n{advice}")
        logger.warning("%s; their samples are left out:\n%s", message, listing)
    return root, images, labels


def find_indexed(path: Path) -> TarImage | None:
    """Find an image of a local shard that was indexed before; only the index in the cache folder is read.

    Args:
        path: `<shard>/<name in the shard>`.
    """
    for shard in path.parents:
        if shard.is_file():
            name = path.relative_to(shard).as_posix()
            for file in _cache_folder().glob(f"{_digest(str(shard))}-*.json"):
                index = _load(file, str(shard))
                for image in index.images if index else ():
                    if image.name == name:
                        return image
    return None


def _cache_folder() -> Path:
    return cache_dir() / "webdataset"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _index(shard: Shard, label_member: str, label_key: str) -> tuple[ShardIndex, bool]:
    """Return the index, and True if the shard had to be read."""
    is_local = "://" not in shard.url
    # signatures after '?' change, and links may lead to the same shard
    place = os.path.realpath(shard.url) if is_local else shard.url.partition("?")[0]
    # another version of the image reader may find other defects
    identity = json.dumps([VERSION, shard.state, label_member, label_key, reads_heif()])
    file = _cache_folder() / f"{_digest(place)}-{_digest(identity)}.json"
    index = _load(file, shard.url)
    if index is not None:
        return index, False
    index = _ShardScan(shard, label_member, label_key).run()
    content = [[image[1:] for image in index.images], index.labels, index.problems]
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(file)
    return index, True


def _load(file: Path, url: str) -> ShardIndex | None:
    """Load an index; None if it is missing or broken."""
    try:
        images, labels, problems = json.loads(file.read_bytes())
        problems = [(member, text) for member, text in problems]
        return ShardIndex([TarImage(url, *image) for image in images], labels, problems)
    except (OSError, ValueError, TypeError):
        return None


class _StrictHeader(tarfile.TarInfo):
    """A header reader that accepts only zeros as the end of the archive; tarfile accepts any invalid header."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_StrictHeader":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            reason = CUT_OFF if len(buf) < tarfile.BLOCKSIZE else "no tar header here"
            raise tarfile.ReadError(reason) from None


@dataclass
class _Sample:
    """Members of one sample: images, and labels by extension."""

    images: list[TarImage] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = True


class _ShardScan:
    """Collects the samples and problems of a shard."""

    def __init__(self, shard: Shard, label_member: str, label_key: str) -> None:
        self.shard, self.label_member, self.label_key = shard, label_member, label_key
        self.label_endings = LABEL_MEMBERS if label_member == "auto" else (label_member,)
        self.samples: dict[str, _Sample] = {}
        self.seen: set[str] = set()
        self.problems: list[Problem] = []

    def run(self) -> ShardIndex:
        """Read the shard.

        Raises:
            InputError: the shard cannot be read, is compressed, or is not a tar file.
        """
        url = self.shard.url
        options = {"cache_type": "readahead", "block_size": REQUEST_BYTES} if "://" in url else {}
        try:
            system, path = open_address(url)
            with system.open(path, "rb", **options) as file:
                start = file.read(6)
                if not start:
                    raise InputError(
                        f"{url}: the shard is empty (0 bytes). Remove it from data.images, or copy it again."
                    )
                if start.startswith(COMPRESSED):
                    raise InputError(f"{url}: {UNPACK}")
                file.seek(0)
                self._read(file)
        except InputError:
            raise
        except Exception as error:  # each protocol has its own errors
            raise InputError(
                f"{url}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it is "
                "available; shards that are already indexed are not read again."
            ) from error
        samples = [
            sample
            for key, sample in self.samples.items()
            if sample.is_whole and self._check_sample(key.removeprefix("/"), sample)
        ]
        samples.sort(key=lambda sample: sample.images[0].name)
        labels = [next(iter(sample.labels.values()), None) for sample in samples]
        return ShardIndex([sample.images[0] for sample in samples], labels, self.problems)

    def _read(self, file: Any) -> None:
        try:
            archive: Any = tarfile.open(fileobj=file, mode="r|", bufsize=STREAM_BYTES, tarinfo=_StrictHeader)  # noqa: SIM115
        except tarfile.TarError as error:
            raise InputError(
                f"{self.shard.url}: not a tar file ({error}). Remove it from data.images."
            ) from None
        name = ""
        try:
            while (member := archive.next()) is not None:
                archive.members.clear()
                name = member.name
                self._add(archive, member)
            if any(archive.fileobj.read(REQUEST_BYTES)):
                text = "data after the end mark (concatenated tars?) is not read; pack the shard again"
                self.problems.append(("", text))
        except tarfile.TarError as error:
            reason = CUT_OFF if "end of data" in str(error) or str(error) == CUT_OFF else f"damaged ({error})"
            self.problems.append((name, f"the shard cannot be read from here on: {reason}"))

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = normpath(member.name) if member.name.startswith("./") or "//" in member.name else member.name
        folder, _, base = name.rpartition("/")
        # WebDataset's rule: the key of a sample is its name up to the first dot; hidden files have no key
        stem, _, ending = base.partition(".")
        ending = ending.lower()
        is_image = f".{ending}" in image_suffixes()
        if member.isdir() or not stem or not (is_image or ending in self.label_endings):
            return
        sample = self.samples.setdefault(f"{folder}/{stem}", _Sample())
        limit = MOST_IMAGE_BYTES if is_image else MOST_LABEL_BYTES
        problem = _problem_of(member, name, limit)
        if problem is None and name in self.seen:
            problem = "the name occurs twice in the shard; names must be unique"
        self.seen.add(name)
        if problem is None:
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            if is_image:
                digest, flaw = hashlib.sha256(content).hexdigest(), quick_check(io.BytesIO(content)) or ""
                image = TarImage(self.shard.url, name, member.offset_data, member.size, digest, flaw)
                sample.images.append(image)
            else:
                problem = self._add_labels(sample, content, ending)
        if problem is not None:
            sample.is_whole = False
            self.problems.append((member.name, problem))

    def _add_labels(self, sample: _Sample, content: bytes, ending: str) -> str | None:
        """Add the labels of a member; return the problem, or None."""
        try:
            sample.labels[ending] = self._parse_labels(content, ending)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            return (
                f"malformed ({type(error).__name__}: {error}); a .json must be an object with a list of class names "
                f"or numbers under the key '{self.label_key}' (data.reader.label_key)"
            )
        return None

    def _parse_labels(self, content: bytes, ending: str) -> Any:
        text = content.decode("utf-8-sig")
        if ending != "json":
            return text.strip()
        labels = json.loads(text)[self.label_key]
        if not isinstance(labels, list) or not all(type(label) in (str, int) for label in labels):
            raise ValueError(f"{str(labels)[:80]!r} is not a list of names or numbers")
        return labels

    def _check_sample(self, key: str, sample: _Sample) -> bool:
        """Return True if the sample has one image and, if labels are read, one member with labels."""
        names = ", ".join(image.name for image in sample.images)
        endings = ", ".join(sample.labels)
        if not sample.images:
            problem = f"{key}.{endings}", "labels without an image of that name"
        elif len(sample.images) > 1:
            count = len(sample.images)
            problem = key, f"{count} images in one sample ({names}); rename others, such as to .mask.png"
        elif len(sample.labels) > 1:
            problem = key, f"labels in {endings}; choose one with data.reader.label_member"
        elif not sample.labels and self.label_member != "none":
            wanted = f"{key}.{' or .'.join(self.label_endings)} beside it, empty for none"
            problem = names, f"no labels; expected {wanted}, or data.annotations=labels.csv"
        else:
            return True
        self.problems.append(problem)
        return False


def _problem_of(member: tarfile.TarInfo, name: str, limit: int) -> str | None:
    if leaves_folder(name):
        return "the name leads out of the shard; expected a relative name without '..'"
    if not name.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in name):
        return "the name is not printable UTF-8"
    if not member.isreg() or member.issparse():
        return "a link, device or sparse file; expected a regular file (tar --dereference packs the targets of links)"
    return f"{member.size} bytes, more than the limit of {limit}" if member.size > limit else None

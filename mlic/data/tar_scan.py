"""One pass over a tar shard: where its images lie, what they are, and what their labels say."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from posixpath import normpath
from typing import IO, Any

import numpy as np

from mlic.addresses import open_address
from mlic.data.file_names import leaves_folder
from mlic.data.images import image_suffixes, quick_check_bytes, reads_heif
from mlic.errors import InputError
from mlic.tars.index import ShardIndex, Texts
from mlic.tars.listing import ShardFile, refuse_compressed

LABEL_MEMBERS = ("json", "cls", "txt", "labels")
MOST_LABEL_BYTES, MOST_IMAGE_BYTES = 1 << 22, 1 << 30
PROBLEMS_KEPT = 100  # a shard
REQUEST_BYTES, REST_BYTES = 1 << 22, 1 << 22
STREAM_BYTES = 1 << 16  # tarfile copies what it holds of these at each read
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
CUT_OFF = "the tar ends here without its end mark: it was cut off, or its writer was not closed"


@dataclass(frozen=True)
class LabelSource:
    """Where a sample's labels stand.

    Attributes:
        member: `json`, `cls`, `txt`, `labels`; `auto` for the one that is there; `none` for nowhere in the tars.
        key: of a JSON object.
    """

    member: str
    key: str

    def is_label(self, ending: str) -> bool:
        """Whether a member with that ending is looked at."""
        return ending in LABEL_MEMBERS if self.member == "auto" else ending == self.member


@dataclass
class Sample:
    """Members of one name; `images` are (name, offset, size, digest, flaw), `labels` JSON by ending."""

    images: list[tuple[str, int, int, bytes, str]] = field(default_factory=list)
    labels: dict[str, bytes] = field(default_factory=dict)
    spoilt: bool = False


class StrictHeader(tarfile.TarInfo):
    """Python's reader takes whatever is no header for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "StrictHeader":
        """As tarfile's; only a block of zeros ends the archive."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(
                CUT_OFF if len(buf) < tarfile.BLOCKSIZE else "no tar header here"
            ) from None


class ShardScan:
    """Collects the samples of a shard and what is wrong with it."""

    def __init__(self, shard: ShardFile, source: LabelSource) -> None:
        """Nothing is read yet."""
        self.shard, self.source = shard, source
        self.samples: dict[str, Sample] = {}
        self.seen: set[str] = set()
        self.problems: list[tuple[str, str]] = []
        self.num_problems = 0

    def run(self) -> ShardIndex:
        """Read the shard from its beginning to its end.

        Raises:
            InputError: it cannot be read, is compressed, or no tar.
        """
        with _opened(self.shard.url) as file:
            _refuse_by_magic(self.shard.url, file)
            try:
                archive = tarfile.open(fileobj=file, mode="r|", bufsize=STREAM_BYTES, tarinfo=StrictHeader)  # noqa: SIM115
            except tarfile.TarError as error:
                raise InputError(
                    f"{self.shard.url}: not a tar file ({error}). Remove it from data.images."
                ) from None
            self._read_members(archive)
        return self._index()

    def _read_members(self, archive: tarfile.TarFile) -> None:
        last = ""
        try:
            kept: Any = archive
            while (member := archive.next()) is not None:
                kept.members.clear()
                last = member.name
                self._take(archive, member)
            rest: Any = archive.fileobj
            if any(rest.read(REST_BYTES)):
                self._note(
                    "", "more follows behind the end mark (joined tars?) and is not read; pack it again"
                )
        except tarfile.TarError as error:
            reason = CUT_OFF if "end of data" in str(error) or str(error) == CUT_OFF else f"damaged ({error})"
            self._note(last, f"the shard cannot be read from here on: {reason}")

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = normpath(member.name) if member.name.startswith("./") or "//" in member.name else member.name
        folder, _, base = name.rpartition("/")
        stem, _, ending = base.partition(".")
        ending = ending.lower()
        if member.isdir() or not stem or not (ending in _image_endings() or self.source.is_label(ending)):
            return  # WebDataset's rule: the name up to the first dot is the sample's; hidden files have none
        problem = self._refusal(member, name)
        key = f"{folder}/{stem}"
        sample = self.samples.setdefault(key, Sample())
        if problem is None and name in self.seen:
            sample.spoilt, problem = True, "it is in the shard twice; expected each name once"
        self.seen.add(name)
        if problem is not None:
            sample.spoilt = True
            self._note(member.name, problem)
        elif ending in _image_endings():
            content = _content(archive, member)
            flaw = quick_check_bytes(content) or ""
            digest = hashlib.sha256(content).digest()
            sample.images.append((name, member.offset_data, member.size, digest, flaw))
        else:
            self._take_labels(archive, member, ending, sample)

    def _refusal(self, member: tarfile.TarInfo, name: str) -> str | None:
        if leaves_folder(name):
            return "the name leads out of the shard; expected a relative one without '..'"
        if not name.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in name):
            return "the name is no printable UTF-8"
        if not member.isreg() or member.issparse():
            return "a link, device or sparse file; expected a plain file (tar --dereference packs what links lead to)"
        limit = MOST_IMAGE_BYTES if name.rpartition(".")[2].lower() in _image_endings() else MOST_LABEL_BYTES
        return f"{member.size} bytes, more than the limit of {limit}" if member.size > limit else None

    def _take_labels(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str, sample: Sample
    ) -> None:
        try:
            text = _content(archive, member).decode("utf-8-sig")
            found = _from_json(text, self.source.key) if ending == "json" else text.strip()
        except (ValueError, RecursionError) as error:
            sample.spoilt = True
            self._note(member.name, str(error) if type(error) is ValueError else f"malformed ({error})")
            return
        sample.labels[ending] = json.dumps(found, ensure_ascii=False).encode()

    def _note(self, member: str, problem: str) -> None:
        self.num_problems += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((member, problem))

    def _index(self) -> ShardIndex:
        rows: list[tuple[bytes, tuple[str, int, int, bytes, str], bytes]] = []
        for key, sample in self.samples.items():
            if not sample.spoilt and self._is_whole(key.removeprefix("/"), sample):
                labels = next(iter(sample.labels.values()), b"")
                rows.append((sample.images[0][0].encode(), sample.images[0], labels))
        rows.sort(key=lambda row: row[0])
        images = [image for _, image, _ in rows]
        digests = b"".join(digest for *_, digest, _ in images)
        return ShardIndex(
            url=self.shard.url,
            key=index_key(self.shard, self.source),
            names=Texts.of([name for name, *_ in rows]),
            offsets=np.array([image[1] for image in images], dtype=np.int64),
            sizes=np.array([image[2] for image in images], dtype=np.int64),
            digests=np.frombuffer(digests, dtype=np.uint8).reshape(len(rows), 32),
            labels=Texts.of([labels for *_, labels in rows]),
            flaws={row: image[4] for row, image in enumerate(images) if image[4]},
            problems=self.problems,
            num_problems=self.num_problems,
        )

    def _is_whole(self, key: str, sample: Sample) -> bool:
        """Whether there is one image, and labels where they are looked for."""
        if not sample.images:
            if sample.labels:
                self._note(f"{key}.{next(iter(sample.labels))}", "labels without an image of that name")
            return False
        if len(sample.images) > 1:
            names = ", ".join(image[0] for image in sample.images)
            self._note(key, f"{len(sample.images)} images in one sample ({names}); expected one: rename the others, "
                            "such as to .mask.png, which is not looked at")  # fmt: skip
        elif len(sample.labels) > 1:
            self._note(
                key, f"labels in {', '.join(sorted(sample.labels))}; choose one by data.reader.label_member"
            )
        elif not sample.labels and self.source.member != "none":
            wanted = "json, cls, txt or labels" if self.source.member == "auto" else self.source.member
            self._note(sample.images[0][0], f"no labels; expected {key}.{wanted} beside it, empty for an image "
                                            "without labels, or data.annotations=labels.csv")  # fmt: skip
        else:
            return True
        return False


def index_key(shard: ShardFile, source: LabelSource) -> dict[str, Any]:
    """What an index depends on."""
    # with another reader the flaws are others; an index of before HEIC was looked for has no such key
    return {
        "state": shard.state,
        "label_member": source.member,
        "label_key": source.key,
        "heif": reads_heif(),
    }


@contextmanager
def _opened(url: str) -> Iterator[IO[bytes]]:
    """The shard, to be read in order; errors of the protocol become ours."""
    try:
        system, path = open_address(url)
        options = {"cache_type": "readahead", "block_size": REQUEST_BYTES} if "://" in url else {}
        with system.open(path, "rb", **options) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise InputError(
            f"{url}: the shard cannot be read ({type(error).__name__}: {error}). Start again when it can; shards "
            "that were read are not read again."
        ) from error


def _refuse_by_magic(url: str, file: IO[bytes]) -> None:
    start = file.read(6)
    if not start:
        raise InputError(
            f"{url}: the shard is empty (0 bytes). Remove it from data.images, or copy it again."
        )
    if start.startswith(COMPRESSED):
        raise InputError(refuse_compressed(url))
    file.seek(0)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _from_json(text: str, key: str) -> Any:
    content = json.loads(text)
    if not isinstance(content, dict) or key not in content:
        raise ValueError(
            f"no key '{key}' in a JSON object; name the one with the labels by data.reader.label_key"
        )
    labels = content[key]
    if not isinstance(labels, list) or not all(type(label) in (str, int) for label in labels):
        raise ValueError(f"'{key}' is {str(labels)[:80]!r}; expected a list of class names or numbers")
    return labels


@cache
def _image_endings() -> frozenset[str]:
    return frozenset(suffix.removeprefix(".") for suffix in image_suffixes())

"""The one form every annotation format is read into."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, overload

import numpy as np

from mlic.data.images import ImageReference
from mlic.data.tars.images import TarImage
from mlic.errors import InputError

NAMES_SHOWN = 5


class ImageReferences(Sequence[ImageReference]):
    """References made when they are asked for: a million paths would take 0.3 GB, and as much again once compared."""

    def __init__(
        self, folder: Path, names: np.ndarray, tar_images: Mapping[str, TarImage] | None = None
    ) -> None:
        """Refer to files below a folder, or to `tar_images`; names (N,) of str."""
        self.folder, self.names, self.tar_images = folder, names, tar_images

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> ImageReference: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageReferences": ...
    def __getitem__(self, index: int | slice) -> "ImageReference | ImageReferences":
        """One reference, or the references of a slice."""
        if isinstance(index, slice):
            return ImageReferences(self.folder, self.names[index], self.tar_images)
        name = self.names[index]
        return self.folder / name if self.tar_images is None else self.tar_images[name]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Images and their labels; rows sorted by file name, columns by class name.

    The order is part of the contract: the same labels give the same table, and with it the same split,
        whatever
    format and row order they came in. Make one with `build`, which sorts and checks.

    Attributes:
        image_dir: folder that the file names are relative to.
        file_names: (N,) array of str, sorted, each once.
        labels: (N, C) uint8, 1 where the image has the class.
        classes: C names, sorted, each once.
        groups: (N,) int64, the same number for images that must stay in one part of a split; None where each image is
            by itself.
        tar_images: file name -> where it is, of images in tar shards; None for files in `image_dir`.
    """

    image_dir: Path
    file_names: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    tar_images: Mapping[str, TarImage] | None = None

    @classmethod
    def build(
        cls,
        image_dir: str | Path,
        file_names: Sequence[str] | np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        groups: np.ndarray | None = None,
        tar_images: Mapping[str, TarImage] | None = None,
    ) -> Self:
        """Sort rows and columns and check them.

        Args:
            image_dir: folder that the file names are relative to.
            file_names: N names, in any order.
            labels: (N, C) of 0 and 1, any dtype.
            classes: C names, in any order.
            groups: (N,) numbers, see the attribute.
            tar_images: see the attribute.

        Raises:
            InputError: a file name or class given twice, a class name that is empty, no text or looks like another, or
                shapes that do not fit.
        """
        names, class_names = np.array(file_names, dtype=object), np.array(classes, dtype=object)
        labels = np.asarray(labels)
        if labels.shape != (len(names), len(class_names)):
            raise InputError(
                f"labels have shape {labels.shape}, "
                f"expected ({len(names)} file names, {len(class_names)} classes)."
            )
        check_class_names(classes, labels=labels)
        rows, columns = np.argsort(names, kind="stable"), np.argsort(class_names, kind="stable")
        names, class_names = names[rows], class_names[columns]
        _refuse_repeats(names, "file name")
        _refuse_repeats(class_names, "class")
        labels = labels[rows][:, columns].astype(np.uint8)
        groups = None if groups is None else groups[rows]
        return cls(Path(image_dir), names, labels, tuple(class_names), groups, tar_images)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.file_names)

    def paths(self) -> ImageReferences:
        """The N images, in row order."""
        return ImageReferences(self.image_dir, self.file_names, self.tar_images)

    def counts(self) -> np.ndarray:
        """(C,) int64: images with each class."""
        return self.labels.sum(axis=0, dtype=np.int64)

    def select(self, rows: np.ndarray | Sequence[int]) -> "LabelTable":
        """The table of some rows, given as row numbers or as a boolean mask; their order stays sorted."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else np.sort(chosen.astype(np.int64))
        groups = None if self.groups is None else self.groups[chosen]
        return LabelTable.build(
            self.image_dir,
            self.file_names[chosen],
            self.labels[chosen],
            self.classes,
            groups,
            self.tar_images,
        )

    def select_classes(self, columns: np.ndarray | Sequence[int]) -> "LabelTable":
        """The table of all rows and some classes, given as column numbers or as a boolean mask."""
        chosen = np.asarray(columns)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        classes = [self.classes[column] for column in chosen]
        labels = self.labels[:, chosen]
        return LabelTable.build(
            self.image_dir, self.file_names, labels, classes, self.groups, self.tar_images
        )

    def group_copies(self, digests: np.ndarray) -> "LabelTable":
        """The same table, with images of the same bytes in one group.

        Args:
            digests: (N,) of the bytes, in row order; an image with an empty one is by itself.
        """
        _, groups = np.unique(digests, return_inverse=True)
        unknown = np.flatnonzero(digests == np.zeros(1, digests.dtype))
        groups[unknown] = len(digests) + unknown
        return replace(self, groups=groups)


def is_text(name: str) -> bool:
    """Whether it can be written as UTF-8; bytes of other encodings and halves of characters cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_class_names(classes: Sequence[str], place: str = "", labels: np.ndarray | None = None) -> None:
    """Refuse class names that files and figures cannot show, or that nobody can tell apart.

    Args:
        classes: C names.
        place: where they are from, for the message.
        labels: (N, C), whose counts the message tells.

    Raises:
        InputError: a name that is empty or holds a control character or no text, or names that differ only in capital
            letters, in blanks or in how Unicode composes their letters.
    """
    start = f"{place}: " if place else ""
    if "" in classes:
        raise InputError(f"{start}a class has an empty name; give every class a name.")
    for name in classes:
        if not name.isprintable() and (not is_text(name) or any(map(_is_control, name))):
            raise InputError(
                f"{start}the class name {name!r} holds a control character or no text; correct it."
            )
    plain = [name if name.isascii() else unicodedata.normalize("NFC", name) for name in classes]
    plain = [" ".join(name.lower().split()) for name in plain]
    if len(set(plain)) == len(classes):  # a million columns take a second
        return
    forms: dict[str, list[int]] = defaultdict(list)
    for column, name in enumerate(plain):
        forms[name].append(column)
    for columns in forms.values():
        alike = {classes[column]: column for column in columns}
        if len(alike) > 1:
            _refuse_alike(start, alike, labels)


def _refuse_alike(start: str, alike: dict[str, int], labels: np.ndarray | None) -> None:
    """Raise for class names, each with its column, that differ in nothing but their form."""
    names = sorted(alike)
    if len({unicodedata.normalize("NFC", name) for name in names}) == 1:
        codes = " and ".join(map(ascii, names))
        raise InputError(
            f"{start}two classes look alike, '{names[0]}': {codes} differ only in how Unicode composes their "
            "letters. Write them in one form (NFC)."
        )
    counts = ["" if labels is None else f" ({labels[:, alike[name]].sum()} images)" for name in names]
    listed = " and ".join(f"'{name}'{count}" for name, count in zip(names, counts, strict=True))
    raise InputError(
        f"{start}classes that differ only in capital letters or blanks: {listed}. Write them in one way, or rename one "
        "if they are different classes."
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _refuse_repeats(sorted_names: np.ndarray, what: str) -> None:
    repeated = sorted(set(sorted_names[1:][sorted_names[1:] == sorted_names[:-1]]))
    if repeated:
        shown = ", ".join(f"'{name}'" for name in repeated[:NAMES_SHOWN])
        more = ", …" if len(repeated) > NAMES_SHOWN else ""
        raise InputError(
            f"{len(repeated)} {what}(s) given more than once: {shown}{more}. Each must be there once."
        )

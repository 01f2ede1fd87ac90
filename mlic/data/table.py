"""The label table, the common form of all annotation formats."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, overload

import numpy as np

from mlic.data.images import ImageReference
from mlic.errors import InputError

NAMES_SHOWN = 5
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
UNKNOWN = -1


class ImageReferences(Sequence[ImageReference]):
    """References created on access: a million paths would take 0.3 GB, and twice as much after a comparison."""

    def __init__(
        self, folder: Path, names: np.ndarray, references: Mapping[str, ImageReference] | None = None
    ) -> None:
        """Refer to files with `names` (N,) in a folder, or to the given `references`, by name."""
        self.folder, self.names, self.references = folder, names, references

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> ImageReference: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageReferences": ...
    def __getitem__(self, index: int | slice) -> "ImageReference | ImageReferences":
        """Return one reference, or the references of a slice."""
        if isinstance(index, slice):
            return ImageReferences(self.folder, self.names[index], self.references)
        name = self.names[index]
        return self.folder / name if self.references is None else self.references[name]


class FoundImages(Mapping[str, ImageReference]):
    """Images in several folders, by file name; a name that was not found refers to the first folder."""

    def __init__(self, folders: Sequence[Path], folder_of: Mapping[str, int]) -> None:
        """Store the folders and, for each name found, the number of its folder."""
        self.folders, self._folder_of = tuple(folders), folder_of

    def __getitem__(self, name: str) -> Path:
        """Return the path of an image."""
        return self.folders[self._folder_of.get(name, 0)] / name

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names found."""
        return iter(self._folder_of)

    def __len__(self) -> int:
        """Number of names found."""
        return len(self._folder_of)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Images and their labels, with rows sorted by file name and columns by class name.

    The order guarantees that the same labels give the same table, and therefore the same split, whatever their format
    and row order. Use `build`, which sorts and checks, to create a table.

    Attributes:
        image_dir: folder to which the file names are relative.
        file_names: array of str (N,), sorted and unique.
        labels: int8 (N, C), 1 if the image has the class, 0 if it does not, -1 (`UNKNOWN`) if nobody knows.
        classes: C names, sorted and unique.
        groups: int64 (N,), equal for images that must stay in one part of a split; None without groups.
        references: maps file names to images that are not in `image_dir`, such as those in tar shards or in several
            folders; None if all are in `image_dir`.
        parts: array of str (N,), the part (`train`, `val`, `test`) that the annotations give to each image, or an empty
            string; None if they give none.
        kept: array of str (N,), the part of each image in an earlier split, or an empty string for new images; None
            without an earlier split.
        columns: other columns of the annotations, such as a patient or a date: arrays of str (N,) by name.
    """

    image_dir: Path
    file_names: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray | None = None
    references: Mapping[str, ImageReference] | None = None
    parts: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    kept: np.ndarray | None = None

    @classmethod
    def build(
        cls,
        image_dir: str | Path,
        file_names: Sequence[str] | np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        groups: np.ndarray | None = None,
        references: Mapping[str, ImageReference] | None = None,
        parts: np.ndarray | None = None,
        columns: Mapping[str, np.ndarray] | None = None,
    ) -> Self:
        """Create a table: sort rows and columns, and check them.

        Args:
            image_dir: folder to which the file names are relative.
            file_names: N names in any order.
            labels: labels (N, C) of 1, 0 and -1, of any dtype.
            classes: C names in any order.
            groups: see the attribute.
            references: see the attribute.
            parts: see the attribute.
            columns: see the attribute.

        Raises:
            InputError: a file name or class is repeated, a class name is empty, not text or looks like another one, or
                shapes do not match.
        """
        names, class_names = np.array(file_names, dtype=object), np.array(classes, dtype=object)
        labels = np.asarray(labels).astype(np.int8)
        if labels.shape != (len(names), len(class_names)):
            raise InputError(
                f"labels have shape {labels.shape}, expected ({len(names)} file names, {len(class_names)} classes)."
            )
        check_class_names(classes, labels=labels)
        order, class_order = np.argsort(names, kind="stable"), np.argsort(class_names, kind="stable")
        for what, found in (("file name", names[order]), ("class", class_names[class_order])):
            if repeated := sorted({*found[1:][found[1:] == found[:-1]]}):
                raise InputError(
                    f"{len(repeated)} {what}(s) occur more than once: {str(repeated[:NAMES_SHOWN])[1:-1]}."
                )
        more = {"groups": groups, "references": references, "parts": parts, "columns": columns or {}}
        return (
            cls(Path(image_dir), names, labels, tuple(class_names), **more)
            .select_classes(class_order)
            ._take(order)
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.file_names)

    def paths(self) -> ImageReferences:
        """Return references of the N images in row order."""
        return ImageReferences(self.image_dir, self.file_names, self.references)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders in which the images are; empty for images in tar shards."""
        if self.references is None:
            return (self.image_dir,)
        return self.references.folders if isinstance(self.references, FoundImages) else ()

    @property
    def positives(self) -> np.ndarray:
        """Bool (N, C), True where the image has the class."""
        return self.labels == 1

    @property
    def known(self) -> np.ndarray:
        """Bool (N, C), True where the label is known."""
        return self.labels != UNKNOWN

    def counts(self) -> np.ndarray:
        """Return the number of images of each class, int64 (C,)."""
        return self.positives.sum(axis=0, dtype=np.int64)

    def select(self, rows: np.ndarray | Sequence[int]) -> Self:
        """Return the table of some rows, given as row numbers or a boolean mask; rows stay sorted."""
        chosen = np.asarray(rows)
        return self._take(
            np.flatnonzero(chosen) if chosen.dtype == bool else np.sort(chosen.astype(np.int64))
        )

    def select_classes(self, columns: np.ndarray | Sequence[int]) -> Self:
        """Return the table of some classes, given as column numbers or a boolean mask."""
        chosen = np.asarray(columns)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        classes = tuple(self.classes[column] for column in chosen)
        return replace(self, labels=self.labels[:, chosen], classes=classes)

    def _take(self, rows: np.ndarray) -> Self:
        arrays = {key: getattr(self, key) for key in ("file_names", "labels", "groups", "parts", "kept")}
        taken = {key: None if values is None else values[rows] for key, values in arrays.items()}
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self, **taken, columns=columns)

    def group_copies(self, digests: np.ndarray) -> Self:
        """Return the same table with images of identical bytes in one group.

        Args:
            digests: digests (N,) of the bytes in row order; images with an empty digest are not grouped.
        """
        _, groups = np.unique(digests, return_inverse=True)
        unknown = np.flatnonzero(digests == np.zeros(1, digests.dtype))
        groups[unknown] = len(digests) + unknown
        return self.join_groups(groups)

    def join_groups(self, groups: np.ndarray) -> Self:
        """Return the same table with more images in one group: those of equal number, and all that belong to them.

        Args:
            groups: group number (N,) of each row.
        """
        if self.groups is None:
            return replace(self, groups=groups)
        # only here, because it takes a third of a second, which predictions need not wait for
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        # each row connects its old group with its new one; connected groups become one
        _, old = np.unique(self.groups, return_inverse=True)
        _, new = np.unique(groups, return_inverse=True)
        size = len(self)
        graph = coo_matrix((np.ones(size, dtype=bool), (old, size + new)), shape=(2 * size, 2 * size))
        _, joined = connected_components(graph, directed=False)
        return replace(self, groups=joined[old].astype(np.int64))


def is_text(name: str) -> bool:
    """Return True if a name can be encoded as UTF-8; undecodable bytes and lone surrogates cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_class_names(classes: Sequence[str], place: str = "data", labels: np.ndarray | None = None) -> None:
    """Check that class names are printable and distinguishable.

    Args:
        classes: C names.
        place: origin of the names, for the message.
        labels: labels (N, C), whose counts the message shows.

    Raises:
        InputError: a name is empty, contains a control character or is not text; or names differ only in case,
            whitespace or Unicode normalization.
    """
    if wrong := [name for name in classes if not name or not is_text(name) or _CONTROL.search(name)]:
        raise InputError(
            f"{place}: the class name {wrong[0]!r} is empty, or has a control character or invalid text."
        )
    plain = [name if name.isascii() else unicodedata.normalize("NFC", name) for name in classes]
    plain = [" ".join(name.lower().split()) for name in plain]
    if len(set(plain)) == len(set(classes)):  # a million columns take a second
        return
    columns: dict[str, list[int]] = defaultdict(list)
    for column, name in enumerate(plain):
        columns[name].append(column)
    alike = next(own for own in columns.values() if len({classes[column] for column in own}) > 1)
    counts = np.zeros(len(classes), int) if labels is None else (labels == 1).sum(axis=0)
    # names that look the same are shown with escapes
    shown = " and ".join(f"{classes[column]!a} ({counts[column]} images)" for column in sorted(alike))
    raise InputError(
        f"{place}: class names differ only in case, whitespace or Unicode normalization: {shown}. Use one spelling, or "
        "rename one if they are different classes."
    )

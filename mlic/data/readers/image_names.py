"""Find the column of a table that names the images, by comparison with the files in the image folders."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mlic.data.bad_images import describe_images, explain_missing
from mlic.data.file_names import leaves_folder
from mlic.data.readers.label_cells import setting
from mlic.data.readers.tabular import IMAGE_NAME, SIGNS, TextTable
from mlic.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".webp", ".tif", ".tiff", ".bmp", ".gif")
SAMPLES = 50
SHOWN = 12
TRIED = 4  # columns compared with all images below the folders
_REFUSED = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://|(^|[/\\])\.\.([/\\]|$)")  # later, and never shortened
Listing = Callable[[str], set[str]]  # files in a folder below the image folders


class _Change(NamedTuple):
    """How cells become file names: number of leading folders removed (None: unchanged), extensions appended."""

    folders: int | None
    endings: tuple[str, ...]
    share: float


def find_names(
    table: TextTable, folders: Sequence[Path], image_column: str | None, extension: str | None
) -> tuple[str, list[str], str]:
    r"""Find the names of the images.

    A name may lack its extension, begin with folders that the image folder does not have, or have `\` for `/`.

    Args:
        table: rows of text.
        folders: image folders.
        image_column: column with the names. Default: the one whose cells name files in the folders; if no file is
            found, `file_name`, or the one whose cells have extensions of images.
        extension: end of all file names, in place of an extension that they have. Default: recognised.

    Returns:
        The column, the file name of each row relative to an image folder, and the column with the changes in words.

    Raises:
        InputError: no column, or several that name different files, can be the one; or files with the same name and
            different extensions exist.
    """
    source = f"{table.files[0]}, line 1"
    if image_column is not None and image_column not in table.columns:
        raise InputError(
            f"{source}: no column '{image_column}'. Columns: {', '.join(table.columns)}.",
            key="data.reader.image_column",
        )
    listing = _lister(table, folders)
    columns = [image_column] if image_column else list(table.columns)
    changes = {column: _change(table.columns[column], listing, extension) for column in columns}
    # where most images are missing, a few numbers of another column may be names of files by chance
    named = [c for c in columns if c == "file_name" or IMAGE_NAME.search(table.columns[c][0])]
    found = [column for column in columns if changes[column].share > 0.5]
    found = found or [column for column in named if changes[column].share]
    found = found or [image_column or _column_without_files(table, folders, listing)]
    names = {column: _apply(table.columns[column], changes[column], listing, extension) for column in found}
    if any(other != names[found[0]] for other in names.values()):
        options = " or ".join(setting("image_column", column) for column in found)
        raise InputError(f"{source}: several columns name images in {folders[0]}. Set {options}.")
    column = min(found, key=lambda column: (names[column] != table.columns[column], column != "file_name"))
    if _exists(_apply([column], changes[column], listing, extension)[0], listing):
        raise InputError(f"{source}: expected a header, but '{column}' is an image. Add a header.")
    change = changes[column]
    added = [extension] if extension else list(filter(None, change.endings))
    words = f"'{column}'" + (f" without {change.folders} leading folder(s)" if change.folders else "")
    return column, names[column], words + (f" + {' or '.join(map(repr, added))}" if added else "")


def _lister(table: TextTable, folders: Sequence[Path]) -> Listing:
    own = {file.absolute().parent for file in table.files}
    roots = [*folders, *(folder for folder in own if folder.is_relative_to(folders[0].absolute()))]

    # whole folders are listed, because a network file system answers only a few thousand queries per second
    @cache
    def listing(folder: str) -> set[str]:
        names: set[str] = set()
        for root in roots:
            try:
                with os.scandir(root / folder) as entries:
                    names |= {entry.name for entry in entries if not entry.is_dir()}
            except (OSError, ValueError):  # no such folder, or not the name of one
                continue
        return names

    return listing


def _exists(name: str, listing: Listing) -> bool:
    folder, _, last = name.rpartition("/")
    return bool(last) and not leaves_folder(name) and last in listing(folder)


def _change(cells: Sequence[str], listing: Listing, extension: str | None) -> _Change:
    """Return the change with which most of some cells name files."""
    samples = list(dict.fromkeys(cells[:: max(1, len(cells) // SAMPLES)]))[:SAMPLES]
    best = _Change(None, ("",), 0)
    if SIGNS.keys() >= set(samples) - {""}:
        return best
    depth = max(len(re.findall(r"[/\\]", cell)) for cell in samples)
    for removed in (None, *range(not any("\\" in cell for cell in samples), depth + 1)):
        tried = ("",) if extension else ("", *ENDINGS)
        names = [_end(_shorten(cell, removed), extension) for cell in samples]
        found = [
            next((ending for ending in tried if _exists(name + ending, listing)), None) for name in names
        ]
        used = [ending for ending in found if ending is not None]
        share = len(used) / len(samples)
        # Removing folders is a guess: nearly all files must be there, and no two names become one.
        sure = removed is None or (
            share > 0.9 and len({_shorten(cell, removed) for cell in cells}) == len({*cells})
        )
        if share > best.share and sure:
            best = _Change(removed, tuple(dict.fromkeys(used)), share)
    return best


def _shorten(cell: str, folders: int | None) -> str:
    if folders is None or _REFUSED.search(cell):
        return cell
    return "/".join(cell.replace("\\", "/").split("/")[folders:])


def _end(name: str, extension: str | None) -> str:
    return IMAGE_NAME.sub("", name) + extension if extension else name


def _apply(cells: Sequence[str], change: _Change, listing: Listing, extension: str | None) -> list[str]:
    names: dict[str, str] = {"": ""}
    for cell in dict.fromkeys(filter(None, cells)):
        name = names[cell] = _end(_shorten(cell, change.folders), extension)
        if extension or change.endings == ("",):
            continue
        found = [name + ending for ending in ("", *ENDINGS) if _exists(name + ending, listing)]
        if len(found) > 1 and found[0] != name:
            options = " or ".join(setting("extension", other.removeprefix(name)) for other in found)
            raise InputError(f"'{cell}' names several images: {', '.join(found)}. Set {options}.")
        # one that is missing is reported with the extension of the others
        names[cell] = found[0] if found else name + change.endings[0]
    return [names[cell] for cell in cells]


def _column_without_files(table: TextTable, folders: Sequence[Path], listing: Listing) -> str:
    """Return the column that must name the images although none of them exists."""
    first = {column: cells[0] for column, cells in list(table.columns.items())[:SHOWN]}
    likely = [column for column, cell in first.items() if IMAGE_NAME.search(cell)]
    if "file_name" in table.columns or len(likely) == 1:
        return "file_name" if "file_name" in table.columns else likely[0]
    hints = [
        f"Set {setting('image_column', column)} {setting('extension', name.removeprefix(cell))}."
        for column, cell in first.items()
        for name in sorted(listing(""))
        if len(cell) > 1 and name.startswith(cell)
    ]
    for column in [] if hints else [*first][:TRIED]:
        cause = explain_missing(folders, [*dict.fromkeys(filter(None, table.columns[column]))])
        hints += [f"{setting('image_column', column)}: {cause}"] if cause else []
    shown = ", ".join(f"{column} ({cell[:SAMPLES]})" for column, cell in first.items())
    raise InputError(
        f"{table.files[0]}: no column names files in {folders[0]}. Columns, with their first cells: {shown}. "
        f"{' '.join(hints[:4]) or describe_images(folders) + ' Set data.images or data.reader.image_column.'}"
    )

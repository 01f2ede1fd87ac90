"""Cells that hold several labels: joined by a separator, or written as a list."""

import json
import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, pairwise
from typing import NoReturn

from mlic.data.readers.label_text import check_separator, option, refuse_combinations, refuse_list, setting
from mlic.errors import InputError

SURE = (";", ",", "\t", "\n")  # rare in class names; "|" is taken for a separator wherever it occurs
DOUBTFUL = ("/", "&", "+", " ")
IN_NAMES = ("-", ":", "_")
WORDS = {" ": "blanks", "\t": "tabs", "\n": "line breaks"}
_ADJACENT_TEXTS = re.compile(r"""["']\s+["']""")
_LIST = re.compile(r"""[\[{]|\((\)|['"\d].*\)$)""")
_VALUE = re.compile(r"\w\s*[:=]\s*[\d.]+$")
Labels = Mapping[str, list[str]]


def split_cells(
    rows: Sequence[str],
    place_of: Callable[[int], str],
    *,
    separator: str | None = None,
    classes: Sequence[str] | None = None,
    single: bool = False,
) -> tuple[Labels, str]:
    """Split cells into labels.

    Args:
        rows: the cell of each row; an empty one has no labels.
        place_of: maps a row to its place, for messages.
        separator: text between two labels. Default: recognised.
        classes: all class names, if known.
        single: images have several rows, which suggests one label in each.

    Returns:
        The labels of each different cell, and their form in words.

    Raises:
        InputError: the cells can be read in several ways, or not at all.
    """

    def place(cell: str) -> str:
        return place_of(rows.index(cell))

    cells = Counter(filter(None, rows))
    given = classes or ()
    if separator is not None:
        separator = check_separator(separator)
        for cell in cells:
            if cell.startswith(("[", "{")):  # finding the place takes time
                refuse_list(cell, place(cell), separator, classes)
    elif not {*cells} <= {*given}:
        separator = _fitting(cells, given)
        if separator is None and (bits := _bits(cells)):
            return {"": [], **_classes_of_bits(bits, place, classes)}, "as 0 and 1 in one cell"
        if separator is None and any(map(_LIST.match, cells)):
            return {"": [], **_lists(cells, place, classes)}, "as lists"
        separator = separator or _recognise(cells, place, single)
    if separator is None:
        return {"": [], **{cell: [cell] for cell in cells}}, "one in a cell"
    labels = {cell: split(cell, separator) for cell in cells}
    if classes is None and cells:
        names, first = sorted({*chain.from_iterable(labels.values())}), place(next(iter(cells)))
        if names and all(map(_VALUE.search, names)):
            raise InputError(
                f"{first}: labels such as '{names[0]}' look like a class with a value. Keep the names of those that "
                "the image has; or, if these are the names, list all in data.reader.classes=[...]."
            )
        refuse_combinations(names, first)
    return {"": [], **labels}, f"separated by {WORDS.get(separator, repr(separator))}"


def split(cell: str, separator: str) -> list[str]:
    """Return the labels of a cell."""
    return [label.strip() for label in cell.split(separator) if label.strip()]


def fits(cells: Collection[str], separator: str) -> bool:
    """Return True if a separator divides at least half of the cells with it into parts that occur in other cells."""
    joined = sum(len(split(cell, separator)) > 1 for cell in cells)
    return joined > 0 and 2 * len(_explained(cells, separator)) >= joined


def _explained(cells: Collection[str], separator: str) -> list[str]:
    """Return the cells of several parts each of which occurs alone or in another such cell."""
    parts = {cell: split(cell, separator) for cell in cells}
    joined = {cell: found for cell, found in parts.items() if len(found) > 1}
    alone = {found[0] for found in parts.values() if len(found) == 1}
    times = Counter(part for found in joined.values() for part in set(found))
    return [cell for cell, found in joined.items() if all(part in alone or times[part] > 1 for part in found)]


def _fitting(cells: Collection[str], classes: Sequence[str]) -> str | None:
    """Return the separator with which all labels are known classes."""
    known = {*classes}
    return next(
        (
            separator
            for separator in ("|", *SURE, *DOUBTFUL)
            if known and all({*split(cell, separator)} <= known for cell in cells)
        ),
        None,
    )


def _recognise(cells: Counter[str], place: Callable[[str], str], single: bool) -> str | None:
    """Return the only separator that explains the cells; None if each cell is one label."""
    if any("|" in cell for cell in cells):
        return "|"
    occurring = [s for s in (*SURE, *DOUBTFUL) if any(len(split(cell, s)) > 1 for cell in cells)]
    fitting = [separator for separator in occurring if fits(cells, separator)]
    for chosen in fitting:
        names = {*chain.from_iterable(split(cell, chosen) for cell in cells)}
        # the parts must not be combinations by another separator
        if all(2 * len(_explained(names, other)) <= len(names) for other in fitting if other != chosen):
            break
    else:
        # names such as "dining table" contain blanks, but so do two labels that occur only together
        asked = occurring or [separator for separator in IN_NAMES if fits(cells, separator)]
        return _ask(cells, asked, place, "can be joined labels") if asked and not single else None
    if occurring[0] != chosen:  # one that is rarer in names
        _ask(cells, occurring, place, "can be joined labels")
    if reason := _doubt(cells, chosen, single):
        _ask(cells, [chosen], place, reason)
    return chosen


def _doubt(cells: Counter[str], separator: str, single: bool) -> str | None:
    """Return why a separator that fits may still be a part of the names."""
    labels = {cell: split(cell, separator) for cell in cells}
    counts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for cell, number in cells.items():
        counts.update(dict.fromkeys(labels[cell], number))
        pairs.update(dict.fromkeys(pairwise(labels[cell]), number))
    least = 1 if separator in DOUBTFUL else 3
    # numbers, and names with an underscore for a blank, such as dining_table, are whole
    numbers = all(label.isdigit() for label in counts)
    whole = numbers or any("_" in label for label in counts)
    for (left, right), number in pairs.items() if not numbers else ():
        rarer, other = sorted((counts[left], counts[right]))
        if number >= least and (other == number or (separator == " " and not whole and rarer == number > 2)):
            return f"'{left}' and '{right}' occur only together"
    if separator in SURE:
        return "there are several rows an image" if single else None
    lengths = {len(found) for found in labels.values()}
    if single or (not whole and (len(lengths) == 1 or 2 * len(_explained(cells, separator)) < len(cells))):
        return "cells may be single labels"
    if any(len({*found}) < len(found) for found in labels.values()) or any(
        label[-1] in ".!?,;:" for label in counts
    ):
        return "cells look like sentences"
    if 2 * sum(number == 1 for number in counts.values()) > len(counts):
        return "most words occur once"
    return None


def _ask(
    cells: Collection[str], separators: Sequence[str], place: Callable[[str], str], reason: str
) -> NoReturn:
    options = []
    for separator in dict.fromkeys([*separators, "|"]):
        names = sorted({*chain.from_iterable(split(cell, separator) for cell in cells)})
        shown = ", ".join(f"'{name[:30]}'" for name in names[:3])
        options.append(f"  {option('separator', separator)} for {len(names)} classes, such as {shown}")
    example = next(cell for cell in cells if len(split(cell, separators[0])) > 1)
    raise InputError(
        f"{place(example)}: labels such as '{example[:60]}': {reason}. Set one of\n" + "\n".join(options)
    )


def _lists(cells: Collection[str], place: Callable[[str], str], classes: Sequence[str] | None) -> Labels:
    if choices := next((cell for cell in cells if cell.startswith('{"choices"')), ""):
        raise InputError(
            f"{place(choices)}: a CSV export of Label Studio. Export the project as JSON, and read it with "
            "data=labelstudio."
        )
    labels: dict[str, list[str]] = {}
    for cell in cells:
        found = _list(cell)
        if found is None:
            refuse_list(cell, place(cell), "|", classes)
            raise InputError(f"{place(cell)}: '{cell[:60]}' is not a list, unlike other cells.")
        labels[cell] = found
    return labels


def _list(cell: str) -> list[str] | None:
    """Return the items of a JSON or Python list of names or numbers."""
    if _ADJACENT_TEXTS.search(cell):  # numpy's ['a' 'b'], which Python reads as one text
        return None
    for parse in (json.loads, literal_eval):
        try:
            items = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(items, list | tuple | set) and all(type(item) in (str, int) for item in items):
            return [str(item).strip() for item in items if str(item).strip()]
    return None


def _bits(cells: Collection[str]) -> dict[str, str]:
    """Return the bits of each cell if all are equally many bits, such as `0 1 0` or `[0, 1, 0]`, else nothing."""
    # NumPy prints [0 1 0] and [0. 1. 0.]
    bits = {cell: re.sub(r"""[\s\[\](),;|"']|\.0?(?=\D|$)""", "", cell) for cell in cells}
    lengths = {len(found) for found in bits.values()}
    are_bits = len(lengths) == 1 and all(re.fullmatch("[01]{2,}", found) for found in bits.values())
    return bits if are_bits else {}


def _classes_of_bits(
    bits: Mapping[str, str], place: Callable[[str], str], classes: Sequence[str] | None
) -> Labels:
    cell, first = next(iter(bits.items()))
    if classes is None or len(classes) != len(first):
        raise InputError(
            f"{place(cell)}: '{cell[:60]}' looks like one 0 or 1 per class. List the {len(first)} class names in this "
            f"order in data.reader.classes=[...]. If the numbers are class names, set {setting('classes', ['0', '1'])}."
        )
    return {
        cell: [name for name, bit in zip(classes, found, strict=True) if bit == "1"]
        for cell, found in bits.items()
    }

"""Cells that hold several labels: joined by a separator, or written as a list; and settings as they are typed."""

import json
import re
import shlex
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import NoReturn

from mlic.errors import InputError

SURE = (";", ",", "\t", "\n")  # rare in class names; "|" is taken for a separator wherever it occurs
DOUBTFUL = ("/", "&", "+", " ")
IN_NAMES = ("-", ":", "_")
WORDS = {" ": "blanks", "\t": "tabs", "\n": "line breaks"}
_BARE = re.compile(r"(?!(?i:null|nan|inf|true|false)$)[A-Za-z_][\w/.-]*", re.ASCII)  # without quotes in Hydra
_ADJACENT_TEXTS = re.compile(r"""["']\s+["']""")
_LIST = re.compile(r"""[\[{]|\((\)|['"\d].*\)$)""")
_VALUE = re.compile(r"\w\s*[:=]\s*[\d.]+$")
Labels = Mapping[str, list[str]]


def setting(key: str, value: str | Sequence[str]) -> str:
    """Return `data.reader.<key>=<value>`, or `=[a,b]` for several values, as typed in a shell."""
    texts = [value] if isinstance(value, str) else list(value)
    if not all(map(_BARE.fullmatch, texts)):
        texts = ['"' + text.replace("\t", r"\t").replace('"', r"\"") + '"' for text in texts]
    joined = ",".join(texts)
    return shlex.quote(f"data.reader.{key}={joined if isinstance(value, str) else f'[{joined}]'}")


def ask(place: str, reason: str, answers: Iterable[str]) -> NoReturn:
    """Ask about what can be read in several ways.

    Raises:
        InputError: always; it lists the settings that answer.
    """
    raise InputError(f"{place}: {reason}. Set one of:\n" + "\n".join(f"  {answer}" for answer in answers))


def check_separator(separator: str) -> str:
    r"""Return the separator, with `\t` replaced by a tab.

    Raises:
        InputError: the separator is empty.
    """
    if not separator:
        raise InputError("data.reader.separator is empty.", key="data.reader.separator")
    return separator.replace(r"\t", "\t")


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

    cells, known = Counter(filter(None, rows)), {*(classes or ())}
    if separator is not None:
        separator = check_separator(separator)
        for cell in cells:
            if cell.startswith(("[", "{")):  # finding the place takes time
                refuse_list(cell, place(cell), known)
    elif not {*cells} <= known:
        tried = ("|", *SURE, *DOUBTFUL)
        separator = next(
            (s for s in tried if known and all({*split(cell, s)} <= known for cell in cells)), None
        )
        if separator is None and (bits := _bits(cells)):
            return {"": [], **_classes_of_bits(bits, place, classes)}, "as 0 and 1 in one cell"
        if separator is None and any(map(_LIST.match, cells)):
            return {"": [], **{cell: _list(cell, place) for cell in cells}}, "as lists"
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
    joined, explained = _joined(cells, separator)
    return len(joined) > 0 and 2 * len(explained) >= len(joined)


def _joined(cells: Collection[str], separator: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the cells of several parts; and those whose parts all occur alone or in another such cell."""
    parts = {cell: split(cell, separator) for cell in cells}
    joined = {cell: found for cell, found in parts.items() if len(found) > 1}
    alone = {found[0] for found in parts.values() if len(found) == 1}
    times = Counter(chain.from_iterable({*found} for found in joined.values()))
    explained = [c for c, found in joined.items() if all(part in alone or times[part] > 1 for part in found)]
    return joined, explained


def refuse_list(text: str, place: str, classes: Collection[str]) -> None:
    """Refuse labels that are written as a JSON or Python list or object.

    Raises:
        InputError: the text begins with a bracket or a brace and is not one of the classes.
    """
    if text.startswith(("[", "{")) and text not in classes:
        raise InputError(
            f"{place}: the labels {text[:60]} look like a JSON or Python list or object; expected names."
        )


def refuse_combinations(names: Sequence[str], place: str) -> None:
    """Refuse class names that are several names joined by a character other than the separator.

    A character is taken for the real separator if it splits most names into parts that also occur alone or in other
    combinations. Names with equally many words are accepted unless a word also occurs alone: "red car", "blue car",
    "red bus" and "blue bus" are valid names.

    Args:
        names: C different class names found in the annotations.
        place: origin of the names, for the message.

    Raises:
        InputError: most names are combinations; the message names the setting.
    """
    for separator in (",", ";", "|", "\t", *DOUBTFUL):
        joined, found = _joined(names, separator)
        parts = {*chain.from_iterable(joined.values())}
        different = len({*map(len, joined.values())}) > 1 or any(
            part in parts for part in {*names} - joined.keys()
        )
        if different and 2 * len(found) > len(names):
            reason = (
                f"{len(found)} of {len(names)} class names are combinations of others, such as {found[0]!r}"
            )
            ask(
                place,
                reason,
                [setting("separator", separator), "data.reader.classes=[...] if these are single names"],
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
        if all(2 * len(_joined(names, other)[1]) <= len(names) for other in fitting if other != chosen):
            break
    else:
        # names such as "dining table" contain blanks, but so do two labels that occur only together
        asked = occurring or [separator for separator in IN_NAMES if fits(cells, separator)]
        return _ask_separator(cells, asked, place, "can be joined labels") if asked and not single else None
    # one before it is rarer in names
    reason = "can be joined labels" if occurring[0] != chosen else _doubt(cells, chosen, single)
    return _ask_separator(cells, occurring, place, reason) if reason else chosen


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
    explained = len(_joined(cells, separator)[1])
    if single or (not whole and (len({*map(len, labels.values())}) == 1 or 2 * explained < len(cells))):
        return "cells may be single labels"
    repeated = any(len({*found}) < len(found) for found in labels.values())
    if repeated or any(label[-1] in ".!?,;:" for label in counts):
        return "cells look like sentences"
    return "most words occur once" if 2 * sum(n == 1 for n in counts.values()) > len(counts) else None


def _ask_separator(
    cells: Collection[str], separators: Sequence[str], place: Callable[[str], str], reason: str
) -> NoReturn:
    answers = []
    for separator in dict.fromkeys([*separators, "|"]):
        names = sorted({*chain.from_iterable(split(cell, separator) for cell in cells)})
        shown = ", ".join(f"'{name[:30]}'" for name in names[:3])
        answers.append(f"{setting('separator', separator)} for {len(names)} classes, such as {shown}")
    example = next(cell for cell in cells if len(split(cell, separators[0])) > 1)
    ask(place(example), f"labels such as '{example[:60]}': {reason}", answers)


def _list(cell: str, place: Callable[[str], str]) -> list[str]:
    """Return the items of a JSON or Python list of names or numbers."""
    for parse in (json.loads, literal_eval):
        try:
            items = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        # Python reads NumPy's ['a' 'b'] as one text
        is_list = isinstance(items, list | tuple | set) and not _ADJACENT_TEXTS.search(cell)
        if is_list and all(type(item) in (str, int) for item in items):
            return [str(item).strip() for item in items if str(item).strip()]
    raise InputError(
        f"{place(cell)}: '{cell[:60]}' is not a JSON or Python list of names, but looks like one, or others do."
    )


def _bits(cells: Collection[str]) -> dict[str, str]:
    """Return the bits of each cell if all are equally many bits, such as `0 1 0` or `[0, 1, 0]`, else nothing."""
    # NumPy prints [0 1 0] and [0. 1. 0.]
    bits = {cell: re.sub(r"""[\s\[\](),;|"']|\.0?(?=\D|$)""", "", cell) for cell in cells}
    same_length = len({*map(len, bits.values())}) == 1
    return bits if same_length and all(re.fullmatch("[01]{2,}", found) for found in bits.values()) else {}


def _classes_of_bits(
    bits: Mapping[str, str], place: Callable[[str], str], classes: Sequence[str] | None
) -> Labels:
    cell, first = next(iter(bits.items()))
    if classes is None or len(classes) != len(first):
        reason = f"'{cell[:60]}' looks like one 0 or 1 per class"
        names = f"data.reader.classes=[...] with the {len(first)} class names in this order"
        ask(place(cell), reason, [names, f"{setting('classes', ['0', '1'])} if the numbers are class names"])
    return {
        cell: [name for name, bit in zip(classes, own, strict=True) if bit == "1"]
        for cell, own in bits.items()
    }

"""Labels written as text: separators, combinations of class names, and settings as they are typed."""

import re
from collections import Counter
from collections.abc import Sequence

from mlic.errors import InputError

_BARE = re.compile(
    r"(?!(?i:null|nan|inf|true|false)$)[A-Za-z_][\w/.-]*"
)  # needs no quotes in a shell or in Hydra
CELL_SHOWN = 60
SEPARATORS = (",", ";", "|", "\t", "/", "&", "+", " ")  # the first that fits is suggested


def check_separator(separator: str) -> str:
    r"""Return the separator, with `\t` replaced by a tab.

    Raises:
        InputError: the separator is empty.
    """
    if not separator:
        raise InputError(
            "data.reader.separator is empty; expected the text between two labels, such as '|'.",
            key="data.reader.separator",
        )
    return separator.replace(r"\t", "\t")


def setting(key: str, names: Sequence[str]) -> str:
    """Return `data.reader.<key>=[a,b]` as typed in a shell."""
    if all(map(_BARE.fullmatch, names)):
        return f"data.reader.{key}=[{','.join(names)}]"
    quoted = ",".join('"' + name.replace('"', r"\"") + '"' for name in names)
    return f"'data.reader.{key}=[{quoted}]'"


def option(key: str, value: str) -> str:
    """Return `data.reader.<key>=<value>` as typed in a shell."""
    if _BARE.fullmatch(value):
        return f"data.reader.{key}={value}"
    quoted = value.replace("\t", r"\t").replace("'", r"\'")
    return f"\"data.reader.{key}='{quoted}'\""


def refuse_list(text: str, place: str, separator: str, classes: Sequence[str] | None) -> None:
    """Refuse labels that are written as a JSON or Python list or object.

    Raises:
        InputError: the text begins with a bracket or a brace and is not one of the classes.
    """
    if text.startswith(("[", "{")) and text not in (classes or ()):
        shown = text if len(text) <= CELL_SHOWN else f"{text[:CELL_SHOWN]}..."
        raise InputError(
            f"{place}: the labels {shown} look like a JSON or Python list or object. Expected class names joined by "
            f"'{separator}', such as car{separator}cat, and an empty field for an image without labels "
            "(data.reader.separator sets the separator)."
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
    for separator in SEPARATORS:
        found = _combinations(names, separator)
        if 2 * len(found) > len(names):
            character = r"\t" if separator == "\t" else separator
            raise InputError(
                f"{place}: {len(found)} of {len(names)} class names are combinations of others, such as {found[0]!r}. "
                f"Set the separator of the labels: \"data.reader.separator='{character}'\". If these are single names, "
                "list all classes in data.reader.classes."
            )


def _combinations(names: Sequence[str], separator: str) -> list[str]:
    """Return the names whose parts also occur alone or in other combinations."""
    pieces = {name: [part.strip() for part in name.split(separator) if part.strip()] for name in names}
    joined = {name: parts for name, parts in pieces.items() if len(parts) > 1}
    alone = {parts[0] for parts in pieces.values() if len(parts) == 1}
    times = Counter(part for parts in joined.values() for part in set(parts))
    if len({len(parts) for parts in joined.values()}) < 2 and not alone & times.keys():
        return []
    return [name for name, parts in joined.items() if all(part in alone or times[part] > 1 for part in parts)]

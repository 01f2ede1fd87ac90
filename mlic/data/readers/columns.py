"""Find the columns of a table that hold labels, and read columns of 0 and 1."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NoReturn

import numpy as np

from mlic.data.parts import FLAGS, PART_NAMES
from mlic.data.readers.label_cells import fits
from mlic.data.readers.label_text import setting
from mlic.data.readers.tabular import SIGNS, TextTable
from mlic.data.table import UNKNOWN
from mlic.errors import InputError, check_choice

# names of columns that are not classes, common in public data sets and in tables written by pandas
NOT_CLASSES = frozenset({
    "is_valid", "is_train", "is_test", "is_val", "split", "subset", "part", "partition", "fold", "kfold", "train",
    "test", "val", "valid", "validation", "dev", "index", "id", "image_id", "unnamed_0", "sex", "gender", "age",
    "patient_age", "patient_gender", "patient_sex", "patient_id", "patient", "year", "month", "day", "width", "height",
    "view", "view_position", "frontal_lateral", "ap_pa", "date", "time", "source", "path", "url", "done", "checked",
    "reviewed", "verified", "labeled", "labelled", "annotated",
})  # fmt: skip
LABEL_NAMES = frozenset({
    "label", "labels", "tag", "tags", "class", "classes", "class_name", "classname", "label_name", "labelname",
    "target", "targets", "category", "categories", "genre", "genres", "finding_labels", "attributes", "attribute_ids",
    "keywords",
})  # fmt: skip
MEANINGS = {"ignore": UNKNOWN, "zero": 0, "one": 1}
NAMES_OF = {"-1": "-1", "-1.0": "-1", "": "blank"}
SCORES = ("score", "probability", "prob")  # of the label in the same row, if from 0 to 1
EVIDENT = {"yes": "one", "y": "one", "x": "one", "no": "zero", "n": "zero"}
FEW = 3  # columns of 0 and 1 from which they are taken for the classes although other columns hold text
_NUMBER = re.compile(r"[-+\d\s.,:/etz]*\d[-+\d\s.,:/etz]*")  # also dates and times, in lower case
_KEY = re.compile(r"[\w +.%/?-]+", re.ASCII)
_SHARE = re.compile(r"[01]?\.\d+|[01]")


class LabelColumns:
    """Columns of a table that may hold labels."""

    def __init__(
        self,
        table: TextTable,
        names: str,
        label_columns: Sequence[str] | None = None,
        ignore_columns: Sequence[str] | None = None,
        other_columns: Sequence[str] = (),
        classes: Sequence[str] | None = None,
        unknown: Mapping[str, str] | None = None,
    ) -> None:
        """Sort the columns by the form of their cells; the arguments are those of `read_csv`."""
        self.table, self.header, self.chosen = table, f"{table.files[0]}, line 1", label_columns
        self.classes, self.asks = {*(classes or ())}, ignore_columns is None
        self.ignored = list(ignore_columns or ())
        after = [column for column in table.columns if column != names]
        for key, listed in (("ignore_columns", ignore_columns), ("label_columns", label_columns)):
            if isinstance(listed, str):
                raise InputError(
                    f"data.reader.{key} must be a list, such as [{listed}].", key=f"data.reader.{key}"
                )
            if lacking := sorted({*(listed or ())} - {*after}):
                raise InputError(
                    f"{self.header}: no column '{lacking[0]}' (data.reader.{key}). Columns: {', '.join(after)}."
                )
        left_out = {*(ignore_columns or ()), *other_columns}
        self.columns = [column for column in after if column not in left_out]
        if not self.columns:
            raise InputError(f"{self.header}: no columns are left for labels beside '{names}'.")
        self.meanings = {
            str(cell).lower().replace("blank", ""): meaning for cell, meaning in (unknown or {}).items()
        }
        for meaning in self.meanings.values():
            check_choice("data.reader.unknown", meaning, MEANINGS)
        if "-1" in self.meanings:
            self.meanings["-1.0"] = self.meanings["-1"]
        self.kinds = {column: self._kind({*table.columns[column]}) for column in after}

    def _kind(self, values: set[str]) -> str:
        cells = {cell.lower() for cell in values} - {""}
        if not cells:
            return "blank"
        if cells <= SIGNS.keys() | self.meanings.keys():
            return "signs"
        return "numbers" if all(map(_NUMBER.fullmatch, cells)) else "text"

    def _are(self, *kinds: str) -> Callable[[str], bool]:
        return lambda column: self.kinds[column] in kinds

    def choose(self) -> tuple[list[str], bool]:
        """Return the columns with labels, and whether they are columns of 0 and 1.

        If they are not, the first one holds text, and a second one says by 1 or 0 whether the image has that label.

        Raises:
            InputError: several choices are possible, or none.
        """
        if self.chosen:
            texts = [column for column in self.chosen if self.kinds[column] != "signs"]
            if len(texts) != 1 or len(self.chosen) > 2:
                return [*self.chosen], True
            return sorted(self.chosen, key=lambda column: column not in texts), False
        columns = [column for column in self.columns if not self._is_index(column)]
        odd = [column for column in columns if self._is_odd(column)]
        columns = [column for column in columns if not self._is_odd(column)]
        texts = [column for column in columns if self._may_be_joined(column)]
        if texts:
            return self._with_text(columns, texts)
        signs = [*filter(self._are("signs"), columns)]
        if not signs and len(columns) == 1 and self.kinds[columns[0]] != "numbers":
            return columns, False
        # a column such as `is_valid` would be learnt like any other
        if odd := [*filter(self._are("signs"), odd)]:
            raise InputError(
                f"{self.header}: columns that are usually not classes: {', '.join(odd)}. Ignore them with "
                f"{self._ignoring(odd)}.{self._hint_of_parts(odd)} If they are classes, set "
                "data.reader.ignore_columns=[] or list all classes in data.reader.classes=[...]."
            )
        if not signs:
            self._refuse_equal_forms([*filter(self._are("text", "numbers"), columns)])
            self._ask("no column is known to hold labels", [[column] for column in columns or self.columns])
        self._check_signs(columns, signs)
        return signs, True

    def _is_index(self, column: str) -> bool:
        """Return True for a column without a name that is blank or counts the rows."""
        cells = self.table.columns[column]
        counts = ([str(row + first) for row in range(len(cells))] for first in (0, 1))
        return column.startswith("Unnamed: ") and (self.kinds[column] == "blank" or cells in counts)

    def _is_odd(self, column: str) -> bool:
        return self.asks and column not in self.classes and _plain(column) in NOT_CLASSES

    def _may_be_joined(self, column: str) -> bool:
        cells = {*self.table.columns[column]} - {""}
        joined = any(character in cell for cell in cells for character in "|;") or fits(cells, ",")
        joined = joined or all(cell.startswith(("[", "{")) for cell in cells)
        return _plain(column) in LABEL_NAMES or (self.kinds[column] == "text" and joined)

    def _with_text(self, columns: list[str], texts: list[str]) -> tuple[list[str], bool]:
        """Choose where a column of text may hold the labels."""
        texts = [column for column in texts if self.kinds[column] != "signs"] or texts
        text = texts[0]
        confidence = [column for column in columns if self._is_confidence(column)]
        others = [c for c in columns if self.kinds[c] == "signs" and c not in (text, *confidence)]
        if _plain(text) not in LABEL_NAMES:
            texts = [*filter(self._are("text"), columns)]
        if len(texts) > 1:
            self._ask(
                "several columns may hold the labels",
                [*([column] for column in texts), *([others] if others else [])],
            )
        if self.kinds[text] == "signs":
            values = sorted({*self.table.columns[text]} - {""})
            if self.classes and self.classes <= {*values}:
                return [text], False
            if text not in self.classes:
                raise InputError(
                    f"{self.header}: column '{text}' of 0 and 1 is one class, or names two. Set "
                    f"{setting('classes', [*others, text])} or {setting('classes', values)}"
                    + (f", or leave it out with {self._ignoring([text])}." if others else ".")
                )
            return [*others, text], True
        if others and not (self.classes and self.classes.isdisjoint(others)):
            both = [[text, *others]] if len(others) == 1 else []
            self._ask("labels may be in a column of text, or in columns of 0 and 1", [[text], others, *both])
        if confidence and self.kinds[confidence[0]] != "signs":
            raise InputError(
                f"{self.header}: '{confidence[0]}' is not only 0 and 1. Keep the rows of labels that are sure, or take "
                f"all rows for labels with {self._ignoring(confidence)}."
            )
        return [text, *confidence], False

    def _is_confidence(self, column: str) -> bool:
        cells = {*self.table.columns[column]}
        return _plain(column) == "confidence" or (
            _plain(column) in SCORES and all(map(_SHARE.fullmatch, cells))
        )

    def _check_signs(self, columns: list[str], signs: list[str]) -> None:
        """Ask about columns beside those of 0 and 1 that may be classes, and about those that may be none."""
        if wrong := [*filter(self._is_nearly_signs, filter(self._are("text", "numbers"), columns))]:
            self._refuse_cell(wrong[0], wrong)
        if texts := [
            *filter(self._may_be_labels if len(signs) >= FEW else bool, filter(self._are("text"), columns))
        ]:
            self._refuse_cell(texts[0], texts)
        words = [c for c in signs if any(cell[:1] in {*"tTfF"} for cell in {*self.table.columns[c]})]
        runs = [
            [*filter(self._are("blank"), columns)],
            min(words, sorted({*signs} - {*words}), key=len),
        ]
        places = np.flatnonzero([self.kinds[column] == "signs" for column in columns])
        if len(gaps := np.flatnonzero(np.diff(places) > 1)):  # classes are next to each other
            runs.append(min(signs[: gaps[0] + 1], signs[gaps[-1] + 1 :], key=len))
        for run in filter(None, runs):
            raise InputError(
                f"{self.header}: these columns are blank, apart from the other columns of 0 and 1, or in another form: "
                f"{', '.join(run)}. Ignore those that are not classes, with {self._ignoring(run)}, or list "
                "all columns of classes in data.reader.label_columns=[...]."
            )

    def _may_be_labels(self, column: str) -> bool:
        """Return True for text of several values that repeat, unlike titles and comments."""
        cells = [cell for cell in self.table.columns[column] if cell]
        return 1 < len({*cells}) < len(cells)

    def _is_nearly_signs(self, column: str) -> bool:
        """Return True for counts, probabilities, and columns of 0 and 1 with misspelt cells."""
        cells = [cell.lower() for cell in self.table.columns[column] if cell]
        return all(map(_SHARE.fullmatch, cells)) or 10 * sum(cell in SIGNS for cell in cells) > len(cells)

    def _refuse_cell(self, column: str, others: list[str]) -> NoReturn:
        known = SIGNS.keys() | self.meanings.keys() | {""}
        cells = self.table.columns[column]
        row = next((row for row, cell in enumerate(cells) if cell.lower() not in known), 0)
        wrong = sorted({cell.lower() for cell in cells} - known)
        meaning = ""
        if self._is_nearly_signs(column) and len(wrong) <= FEW:
            meaning = f", or {_ask_meanings(wrong)}"
        raise InputError(
            f"{self.table.place(row)}: column '{column}' is '{cells[row][:60]}'; expected 0 or 1. Ignore columns that "
            f"are not classes with {self._ignoring(others)}, or list those with labels in "
            f"data.reader.label_columns=[...]{meaning}."
        )

    def _refuse_equal_forms(self, columns: list[str]) -> None:
        """Refuse several columns of the same words, none of which holds the labels by itself, or of numbers."""
        mostly = [
            c for c in columns if 2 * sum(cell in SIGNS for cell in self.table.columns[c]) > len(self.table)
        ]
        if len(mostly) > 1:
            self._refuse_cell(mostly[0], mostly)
        texts = [*filter(self._are("text"), columns)]
        if len(columns) > 1 and not texts:
            raise InputError(
                f"{self.header}: the cells of {', '.join(columns)[:60]} are numbers such as "
                f"{self.table.columns[columns[0]][0]}. Write 1 where an image has the class, else 0 "
                f"(choose a threshold for probabilities); or if one column holds class names, set one of "
                + ", ".join(setting("label_columns", [column]) for column in columns[:3])
            )
        words_of = {column: {cell.lower() for cell in self.table.columns[column]} - {""} for column in texts}
        times = Counter(chain.from_iterable(words_of.values()))
        equal = [column for column in texts if any(times[word] > 1 for word in words_of[column])]
        words = sorted({*chain.from_iterable(words_of[column] for column in equal)})
        if len(equal) < 2:
            return
        blank = [""] if any("" in self.table.columns[column] for column in equal) else []
        raise InputError(
            f"{self.header}: {', '.join(equal)[:60]} hold the same words, {', '.join(map(repr, words[:FEW]))}. "
            + (
                f"If they say whether an image has the class, {_ask_meanings([*words, *blank])}."
                if len(words) <= FEW
                else "One label in each of several columns cannot be read: join those of an image by '|' in one; "
                f"or, if one of them alone holds the labels, set {setting('label_columns', equal[:1])} or another."
            )
        )

    def _ignoring(self, columns: Sequence[str]) -> str:
        """Return the setting that ignores more columns; those that are ignored without it must be in it, too."""
        odd = [column for column in self.columns if self._is_odd(column) and self.kinds[column] != "blank"]
        return setting("ignore_columns", [*dict.fromkeys([*self.ignored, *odd, *columns])])

    def _hint_of_parts(self, columns: list[str]) -> str:
        found = [column for column in columns if column.lower() in {*FLAGS, *PART_NAMES, "is_train", "split"}]
        return f" If one gives the parts, set data.split.column={found[0]}." if found else ""

    def _ask(self, reason: str, choices: list[list[str]]) -> NoReturn:
        shown = "\n".join(f"  {setting('label_columns', choice)}" for choice in choices[:12])
        raise InputError(f"{self.header}: {reason}. Set those that hold them:\n{shown}")

    def read_signs(self, columns: Sequence[str]) -> tuple[np.ndarray, str]:
        """Read columns of 0 and 1, or of 1 and -1, true and false, or 1 and blank.

        Returns:
            Labels int8 (rows, columns), and their form in words.

        Raises:
            InputError: a cell has another value, or one that may mean no or unknown.
        """
        used = {cell.lower() for column in columns for cell in {*self.table.columns[column]}}
        codes = {cell: code for cell, code in SIGNS.items() if code >= 0}
        codes |= {cell: MEANINGS[meaning] for cell, meaning in self.meanings.items()}
        unclear = [cell for cell in NAMES_OF if cell in used and cell not in codes]
        # -1 or blank beside 1 alone, without 0, can only mean no
        if unclear and (used & {"0", "0.0", "false"} or ("" in used and used & {"-1", "-1.0"})):
            listed = {NAMES_OF[cell]: None for cell in unclear}
            raise InputError(
                f"{self.table.files[0]}: columns of 0 and 1 have cells that are {' and '.join(listed)}. Say what they "
                f"mean: 'data.reader.unknown={{{','.join(f'{name}:ignore' for name in listed)}}}', each of ignore (not "
                "known), zero (the image does not have the class) or one."
            )
        codes |= dict.fromkeys(unclear, 0)
        labels = np.empty((len(self.table), len(columns)), dtype=np.int8)
        for place, column in enumerate(columns):
            try:
                labels[:, place] = [codes[cell.lower()] for cell in self.table.columns[column]]
            except KeyError:
                self._refuse_cell(column, [column])
        words = [
            f", {NAMES_OF.get(cell, cell)} is {meaning}"
            for cell, meaning in self.meanings.items()
            if cell in used
        ]
        words += [f", {NAMES_OF[cell]} is no" for cell in unclear]
        return labels, f"columns of 1 and 0{''.join(words)}"


def _ask_meanings(cells: Sequence[str]) -> str:
    """Return what to do about cells that are not 0 and 1; a meaning that is not evident is left open."""
    if not all(map(_KEY.fullmatch, filter(None, cells))):  # not possible as keys in a command
        return f"write 1 and 0 instead of {', '.join(map(repr, filter(None, cells)))}"
    meanings = ",".join(f"{NAMES_OF.get(cell, cell)}:{EVIDENT.get(cell, '...')}" for cell in cells)
    return (
        f"set 'data.reader.unknown={{{meanings}}}', each of one (the image has the class), zero (it does not) or "
        "ignore (not known)"
    )


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")

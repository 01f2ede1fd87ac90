"""Find the columns of a table that hold labels, and read columns of 0 and 1."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import numpy as np

from mlic.data.parts import FLAGS, PART_NAMES
from mlic.data.readers.label_cells import ask, fits, setting
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
LIST_ALL = "data.reader.label_columns=[...] with all columns of classes"
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
        # the different cells of each column, in lower case
        self.cells = {
            c: {cell.lower() for cell in {*cells}} for c, cells in table.columns.items() if c != names
        }
        if absent := sorted({*self.ignored, *(label_columns or ())} - self.cells.keys()):
            raise InputError(f"{self.header}: no column '{absent[0]}'. Columns: {', '.join(self.cells)}.")
        self.columns = [column for column in self.cells if column not in {*self.ignored, *other_columns}]
        if not self.columns:
            raise InputError(f"{self.header}: no columns are left for labels beside '{names}'.")
        self.meanings = {
            str(cell).lower().replace("blank", ""): word for cell, word in (unknown or {}).items()
        }
        for word in self.meanings.values():
            check_choice("data.reader.unknown", word, MEANINGS)
        if "-1" in self.meanings:
            self.meanings["-1.0"] = self.meanings["-1"]
        self.kinds = {column: self._kind(cells - {""}) for column, cells in self.cells.items()}

    def _kind(self, cells: set[str]) -> str:
        if not cells:
            return "blank"
        if cells <= SIGNS.keys() | self.meanings.keys():
            return "signs"
        return "numbers" if all(map(_NUMBER.fullmatch, cells)) else "text"

    def _of(self, columns: Iterable[str], *kinds: str) -> list[str]:
        return [column for column in columns if self.kinds[column] in kinds]

    def choose(self) -> tuple[list[str], bool]:
        """Return the columns with labels, and whether they are columns of 0 and 1.

        If they are not, the first one holds text, and a second one says by 1 or 0 whether the image has that label.

        Raises:
            InputError: several choices are possible, or none.
        """
        if self.chosen:
            texts = self._of(self.chosen, "blank", "numbers", "text")
            if len(texts) != 1 or len(self.chosen) > 2:
                return [*self.chosen], True
            return sorted(self.chosen, key=lambda column: column not in texts), False
        columns = [column for column in self.columns if not self._is_index(column)]
        odd = [column for column in columns if self._is_odd(column)]
        columns = [column for column in columns if column not in odd]
        if texts := [column for column in columns if self._may_be_joined(column)]:
            return self._with_text(columns, texts)
        signs = self._of(columns, "signs")
        if not signs and len(columns) == 1 and self.kinds[columns[0]] != "numbers":
            return columns, False
        # a column such as `is_valid` would be learnt like any other
        if odd := self._of(odd, "signs"):
            parts = [c for c in odd if c.lower() in {*FLAGS, *PART_NAMES, "is_train", "split"}]
            answers = [f"data.split.column={column} if it gives the parts" for column in parts]
            names = f"columns that are usually not classes: {', '.join(odd)}"
            every = "data.reader.ignore_columns=[] if they are classes"
            ask(self.header, names, [self._ignoring(odd), *answers, every])
        if not signs:
            self._ask_for_labels(columns)
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
        others = [column for column in self._of(columns, "signs") if column not in (text, *confidence)]
        if _plain(text) not in LABEL_NAMES:
            texts = self._of(columns, "text")
        if len(texts) > 1:
            choices = [*([column] for column in texts), *([others] if others else [])]
            self._ask_columns("several columns may hold the labels", choices)
        if self.kinds[text] == "signs":
            values = sorted({*self.table.columns[text]} - {""})
            if self.classes and self.classes <= {*values}:
                return [text], False
            if text not in self.classes:
                answers = [setting("classes", [*others, text]), setting("classes", values)]
                answers += [self._ignoring([text])] if others else []
                ask(self.header, f"column '{text}' of 0 and 1 is one class, or names two", answers)
            return [*others, text], True
        if others and not (self.classes and self.classes.isdisjoint(others)):
            both = [[text, *others]] if len(others) == 1 else []
            self._ask_columns("labels may be in text, or in columns of 0 and 1", [[text], others, *both])
        if confidence and self.kinds[confidence[0]] != "signs":
            reason = f"'{confidence[0]}' is not only 0 and 1; keep the rows of labels that are sure, or take all rows"
            ask(self.header, reason, [self._ignoring(confidence)])
        return [text, *confidence], False

    def _is_confidence(self, column: str) -> bool:
        is_share = all(map(_SHARE.fullmatch, self.cells[column]))
        return _plain(column) == "confidence" or (_plain(column) in SCORES and is_share)

    def _ask_for_labels(self, columns: list[str]) -> NoReturn:
        """Ask where no column is known to hold labels."""
        mostly = [
            c for c in columns if 2 * sum(cell in SIGNS for cell in self.table.columns[c]) > len(self.table)
        ]
        if len(mostly) > 1:
            self._refuse_cell(mostly[0], mostly)
        texts = self._of(columns, "text")
        answers = [setting("label_columns", [column]) for column in (columns or self.columns)[:12]]
        equal = [
            c for c in texts if any(self.cells[c] & self.cells[other] - {""} for other in texts if other != c)
        ]
        words = sorted(set().union(*(self.cells[column] for column in equal)) - {""})
        if 0 < len(words) <= FEW:
            blank = [""] if any("" in self.cells[column] for column in equal) else []
            answers.append(_ask_meanings([*words, *blank]))
        ask(self.header, "no column is known to hold labels, joined or as 0 and 1", answers)

    def _check_signs(self, columns: list[str], signs: list[str]) -> None:
        """Ask about columns beside those of 0 and 1 that may be classes, and about those that may be none."""
        if wrong := [c for c in self._of(columns, "text", "numbers") if self._is_nearly_signs(c)]:
            self._refuse_cell(wrong[0], wrong)
        texts = self._of(columns, "text")
        if len(signs) >= FEW:  # text of several values that repeat, unlike titles and comments
            texts = [c for c in texts if 1 < len({*self._filled(c)}) < len(self._filled(c))]
        if texts:
            self._refuse_cell(texts[0], texts)
        words = [c for c in signs if any(cell[:1] in {*"tf"} for cell in self.cells[c])]
        runs = [self._of(columns, "blank"), min(words, sorted({*signs} - {*words}), key=len)]
        places = np.flatnonzero([self.kinds[column] == "signs" for column in columns])
        if len(gaps := np.flatnonzero(np.diff(places) > 1)):  # classes are next to each other
            runs.append(min(signs[: gaps[0] + 1], signs[gaps[-1] + 1 :], key=len))
        for run in filter(None, runs):
            reason = f"blank, apart from the other columns of 0 and 1, or in another form: {', '.join(run)}"
            ask(self.header, reason, [f"{self._ignoring(run)} or fewer, if they are not classes", LIST_ALL])

    def _filled(self, column: str) -> list[str]:
        return [cell.lower() for cell in self.table.columns[column] if cell]

    def _is_nearly_signs(self, column: str) -> bool:
        """Return True for counts, probabilities, and columns of 0 and 1 with misspelt cells."""
        cells = self._filled(column)
        return all(map(_SHARE.fullmatch, cells)) or 10 * sum(cell in SIGNS for cell in cells) > len(cells)

    def _refuse_cell(self, column: str, others: list[str]) -> NoReturn:
        known = SIGNS.keys() | self.meanings.keys() | {""}
        cells = self.table.columns[column]
        row = next((row for row, cell in enumerate(cells) if cell.lower() not in known), 0)
        wrong = sorted(self.cells[column] - known)
        answers = [f"{self._ignoring(others)} if they are not classes", LIST_ALL]
        if self._is_nearly_signs(column) and len(wrong) <= FEW:
            answers.append(_ask_meanings(wrong))
        ask(self.table.place(row), f"column '{column}' is '{cells[row][:60]}'; expected 0 or 1", answers)

    def _ignoring(self, columns: Sequence[str]) -> str:
        """Return the setting that ignores more columns; those that are ignored without it must be in it, too."""
        odd = [column for column in self.columns if self._is_odd(column) and self.kinds[column] != "blank"]
        return setting("ignore_columns", [*dict.fromkeys([*self.ignored, *odd, *columns])])

    def _ask_columns(self, reason: str, choices: list[list[str]]) -> NoReturn:
        ask(self.header, reason, [setting("label_columns", choice) for choice in choices[:12]])

    def read_signs(self, columns: Sequence[str]) -> tuple[np.ndarray, str]:
        """Read columns of 0 and 1, or of 1 and -1, true and false, or 1 and blank.

        Returns:
            Labels int8 (rows, columns), and their form in words.

        Raises:
            InputError: a cell has another value, or one that may mean no or unknown.
        """
        used = set().union(*(self.cells[column] for column in columns))
        codes = {cell: code for cell, code in SIGNS.items() if code >= 0}
        codes |= {cell: MEANINGS[meaning] for cell, meaning in self.meanings.items()}
        unclear = [cell for cell in NAMES_OF if cell in used and cell not in codes]
        # -1 or blank beside 1 alone, without 0, can only mean no
        if unclear and (used & {"0", "0.0", "false"} or ("" in used and used & {"-1", "-1.0"})):
            names = list(dict.fromkeys(NAMES_OF[cell] for cell in unclear))
            raise InputError(
                f"{self.table.files[0]}: columns of 0 and 1 have cells that are {' and '.join(names)}. Say what they "
                f"mean: 'data.reader.unknown={{{','.join(f'{name}:ignore' for name in names)}}}', each of ignore (not "
                "known), zero (the image does not have the class) or one."
            )
        codes |= dict.fromkeys(unclear, 0)
        labels = np.empty((len(self.table), len(columns)), dtype=np.int8)
        for place, column in enumerate(columns):
            if not self.cells[column] <= codes.keys():
                self._refuse_cell(column, [column])
            labels[:, place] = [codes[cell.lower()] for cell in self.table.columns[column]]
        meanings = {**self.meanings, **dict.fromkeys(unclear, "no")}
        words = [f", {NAMES_OF.get(cell, cell)} is {word}" for cell, word in meanings.items() if cell in used]
        return labels, f"columns of 1 and 0{''.join(words)}"


def _ask_meanings(cells: Sequence[str]) -> str:
    """Return what to do about cells that are not 0 and 1; a meaning that is not evident is left open."""
    if not all(map(_KEY.fullmatch, filter(None, cells))):  # not possible as keys in a command
        return f"nothing, but write 1 and 0 instead of {', '.join(map(repr, filter(None, cells)))}"
    meanings = ",".join(f"{NAMES_OF.get(cell, cell)}:{EVIDENT.get(cell, '...')}" for cell in cells)
    return f"'data.reader.unknown={{{meanings}}}', each of one, zero (the image does not have the class) or ignore"


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")

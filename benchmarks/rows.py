"""Rows of the results: measurements and their targets."""

import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
WIDTHS = (52, 10, 9, 8)


@dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        name: description of the measurement.
        measured: the value; None if the measurement failed.
        unit: unit of the value; empty for a ratio.
        target: target such as `>= 0.85`; None if there is none.
        detail: details in words.
    """

    name: str
    measured: float | None
    unit: str = ""
    target: str | None = None
    detail: str = ""

    @property
    def passed(self) -> bool | None:
        """Return True if the value reaches the target; None without a target."""
        if self.target is None:
            return None
        sign, bound = self.target.split()
        return self.measured is not None and COMPARISONS[sign](self.measured, float(bound))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON types."""
        return {**asdict(self), "passed": self.passed}


def as_table(rows: Sequence[Row]) -> str:
    """Format aligned text: name, value, target, verdict, and the details below."""
    lines = [_line("measured", "value", "target", ""), "-" * 84]
    for row in rows:
        value = "-" if row.measured is None else f"{row.measured:.4g} {row.unit}".strip()
        verdict = {None: "", True: "reached", False: "MISSED"}[row.passed]
        lines.append(_line(row.name, value, row.target or "", verdict))
        if row.detail:
            lines.append(f"    {row.detail}")
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()

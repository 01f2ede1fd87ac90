"""The one kind of table: unrounded values in CSV, texts, intervals and marks on the page."""

from pathlib import Path

import pandas as pd
import pytest

from mlic.report.tables import AHEAD, Column, Table

COLUMNS = {
    "run": Column("run"),
    "map": Column("mAP", "score", group="test"),
    "seconds": Column("seconds", "seconds"),
    "images": Column("images", "integer"),
    "error": Column("error"),
    "empty": Column("empty"),
}


@pytest.fixture
def table() -> Table:
    rows = [
        {"run": "a|b", "map": 0.51234, "map_low": 0.4, "map_high": 0.6, "seconds": 2000.5, "images": 1000},
        {"run": "c", "map": 0.7, "map_low": 0.6, "map_high": 0.8, "seconds": 3.0, "error": "x" * 1000},
        {"run": "d", "seconds": 3.0},
        {"run": "report", "map": 0.99, "seconds": 1.0},
    ]
    return Table("t", "T", COLUMNS, pd.DataFrame(rows), faint=[3])


def test_csv_holds_unrounded_values_and_intervals(table: Table, tmp_path: Path):
    frame = pd.read_csv(table.write_csv(tmp_path))
    assert list(frame.columns) == ["run", "map", "map_low", "map_high", "seconds", "images", "error", "empty"]
    assert frame.loc[0].tolist()[:6] == ["a|b", 0.51234, 0.4, 0.6, 2000.5, 1000]
    assert frame.loc[2].isna().sum() == 6 and len(frame.loc[1, "error"]) == 1000
    assert ",1000,,\n" in (tmp_path / "t.csv").read_text(), "a count stays one beside unknown counts"


def test_lines_show_rounded_values_dashes_and_intervals(table: Table):
    table.marks[0, "map"] = AHEAD
    first, second, third, _ = table.lines()
    assert [cell.text for cell in first[:4]] == ["a|b", "0.512", "2,000.50", "1,000"]
    assert (first[1].interval, first[1].mark) == ("0.400\N{EN DASH}0.600", AHEAD)
    assert third[1][:4] == ("\N{EN DASH}", "", "", "")
    assert len(second) == 5, "a column without values is not shown"
    assert table.group_spans() == [("", 1), ("test", 1), ("", 3)]
    difference, probability = Column("", "difference"), Column("", "probability")
    assert (difference.format(-0.01), probability.format(0.0001)) == ("\N{MINUS SIGN}0.010", "< 0.001")

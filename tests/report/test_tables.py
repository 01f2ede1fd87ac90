"""The one kind of table: unrounded values in CSV, texts, intervals and marks on the page."""

from pathlib import Path

import pandas as pd

from mlic.report.tables import AHEAD, Column, Table

COLUMNS = {
    "run": Column("run"),
    "map": Column("mAP", "score", group="test"),
    "seconds": Column("seconds", "seconds"),
    "images": Column("images", "integer"),
    "empty": Column("empty"),
}
ROWS = [
    {"run": "a|b", "map": 0.51234, "map_low": 0.4, "map_high": 0.6, "seconds": 2000.5, "images": 1000},
    {"run": "c", "map": 0.7},
    {"run": "=d", "seconds": 3.0},
]


def test_a_table_shows_rounded_values_and_writes_them_unrounded(tmp_path: Path):
    table = Table("t", "T", COLUMNS, pd.DataFrame(ROWS), marks={(0, "map"): AHEAD})
    first, second, third = table.lines()
    assert [cell.text for cell in first] == ["a|b", "0.512", "2,000.50", "1,000"]  # not the empty column
    assert (first[1].interval, first[1].mark, second[1].interval) == ("0.400\N{EN DASH}0.600", AHEAD, "")
    assert third[1][:4] == ("\N{EN DASH}", "", "", "")
    assert table.group_spans() == [("", 1), ("test", 1), ("", 2)]
    difference, probability = Column("", "difference"), Column("", "probability")
    assert (difference.format(-0.01), probability.format(0.0001)) == ("\N{MINUS SIGN}0.010", "< 0.001")
    lines = table.write_csv(tmp_path).read_text().splitlines()
    assert lines[0] == "run,map,map_low,map_high,seconds,images,empty"
    assert lines[1] == "a|b,0.51234,0.4,0.6,2000.5,1000,"
    assert lines[3].startswith("'=d,"), "no spreadsheet evaluates it"

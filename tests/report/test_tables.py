from pathlib import Path

import pandas as pd
import pytest

from mlic.report.markdown import escape, markdown_table
from mlic.report.tables import Cell, Column, Row, Table, mark_best

COLUMNS = (
    Column("run", "run"),
    Column("map", "mAP", "score", "test", interval=True, better="high"),
    Column("seconds", "seconds", "seconds", better="low"),
)


@pytest.fixture
def table() -> Table:
    rows = [
        Row([Cell("a|b"), Cell(0.51234, 0.4, 0.6), Cell(2000.5)]),
        Row([Cell("c"), Cell(0.7, 0.6, 0.8), Cell(3.0)]),
        Row([Cell("d"), Cell(), Cell(3.0)]),
        Row([Cell("report"), Cell(0.99), Cell(1.0)], reference=True),
    ]
    return Table("t", "T", COLUMNS, rows)


def test_csv_holds_unrounded_values_and_intervals(table: Table, tmp_path: Path):
    frame = pd.read_csv(table.write_csv(tmp_path))
    assert list(frame.columns) == ["run", "map", "map_low", "map_high", "seconds"]
    assert frame.loc[0].tolist() == ["a|b", 0.51234, 0.4, 0.6, 2000.5]
    assert frame.loc[2].isna().sum() == 3


def test_best_is_the_better_end_among_runs_alone(table: Table):
    marks = [[cell.mark for cell in row.cells] for row in mark_best(table).rows]
    assert marks == [["", "", ""], ["", "best", "best"], ["", "", "best"], ["", "", ""]]


def test_markdown_escapes_names_and_marks_the_best(table: Table):
    lines = markdown_table(mark_best(table)).splitlines()
    assert lines[:2] == ["| run | mAP, test | seconds |", "| --- | ---: | ---: |"]
    assert lines[2] == "| a\\|b | 0.512 (0.400\N{EN DASH}0.600) | 2,000.50 |"
    assert lines[3] == "| c | **0.700** (0.600\N{EN DASH}0.800) | **3.00** |"
    assert escape("<b>&") == "&lt;b&gt;&amp;"
    assert escape("a_b*c`d`[e](f)|g\nh") == "a\\_b\\*c\\`d\\`\\[e\\](f)\\|g h"
    assert escape("# no heading") == "\\# no heading"

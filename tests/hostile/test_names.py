"""Names that are formulas to a spreadsheet, or hold terminal escapes: escaped in the files, visible when printed."""

import csv
import io
import logging.config
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import mlic
from mlic.compare import compare
from mlic.config import CONFIG_DIR, compose
from mlic.errors import InputError
from mlic.escaping import escape_cell, escape_table, printable, restore_cell
from mlic.evaluate import evaluate
from mlic.predict import predict
from mlic.sweeps import summary
from mlic.train import train
from mlic.verify import verify

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
CLASSES = ('=HYPERLINK("http://x/","y")', "+cat|cmd", "-1", "'quoted")
BEGINNINGS = ("=cmd|' /C calc'!A0 ", "+", "-2", "@", "'", "'=", "\x1b[2J\x1b]0;title\a", "\u202egpj.", "")
SOURCES = sorted(Path(mlic.__file__).parent.rglob("*.py"))


def cells_of(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for row in csv.reader(stream):
            yield from row


def formulas_in(folder: Path) -> list[str]:
    """Cells of all CSV files that a spreadsheet would compute."""
    return [
        f"{file.name}: {cell}"
        for file in folder.rglob("*.csv")
        for cell in cells_of(file)
        if cell.startswith(FORMULAS) and not re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", cell)
    ]


@settings(max_examples=50, deadline=None)
@given(st.text() | st.sampled_from((*FORMULAS, "'", "''")).flatmap(lambda a: st.text().map(a.__add__)))
def test_escaping_is_undone(text: str):
    escaped = escape_cell(text)
    assert not escaped.startswith(FORMULAS) and restore_cell(escaped) == text
    if "\r" not in text:  # Python's reader takes it for a line end, as in any CSV file
        frame = escape_table(pd.DataFrame({text: pd.Series([text], dtype=object), "x": [-0.5]}))
        rows = list(csv.reader(io.StringIO(frame.to_csv(index=False), newline="")))
        assert restore_cell(rows[0][0]) == restore_cell(rows[1][0]) == text or text == "x"


@pytest.fixture
def odd_data(tiny_images: Path, tiny_labels: dict[str, tuple[str, ...]], tmp_path: Path) -> tuple[str, ...]:
    """Settings of 60 images and 4 classes with such names."""
    folder, kinds = tmp_path / "odd", sorted({label for labels in tiny_labels.values() for label in labels})
    folder.mkdir()
    with (tmp_path / "odd.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *CLASSES])
        for number, (name, labels) in enumerate(tiny_labels.items()):
            odd = BEGINNINGS[number % len(BEGINNINGS)].replace("/", "_") + name
            shutil.copy(tiny_images / name, folder / odd)
            writer.writerow([odd, *(int(kind in labels) for kind in kinds)])
    return f"data.annotations={tmp_path / 'odd.csv'}", f"data.images={folder}"


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_no_command_writes_a_formula(
    odd_data: tuple[str, ...], tiny_overrides: Callable[..., list[str]], tmp_path: Path
):
    run, output = tmp_path / "out" / "run", tmp_path / "out"
    every = tiny_overrides(*odd_data, "trainer.max_epochs=1")
    figures = train(compose(*every, output=run))
    options = (f"run='{run}'", "device=cpu", "num_workers=0")
    # our own reader of split.csv finds the images by their names
    evaluated = evaluate(compose(*options, "part=test", output=output / "test", config_name="evaluate"))
    assert evaluated["test"] == figures["test"]
    for name, more in (("all.csv", ()), ("top.csv", ("top_k=2", "thresholds=0"))):
        images = odd_data[1].replace("data.images", "images")
        predict(compose(*options, images, *more, output=output / name, config_name="predict"))
    page = compare(compose(f"runs='{run}'", "resamples=2", output=output / "report", config_name="compare"))
    next((tmp_path / "odd").glob("=cmd*")).unlink()
    next((tmp_path / "odd").glob("@*")).write_bytes(b"")
    verify(compose("data=csv", *odd_data, output=output / "verified", config_name="verify"))
    files = {file.relative_to(output).as_posix() for file in output.rglob("*.csv")}
    assert formulas_in(output) == []
    assert {"run/split.csv", "all.csv", "top.csv", "verified/problems.csv", "verified/classes.csv"} <= files
    assert {"report/tables/errors.csv", "report/tables/classes.csv", "verified/class_pairs.csv"} <= files
    cells = {cell for file in files for cell in cells_of(output / file)}
    assert {f"'{name}" for name in CLASSES} <= cells
    names = [restore_cell(cell) for cell in pd.read_csv(output / "all.csv")["file_name"]]
    assert "''shapes_04.jpg" in cells and "'shapes_04.jpg" in names and "'=shapes_05.jpg" in names
    assert "javascript:" not in page.read_text() and 'href="=' not in page.read_text()


def test_the_sources_write_csv_by_one_function():
    lines = [line.strip() for path in SOURCES for line in path.read_text().splitlines() if ".to_csv(" in line]
    assert len(lines) >= 5 and all("escape_table(" in line for line in lines)
    # the columns of epochs.csv are metrics; predict.py of an export, which runs without mlic, escapes by itself
    users = [path.name for path in SOURCES if re.search(r"csv\.(Dict)?[wW]riter", path.read_text())]
    assert sorted(users) == ["callbacks.py", "predict.py"]


def test_a_sweeps_table_is_escaped_and_printed_without_escapes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    row = {"job": "+a=\x1b[31m1", "state": "failed", "folder": "=x", "error": "no file '\x1b]0;title\a'"}
    monkeypatch.setattr("mlic.sweeps.table.sweep_table", lambda *_: pd.DataFrame([row]))
    hydra = {"sweep": {"dir": str(tmp_path)}, "job": {"config": {"override_dirname": {"exclude_keys": []}}}}
    summary._summarize(OmegaConf.create({"hydra": hydra}), compare=None)
    assert formulas_in(tmp_path) == [] and "'+a=" in (tmp_path / "jobs.csv").read_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", capsys.readouterr().out)


@pytest.mark.parametrize("command", [path.stem for path in sorted(Path(CONFIG_DIR).glob("*.yaml"))])
def test_each_commands_log_shows_control_characters(command: str):
    with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
        overrides = ["data=csv"] if command == "verify" else []
        config: Any = hydra_compose(command, return_hydra_config=True, overrides=overrides)
    logs: Any = OmegaConf.to_container(config.hydra.job_logging, resolve=False)
    assert {handler["formatter"] for handler in logs["handlers"].values()} == {"simple"}
    formatter: Any = logging.config.DictConfigurator(logs).configure_formatter(logs["formatters"]["simple"])
    record = logging.makeLogRecord({"msg": "bad: %s\n\tä 猫", "args": ("\x1b[2J\x9b\r\u202e\x00\udcff",)})
    assert formatter.format(record).endswith("] bad: \\x1b[2J\\x9b\\r\\u202e\\x00\\udcff\n\tä 猫")


def test_errors_show_control_characters():
    shown = str(InputError("photos/\x1b[31m\udcff.jpg: no such file\n"))
    assert shown == "photos/\\x1b[31m\\udcff.jpg: no such file\n"
    assert printable("héllo 👩‍👩‍👧 ‏עברית") == "héllo 👩‍👩‍👧 ‏עברית"

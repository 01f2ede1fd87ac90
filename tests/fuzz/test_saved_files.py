"""Shards, store descriptions, indexes, checkpoints and run folders changed at random: refused, or as they were."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.features.hashing import DIGEST_DTYPE, hash_files
from mlic.features.shard import ShardLayout, open_shard, write_shard
from mlic.features.store import FeatureStore
from mlic.inference.checkpoint import read_saved_run
from mlic.inference.classifier import Classifier
from mlic.report.reading import read_run as read_reported
from mlic.report.report import ReportOptions, write_report

FUZZ = settings.get_profile("fuzz")
LAYOUT = ShardLayout("ab" * 32, "float16", (2, 3))
ROWS = 5
CHANGES = st.lists(st.tuples(st.integers(0, 2**24), st.binary(max_size=8)), min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
Tried = Callable[[], None]


def changed(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Pieces put over what was there; an empty piece cuts."""
    result = bytearray(content)
    for place, piece in changes:
        start = place % (len(result) + 1)
        if piece:
            result[start : start + len(piece)] = piece
        else:
            del result[start:]
    return bytes(result)


def paths_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(path for key, item in items for path in paths_of(item, (*place, key)))]


def put(content: Any, number: int, value: Any) -> Any:
    """The content with another value at one of its places."""
    places = paths_of(content)
    place = places[number % len(places)]
    if not place:
        return value
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return content


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[bytes, bytes]]:
    """A shard's bytes, and its rows by name."""
    features = torch.randn(ROWS, 2, 3, generator=torch.Generator().manual_seed(0)).half()
    names = np.array([f"{number:064x}" for number in range(ROWS)], dtype=DIGEST_DTYPE)
    path = write_shard(tmp_path_factory.mktemp("shard"), LAYOUT, names, features, 1.0)
    rows = {name: row.numpy().tobytes() for name, row in zip(names.tolist(), features, strict=True)}
    return path.read_bytes(), rows


def expect_rows_or_refusal(path: Path, rows: dict[bytes, bytes]) -> None:
    """Refused, or the rows that were written; a name that was changed is no image's."""
    try:
        read = open_shard(path, LAYOUT)
    except ValueError as error:
        assert "it cannot be read as a shard" in str(error) or "expected float16" in str(error)
        return
    for name, row in zip(read.digests.tolist(), read.features, strict=True):
        assert row.numpy().tobytes() == rows.get(name, row.numpy().tobytes())


@settings(FUZZ)
@given(changes=CHANGES)
def test_shards_with_other_bytes(changes: list, shard: Any, tmp_path: Path, tried: Tried):
    tried()
    path = tmp_path / "0.safetensors"
    path.write_bytes(changed(shard[0], changes))
    expect_rows_or_refusal(path, shard[1])


@settings(FUZZ)
@given(
    place=st.integers(0, 100),
    value=JSON | st.sampled_from([0.0, 60.0, -1, 2**70, True, [0.0, 60.0], [0, 60, 1]]),
)
def test_shards_with_another_header(place: int, value: Any, shard: Any, tmp_path: Path, tried: Tried):
    tried()
    whole = shard[0]
    length = int.from_bytes(whole[:8], "little")
    header = json.dumps(put(json.loads(whole[8 : 8 + length]), place, value)).encode()
    path = tmp_path / "0.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    expect_rows_or_refusal(path, shard[1])


@settings(FUZZ)
@given(place=st.integers(0, 100), value=JSON, broken=st.booleans(), changes=CHANGES)
def test_store_descriptions(
    place: int, value: Any, broken: bool, changes: list, tmp_path: Path, tried: Tried
):
    tried()
    store = FeatureStore(tmp_path, {"network": "n", "pool": "avg"}, feature_shape=(3,))
    with store.lock():
        text = (store.folder / "store.json").read_bytes()
    other = json.dumps(put(json.loads(text), place, value)).encode()
    (store.folder / "store.json").write_bytes(changed(other, changes) if broken else other)
    try:
        found = FeatureStore.at(store.folder)
    except InputError:
        return
    assert found.folder == store.folder and found.layout == store.layout


@settings(FUZZ)
@example(changes=[(3947, bytes(7) + b"\x80")])  # a message of SQLite's that is not UTF-8
@given(changes=CHANGES)
def test_hash_indexes(changes: list, tmp_path: Path, tried: Tried):
    tried()
    paths = [tmp_path / str(number) for number in range(20)]
    for path in paths:
        path.write_text(path.name)
        os.utime(path, (1e9, 1e9))
    index = tmp_path / "hashes.sqlite"
    index.unlink(missing_ok=True)
    hash_files(paths, index)
    index.write_bytes(changed(index.read_bytes(), changes))
    found = hash_files(paths, index)
    assert len(found.digests) == 20 and not found.bad


def load(file: Path) -> None:
    try:
        Classifier.load(file, device="cpu")
    except InputError as error:
        assert str(error)


@pytest.mark.filterwarnings("ignore")
@settings(FUZZ)
@given(changes=CHANGES)
def test_checkpoints_with_other_bytes(changes: list, tiny_run: Path, tmp_path: Path, tried: Tried):
    tried()
    file = tmp_path / "best.ckpt"
    file.write_bytes(changed((tiny_run / "checkpoints" / "best.ckpt").read_bytes(), changes))
    try:
        read_saved_run(file)
    except InputError as error:
        assert "best.ckpt" in str(error)


@pytest.mark.filterwarnings("ignore")
@settings(FUZZ)
@given(
    place=st.integers(0, 10_000),
    value=JSON,
    part=st.sampled_from(["mlic", "hyper_parameters", "state_dict", ""]),
)
def test_checkpoints_that_say_something_else(
    place: int, value: Any, part: str, tiny_run: Path, tmp_path: Path, tried: Tried
):
    tried()
    content = torch.load(tiny_run / "checkpoints" / "best.ckpt", weights_only=True)
    if part:
        content[part] = put(dict(content[part]), place, value)
    else:
        content = put(content, place, value)
    file = tmp_path / "best.ckpt"
    torch.save(content, file)
    load(file)


JSON_FILES = ("status.json", "model.json", "dataset.json", "metrics.json", "thresholds.json")


@pytest.mark.filterwarnings("ignore")
@settings(FUZZ)
@given(file=st.sampled_from(JSON_FILES), place=st.integers(0, 300), value=JSON)
def test_run_folders_that_say_something_else(
    file: str, place: int, value: Any, tiny_run: Path, tmp_path: Path, tried: Tried
):
    tried()
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tiny_run, folder)
    (folder / file).write_text(json.dumps(put(json.loads((folder / file).read_text()), place, value)))
    reported = read_reported(folder)
    if reported.state == "finished":
        # one report takes a second: what it needs is looked at by the tables alone, but for a few
        report_tables(reported)


def report_tables(run: Any) -> None:
    from mlic.report.class_figures import label_figure
    from mlic.report.comparison import compare_runs
    from mlic.report.discovery import name_runs
    from mlic.report.run_tables import data_table, model_table, state_table, time_table, training_table
    from mlic.report.score_tables import calibration_table, class_metrics, class_table, result_table

    name_runs([run])
    comparison = compare_runs([run], resamples=2)
    metrics = class_metrics([run])
    tables = [
        model_table([run]), training_table([run]), time_table([run]), data_table([run]), state_table([run], []),
        result_table(comparison), calibration_table([run]), class_table([run], metrics),
    ]  # fmt: skip
    for table in tables:
        table.to_frame()
        [
            cell.text(column.kind)
            for row in table.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
        ]
    label_figure(run.dataset)


@settings(FUZZ)
@given(changes=CHANGES)
def test_predictions_with_other_bytes(changes: list, tiny_run: Path, tried: Tried, tmp_path: Path):
    tried()
    file = tmp_path / "test.parquet"
    file.write_bytes(changed((tiny_run / "predictions" / "test.parquet").read_bytes(), changes))
    try:
        found = Predictions.read_parquet(file)
    except InputError:
        return
    assert np.isfinite(found.scores).all() and set(np.unique(found.targets)) <= {0, 1}


def test_a_whole_report_over_a_run_of_which_everything_is_wrong(tiny_run: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    for file in JSON_FILES[1:]:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({key: [{"a": float("nan")}] for key in content}))
    (folder / "epochs.csv").write_text("epoch,train/map\nx,y\n,\n")
    page = write_report(ReportOptions(runs=str(folder), output=tmp_path / "out", resamples=2)).read_text()
    assert "and is ignored" in page and "epochs.csv cannot be read" in page

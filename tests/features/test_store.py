"""The store: rows by digest, over many shards, and everything that may be wrong with them."""

import errno
import json
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlic.errors import InputError
from mlic.features import FeatureStore
from mlic.features.locks import without_readers
from mlic.features.shard import DamagedShardError, Shard
from mlic.features.store import remove_store

Filled = tuple[FeatureStore, np.ndarray, Tensor]
MakeStore = Callable[..., FeatureStore]
Numbered = Callable[..., np.ndarray]


def _shards(store: FeatureStore) -> list[Path]:
    return sorted(store.folder.glob("*.safetensors"))


def test_rows_come_back_in_the_order_asked(filled: Filled):
    store, digests, features = filled
    asked = np.array([39, 0, 15, 15, 3])
    assert torch.equal(store.load(digests[asked]), features[asked])
    assert store.num_rows == 40
    assert store.size > features.nbytes


def test_missing_rows_are_listed_once_in_order(filled: Filled, numbered: Numbered):
    store, digests, _ = filled
    new = numbered(3, start=100)
    asked = np.concatenate([new[[2, 0]], digests[:5], new[[2, 1]]])
    assert store.missing(asked).tolist() == new[[2, 0, 1]].tolist()
    assert store.lacks(asked).tolist() == [True, True, *[False] * 5, True, True]
    with pytest.raises(InputError, match=r"4 of 9 rows .* Start the command again"):
        store.load(asked)


def test_a_store_that_does_not_exist_is_empty(make_store: MakeStore, numbered: Numbered):
    store = make_store()
    assert store.missing(numbered(2)).tolist() == numbered(2).tolist()
    assert (store.num_rows, store.size) == (0, 0)
    assert not store.folder.exists()


def test_another_process_sees_the_rows(filled: Filled, make_store: MakeStore):
    store, digests, features = filled
    again = make_store()
    assert again.folder == store.folder
    assert torch.equal(again.load(digests), features)


def test_everything_that_determines_the_features_names_another_store(make_store: MakeStore, tmp_path: Path):
    stores = [
        make_store(),
        make_store((4,)),
        make_store(dtype="float16"),
        make_store(weights="other"),
        FeatureStore(tmp_path / "features", make_store().identity, feature_shape=(3,), view="flip"),
    ]
    assert len({store.folder for store in stores}) == len(stores)
    assert make_store().folder.name.startswith("net-avg-float32-identity-")
    with pytest.raises(InputError, match=r"features.dtype: must be one of float16, bfloat16, float32"):
        make_store(dtype="int8")


def test_the_reader_gathers_what_the_store_loads(filled: Filled):
    store, digests, _ = filled
    order = np.random.default_rng(0).permutation(40)
    reader, loaded = store.reader(digests[order]), store.load(digests[order])
    wanted = np.array([5, 39, 0, 5, 17])
    assert torch.equal(reader.gather(wanted), loaded[wanted])
    assert len(reader) == 40
    lying = reader.disk_order()
    assert sorted(lying.tolist()) == list(range(40))
    reader.announce(lying[:20])
    # ten rows a shard: each ten neighbours on the disk are the rows that were added together
    added = order[lying].reshape(4, 10)
    assert all(set(ten) == set(range(ten.min(), ten.min() + 10)) for ten in added)


@pytest.mark.parametrize("damage", ["cut", "pickle", "other store"])
def test_a_bad_shard_is_refused_by_name_and_set_aside(
    filled: Filled, make_store: MakeStore, damage: str, caplog: pytest.LogCaptureFixture, numbered: Numbered
):
    store, digests, features = filled
    bad = _shards(store)[0]
    if damage == "cut":
        bad.write_bytes(bad.read_bytes()[:-1])
    elif damage == "pickle":
        bad.write_bytes(pickle.dumps(list(range(100))))
    else:
        other = make_store(weights="other")
        with other.lock(), other.writer() as writer:
            writer.add(numbered(1), torch.zeros(1, 3))
        os.replace(_shards(other)[0], bad)
    again = make_store()
    absent = again.missing(digests)
    assert len(absent) == 10
    assert str(bad) in caplog.text
    with again.lock(), again.writer() as writer:
        writer.add(absent, features[torch.from_numpy(np.isin(digests, absent))])
    caplog.clear()
    assert torch.equal(make_store().load(digests), features)
    assert not caplog.records


def test_a_flipped_byte_costs_the_row_that_it_is_in(filled: Filled, make_store: MakeStore):
    store, digests, features = filled
    bad = _shards(store)[1]
    row = Shard(bad, store.layout).digests[3]
    content = bytearray(bad.read_bytes())
    content[content.index(features[digests == row].numpy().tobytes())] ^= 4
    bad.write_bytes(content)
    again = make_store()
    assert len(again.missing(digests)) == 0
    with pytest.raises(DamagedShardError, match=rf"{bad.name}' is refused: row 3 does not fit its checksum"):
        again.load(digests)
    for looking in (again, make_store()):
        assert looking.missing(digests).tolist() == [row]
        left = digests != row
        assert torch.equal(looking.load(digests[left]), features[torch.from_numpy(left)])
    assert not bad.exists() and len(_shards(store)) == 4 and not list(store.folder.glob("*.refused"))


def test_of_the_files_set_aside_the_last_is_kept(filled: Filled, make_store: MakeStore):
    store, digests, _ = filled
    for number, bad in enumerate(_shards(store)[:2], 1):
        bad.write_bytes(b"")
        assert len(make_store().missing(digests)) == 10 * number
        assert list(store.folder.glob("*.refused")) == [bad.with_suffix(".refused")]


def test_verify_names_damaged_shards(filled: Filled):
    store, _, _ = filled
    assert store.verify() == []
    bad = _shards(store)[2]
    content = bytearray(bad.read_bytes())
    content[-1] ^= 1
    bad.write_bytes(content)
    assert [error.path for error in store.verify()] == [bad]
    assert store.num_rows == 39


def test_leftovers_of_a_killed_process_are_removed_under_the_lock(filled: Filled):
    store, digests, features = filled
    leftover = store.folder / "0123.tmp"
    leftover.write_bytes(b"half a shard")
    with store.lock():
        assert not leftover.exists()
    assert torch.equal(store.load(digests), features)


def test_the_same_row_twice_is_one_row(filled: Filled, make_store: MakeStore):
    store, digests, features = filled
    with store.lock(), store.writer() as writer:
        writer.add(digests[:4], features[:4])
    again = make_store()
    assert torch.equal(again.load(digests), features)


def test_a_shard_is_closed_by_size_and_by_age(make_store: MakeStore, numbered: Numbered):
    store = make_store((1000,))
    with store.lock():
        with store.writer(shard_mb=0.01) as writer:  # 4 kB a row
            for start in range(0, 10, 2):
                writer.add(numbered(2, start=start), torch.zeros(2, 1000))
        assert [len(path.read_bytes()) // 4000 for path in _shards(store)].count(4) == 2
        with store.writer(shard_seconds=0) as writer:
            writer.add(numbered(1, start=50), torch.zeros(1, 1000))
            writer.add(numbered(1, start=51), torch.zeros(1, 1000))
    assert len(_shards(store)) == 5
    store.refresh()
    assert len(store.missing(numbered(60))) == 48


def test_rows_of_another_shape_are_not_taken(make_store: MakeStore, numbered: Numbered):
    store = make_store()
    with store.lock(), store.writer() as writer, pytest.raises(ValueError, match=r"\(2, 4\)"):
        writer.add(numbered(2), torch.zeros(2, 4))
    assert store.num_rows == 0


def test_rows_are_kept_when_an_error_ends_the_writing(make_store: MakeStore, numbered: Numbered):
    store = make_store()
    with store.lock(), suppress(ZeroDivisionError), store.writer() as writer:
        writer.add(numbered(2), torch.ones(2, 3))
        writer.add(numbered(1 // 0), torch.ones(2, 3))
    store.refresh()
    assert torch.equal(store.load(numbered(2)), torch.ones(2, 3))


def test_a_second_holder_waits_says_so_and_then_sees_all(
    make_store: MakeStore, numbered: Numbered, caplog: pytest.LogCaptureFixture
):
    first, second = make_store(), make_store()
    caplog.set_level(logging.INFO)
    found = []

    def wait() -> None:
        with second.lock():
            found.append(len(second.missing(numbered(2))))

    with first.lock():
        thread = threading.Thread(target=wait)
        thread.start()
        while "waiting until it is done" not in caplog.text:
            time.sleep(0.01)
        with pytest.raises(InputError, match="in use by another process"):
            remove_store(first.folder)
        with first.writer() as writer:
            writer.add(numbered(2), torch.zeros(2, 3))
        assert not found
    thread.join(timeout=10)
    assert found == [0]


def test_last_use_is_noted(filled: Filled):
    store, digests, _ = filled
    os.utime(store.folder / "last_used", (1000, 1000))
    assert store.last_used == 1000
    store.load(digests)
    assert store.last_used > time.time() - 60


def test_a_store_is_found_again_from_its_folder(filled: Filled):
    store, digests, features = filled
    again = FeatureStore.at(store.folder)
    assert again.layout == store.layout
    assert torch.equal(again.load(digests), features)
    text = json.loads((store.folder / "store.json").read_text())
    assert text["identity"] == {"network": "net", "pool": "avg"}


def test_a_folder_of_another_format_or_of_none_is_refused(filled: Filled, tmp_path: Path):
    store, _, _ = filled
    description = store.folder / "store.json"
    text = json.loads(description.read_text())
    description.write_text(json.dumps({**text, "format_version": 7}))
    with pytest.raises(InputError, match=r"format version 7.*this is format version 1"):
        FeatureStore.at(store.folder)
    description.write_text("{")
    with pytest.raises(InputError, match="is no feature store"):
        FeatureStore.at(store.folder)
    with pytest.raises(InputError, match=str(tmp_path)):
        FeatureStore.at(tmp_path)


def _let_go(store: FeatureStore) -> None:
    assert store._held is not None
    store._held()


def test_a_store_is_not_removed_while_a_process_reads_it(filled: Filled):
    store, digests, features = filled
    _let_go(store)
    here, there = multiprocessing.Pipe()
    process = os.fork()
    if process == 0:
        reading = FeatureStore.at(store.folder)
        there.send(reading.num_rows)
        time.sleep(60)
        os._exit(0)
    try:
        assert here.recv() == 40
        with pytest.raises(InputError, match="in use by another process"):
            remove_store(store.folder)
        assert torch.equal(FeatureStore.at(store.folder).load(digests), features)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    remove_store(store.folder)
    assert not store.folder.exists()


def test_where_there_are_no_locks_a_store_can_be_read_and_removed(
    filled: Filled, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store, digests, features = filled
    _let_go(store)
    monkeypatch.setattr("fcntl.flock", refuse)
    assert torch.equal(make_store().load(digests), features)
    with without_readers(store.folder):
        pass


def test_removing_leaves_what_is_not_the_stores(filled: Filled, caplog: pytest.LogCaptureFixture):
    store, digests, _ = filled
    _let_go(store)
    note = store.folder / "note.txt"
    note.write_text("mine")
    remove_store(store.folder)
    assert list(store.folder.iterdir()) == [note]
    assert "not the store's" in caplog.text
    note.unlink()
    remove_store(store.folder)
    assert not store.folder.exists()
    store.refresh()
    assert len(store.missing(digests)) == 40


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file", {}, feature_shape=(3,))
    with pytest.raises(InputError, match=r"features.dir: '.*file' cannot be written"), store.lock():
        pass

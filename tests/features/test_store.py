"""The store: rows by digest, over many shards, and everything that may be wrong with them."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mlic.errors import InputError
from mlic.features.store import FeatureStore, remove_store

Filled = tuple[FeatureStore, np.ndarray, Tensor]
MakeStore = Callable[..., FeatureStore]
Numbered = Callable[..., np.ndarray]


def _shards(store: FeatureStore) -> list[Path]:
    return sorted(store.folder.glob("*.safetensors"))


def _add(store: FeatureStore, digests: np.ndarray, features: Tensor, **options: float) -> None:
    with store.lock():
        writer = store.writer(**options)
        writer.add(digests, features)
        writer.flush()
    store.refresh()


def test_rows_come_back_in_the_order_asked(filled: Filled, make_store: MakeStore):
    store, digests, features = filled
    asked = np.array([39, 0, 15, 15, 3])
    for looking in (store, make_store(), FeatureStore.at(store.folder)):
        assert torch.equal(looking.load(digests[asked]), features[asked])
        assert (looking.num_rows, looking.folder) == (40, store.folder)
    reader = store.reader(digests[::-1])
    assert torch.equal(reader.gather(asked), features.flip(0)[asked])
    # ten rows a shard: each ten neighbours on the disk are the rows that were added together
    added = reader.disk_order().reshape(4, 10)
    assert all(set(ten) == set(range(ten.min(), ten.min() + 10)) for ten in added)


def test_missing_rows_are_found(filled: Filled, numbered: Numbered):
    store, digests, features = filled
    empty = FeatureStore(store.root, {}, feature_shape=(3,))
    assert empty.is_missing(digests).all() and empty.num_rows == 0 and not empty.folder.exists()
    asked = np.concatenate([numbered(2, start=100), digests[:3]])
    assert store.is_missing(asked).tolist() == [True, True, False, False, False]
    with pytest.raises(InputError, match=r"2 of 5 rows .* Start the command again"):
        store.load(asked)
    _add(store, digests[:4], features[:4] + 1)
    assert store.num_rows == 44
    assert torch.isfinite(store.load(digests)).all(), "a row that is there twice is one row"


def test_stores_of_earlier_versions_are_found(make_store: MakeStore):
    assert make_store().folder.name == "net-avg-float32-identity-3eac7eb5e103e664"
    assert make_store(weights="other").folder != make_store().folder
    with pytest.raises(InputError, match=r"features.dtype: must be one of float16, bfloat16, float32"):
        make_store(dtype="int8")


def test_a_shard_is_plain_safetensors(make_store: MakeStore, numbered: Numbered):
    store, features = make_store((2, 2), dtype="bfloat16"), torch.randn(3, 2, 2)
    _add(store, numbered(3), features)
    with safe_open(_shards(store)[0], "pt") as file:
        stored, metadata = file.get_tensor("features"), file.metadata()
    assert torch.equal(stored, features.bfloat16())
    assert torch.equal(store.load(numbered(3)), stored)
    assert metadata["digests"].encode() == numbered(3).tobytes()
    assert float(metadata["seconds"]) == store.shards[0].seconds > 0


def test_shards_with_checksums_of_an_earlier_version_are_read(make_store: MakeStore, numbered: Numbered):
    store, features = make_store(), torch.randn(2, 3)
    metadata = {
        "format_version": "1", "key": store.layout.key, "dtype": "float32", "feature_shape": "[3]",
        "digests": numbered(2).tobytes().decode(),
    }  # fmt: skip
    store.folder.mkdir(parents=True)
    tensors = {"features": features, "checksums": torch.zeros(2, dtype=torch.int64)}
    save_file(tensors, store.folder / "0.safetensors", metadata=metadata)
    assert torch.equal(store.load(numbered(2)), features)
    assert np.isnan(store.shards[0].seconds)


@pytest.mark.parametrize("damage", ["cut", "empty", "one flipped bit", "other store"])
def test_a_damaged_shard_is_set_aside_by_name_and_its_rows_are_missing(
    filled, make_store, damage, caplog, numbered
):
    store, digests, features = filled
    bad = _shards(store)[0]
    content = bad.read_bytes()
    other = make_store(weights="other")
    _add(other, numbered(1), torch.zeros(1, 3))
    contents = {
        "cut": content[:-1],
        "empty": b"",
        "one flipped bit": content[:-1] + bytes([content[-1] ^ 1]),
        "other store": _shards(other)[0].read_bytes(),
    }
    bad.write_bytes(contents[damage])
    again = make_store()
    missing = again.is_missing(digests)
    assert missing.sum() == 10
    assert f"shard '{bad}' is not used" in caplog.text
    assert not bad.exists() and (store.folder / "shard.damaged").exists()
    _add(again, digests[missing], features[torch.from_numpy(missing)])
    assert torch.equal(make_store().load(digests), features)


def test_a_shard_is_closed_by_size_and_by_age(make_store: MakeStore, numbered: Numbered):
    store = make_store((1000,))
    leftover = store.folder / ".0123.safetensors.77.tmp"  # of a killed process
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a shard")
    with store.lock():
        assert not leftover.exists()
        writer = store.writer(shard_bytes=10_000)  # 4 kB a row
        for start in range(0, 10, 2):
            writer.add(numbered(2, start=start), torch.zeros(2, 1000))
        assert [path.stat().st_size // 4000 for path in _shards(store)] == [4, 4]
        writer.flush()
        store.writer(shard_seconds=0).add(numbered(1, start=50), torch.zeros(1, 1000))
        with pytest.raises(ValueError, match=r"\(2, 4\)"):
            writer.add(numbered(2), torch.zeros(2, 4))
    assert len(_shards(store)) == 4
    store.refresh()
    assert store.num_rows == 11


def test_a_folder_that_is_not_a_store_of_this_version_is_refused(filled: Filled, tmp_path: Path):
    store = filled[0]
    description = store.folder / "store.json"
    text = json.loads(description.read_text())
    description.write_text(json.dumps({**text, "format_version": 7}))
    with pytest.raises(InputError, match=r"another version of mlic \(format version 7\)"):
        FeatureStore.at(store.folder)
    description.write_text("{")
    with pytest.raises(InputError, match="is not a feature store"):
        FeatureStore.at(store.folder)
    with pytest.raises(InputError, match=str(tmp_path)):
        FeatureStore.at(tmp_path)


def _release(store: FeatureStore) -> None:
    assert store._in_use is not None
    store._in_use()


def test_a_store_is_not_removed_while_a_process_adds_to_it_or_reads_it(filled: Filled):
    store, digests, features = filled
    with store.lock(), pytest.raises(InputError, match="in use by another process"):
        remove_store(store.folder)
    _release(store)
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


def test_removing_leaves_what_is_not_the_stores(filled: Filled):
    store, digests, _ = filled
    _release(store)
    note = store.folder / "note.txt"
    note.write_text("mine")
    (store.folder / "0.refused").write_text("")
    remove_store(store.folder)
    assert list(store.folder.iterdir()) == [note]
    store.refresh()
    assert store.is_missing(digests).all()

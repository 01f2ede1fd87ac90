"""Digests of files, and the index that saves reading them again."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from mlic.features.hashing import hash_files


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(5):
        paths.append(tmp_path / "data" / f"{number}.bin")
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_bytes(os.urandom(100 + number))
    return paths


@pytest.mark.parametrize("index", ["index.sqlite", None])
def test_digests_are_those_of_hashlib_in_the_order_asked(files, tmp_path, index):
    asked, missing = [files[3], files[0], files[3]], tmp_path / "nowhere.jpg"
    hashed = hash_files([*asked, missing, tmp_path], tmp_path / index if index else None)
    expected = [hashlib.sha256(path.read_bytes()).hexdigest().encode() for path in asked]
    assert hashed.digests.tolist() == [*expected, b"", b""]
    assert hashed.states[:, 0].tolist() == [103, 100, 103, 0, 0]
    assert hashed.bad.keys() == {missing, tmp_path} and "No such file" in hashed.bad[missing]
    # entries of files that were just written are not trusted
    assert hash_files(asked, tmp_path / index if index else None).num_read == 3


@pytest.mark.usefixtures("settled")
def test_changed_and_new_files_are_read_again(files: list[Path], tmp_path: Path):
    first = hash_files(files[:4], tmp_path / "index.sqlite")
    assert (first.num_read, hash_files(files[:4], tmp_path / "index.sqlite").num_read) == (4, 0)
    times = files[1].stat()
    files[1].write_bytes(os.urandom(times.st_size))
    os.utime(files[1], ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same mtime
    second = hash_files(files, tmp_path / "index.sqlite")
    assert second.num_read == 2
    assert second.digests[1] == hashlib.sha256(files[1].read_bytes()).hexdigest().encode()
    assert np.array_equal(first.digests[[0, 2, 3]], second.digests[[0, 2, 3]])


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", ["junk", "empty", "cut"])
def test_broken_index_costs_only_time(files, tmp_path, damage, caplog):
    index = tmp_path / "index.sqlite"
    first = hash_files(files, index)
    whole = index.read_bytes()
    index.write_bytes({"junk": b"junk" * 3000, "empty": b"", "cut": whole[: len(whole) // 2]}[damage])
    with caplog.at_level(logging.WARNING):
        second = hash_files(files, index)
    assert second.num_read == 5
    assert np.array_equal(first.digests, second.digests)
    assert damage == "empty" or str(index) in caplog.text
    hash_files(files, index)
    assert hash_files(files, index).num_read == 0

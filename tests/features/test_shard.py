"""One shard: what is written is read, and nothing else ever is."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from mlic.features.hashing import DIGEST_DTYPE
from mlic.features.shard import DamagedShardError, Shard, ShardLayout, write_shard

LAYOUT = ShardLayout("ab" * 32, "float16", (2, 3))


@pytest.fixture
def features() -> Tensor:
    return torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0)).half()


@pytest.fixture
def names() -> np.ndarray:
    return np.array([f"{number:064x}" for number in range(7)], dtype=DIGEST_DTYPE)


@pytest.fixture
def path(tmp_path: Path, names: np.ndarray, features: Tensor) -> Path:
    return write_shard(tmp_path, LAYOUT, names, features)


def test_rows_come_back_in_any_order(path: Path, names: np.ndarray, features: Tensor):
    shard = Shard(path, LAYOUT)
    assert np.array_equal(shard.digests, names)
    rows = np.array([6, 0, 1, 2, 2, 5])
    assert torch.equal(shard.read(rows), features[rows])
    assert shard.read(np.array([], dtype=np.int64)).shape == (0, 2, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_dtype_and_a_shape_of_one(tmp_path: Path, names: np.ndarray, dtype: str):
    layout = ShardLayout("k", dtype, (1,))
    features = torch.tensor([[1.5], [-2.0]]).to(getattr(torch, dtype))
    read = Shard(write_shard(tmp_path, layout, names[:2], features), layout).read(np.arange(2))
    assert read.dtype == features.dtype
    assert torch.equal(read, features)


def test_the_file_is_plain_safetensors(path: Path, names: np.ndarray, features: Tensor):
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("features"), features)
        assert file.metadata()["key"] == LAYOUT.key
        assert file.metadata()["digests"].encode() == names.tobytes()


def test_nothing_else_is_left_beside_it(path: Path):
    assert list(path.parent.iterdir()) == [path]


def _read_all(path: Path) -> dict[bytes, bytes] | None:
    """Rows by digest; None if anything was refused."""
    try:
        shard = Shard(path, LAYOUT)
        rows = shard.read(np.arange(len(shard)))
    except DamagedShardError:
        return None
    return {digest: row.numpy().tobytes() for digest, row in zip(shard.digests.tolist(), rows, strict=True)}


def test_a_flipped_bit_anywhere_is_never_read(path: Path):
    good, whole = _read_all(path), path.read_bytes()
    assert good is not None
    num_refused = 0
    for position in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        read = _read_all(path)
        num_refused += read is None
        # what is read in spite of the flip (say, in a space of the header) is as it was
        assert read in (None, good), f"byte {position}"
    assert num_refused > 0.4 * len(whole)


def test_a_shard_cut_short_anywhere_is_refused(path: Path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedShardError, match=path.name):
            Shard(path, LAYOUT)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedShardError, match="longer"):
        Shard(path, LAYOUT)


def test_cut_short_or_gone_while_in_use(path: Path):
    shard = Shard(path, LAYOUT)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedShardError, match=r"truncated while|checksum"):
        shard.read(np.arange(7))
    path.unlink()
    with pytest.raises(DamagedShardError, match="cannot be opened"):
        shard.read(np.arange(7))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (ShardLayout("cd" * 32, "float16", (2, 3)), "belongs to store abababababababab, this is store cdcd"),
        (ShardLayout("ab" * 32, "bfloat16", (2, 3)), "expected BF16"),
        (ShardLayout("ab" * 32, "float16", (3, 2)), r"expected F16 \[7, 3, 2\]"),
    ],
)
def test_a_shard_of_another_store_is_refused(path: Path, layout: ShardLayout, message: str):
    with pytest.raises(DamagedShardError, match=message):
        Shard(path, layout)


def test_another_format_version_is_refused(
    tmp_path: Path, names: np.ndarray, features: Tensor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mlic.features.shard.FORMAT_VERSION", 9)
    path = write_shard(tmp_path, LAYOUT, names, features)
    monkeypatch.undo()
    with pytest.raises(DamagedShardError, match="format version 9, this is version 1"):
        Shard(path, LAYOUT)


@pytest.mark.parametrize(
    "content", [pickle.dumps({"features": [1.0] * 100}), b"", b"\x10" + bytes(7) + b"[" * 16]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "0.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedShardError, match="is refused"):
        Shard(path, LAYOUT)


def test_a_row_under_another_name_is_refused(path: Path, names: np.ndarray):
    swapped = bytearray(path.read_bytes())
    first, second = swapped.find(names[0]), swapped.find(names[1])
    swapped[first : first + 64], swapped[second : second + 64] = names[1], names[0]
    path.write_bytes(swapped)
    with pytest.raises(DamagedShardError, match="row 0 does not fit its checksum"):
        Shard(path, LAYOUT).read(np.arange(7))

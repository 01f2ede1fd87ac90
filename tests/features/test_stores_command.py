"""python -m mlic.features"""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from mlic.features import FeatureStore
from mlic.features.__main__ import main

Filled = tuple[FeatureStore, np.ndarray, Tensor]


def test_list_shows_rows_size_and_last_use(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    days_ago = time.time() - 3 * 86_400
    os.utime(store.folder / "last_used", (days_ago, days_ago))
    assert main(["--dir", str(store.root)]) == 0
    words = capsys.readouterr().out.splitlines()[1].split()
    assert (words[0], words[2], words[3]) == ("40", "3.0", str(store.folder))
    assert float(words[1]) == pytest.approx(store.size / 1e6, abs=0.1)
    (store.folder / "store.json").write_text("{}")
    main(["--dir", str(store.root), "list"])
    assert "other format" in capsys.readouterr().out


def test_an_empty_folder_and_the_default_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLIC_CACHE", str(tmp_path / "cache"))
    assert main([]) == 0
    assert f"no feature stores in '{tmp_path / 'cache' / 'features'}'" in capsys.readouterr().out


def test_verify_fails_on_damage_and_names_it(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    assert main(["--dir", str(store.root), "verify"]) == 0
    assert "40 rows good, 0 shards damaged" in capsys.readouterr().out
    bad = next(store.folder.glob("*.safetensors"))
    bad.write_bytes(bad.read_bytes()[:-3])
    assert main(["--dir", str(store.root), "verify"]) == 1
    output = capsys.readouterr().out
    assert "30 rows good, 1 shards damaged" in output
    assert bad.name in output
    assert main(["--dir", str(store.root), "verify"]) == 0


def test_verify_passes_over_other_formats(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    (store.folder / "store.json").write_text("{}")
    assert main(["--dir", str(store.root), "verify"]) == 0
    assert "is no feature store" in capsys.readouterr().out


def test_prune_removes_only_what_was_not_used(filled: Filled, capsys: pytest.CaptureFixture[str]):
    store = filled[0]
    arguments = ["--dir", str(store.root), "prune", "--days", "2"]
    assert main(arguments) == 0
    assert store.folder.exists()
    days_ago = time.time() - 3 * 86_400
    os.utime(store.folder / "last_used", (days_ago, days_ago))
    main(arguments)
    assert "in use, left alone" in capsys.readouterr().out  # `store` has read it
    assert store.folder.exists() and store._held is not None
    store._held()
    with FeatureStore.at(store.folder)._file_lock():
        main(arguments)
        assert "in use, left alone" in capsys.readouterr().out
    assert store.folder.exists()
    main(arguments)
    assert str(store.folder) in capsys.readouterr().out
    assert not store.folder.exists()


def test_prune_needs_the_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--dir", str(tmp_path), "prune"])
    assert "--days" in capsys.readouterr().err


def test_public_names_can_be_imported():
    from mlic import features

    assert all(getattr(features, name).__name__ == name for name in features.__all__)
    assert dir(features) == sorted(features.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        features.Nothing  # noqa: B018

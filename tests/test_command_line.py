import sys
from pathlib import Path

import pytest

from mlic.command_line import program, quote_paths
from mlic.config import compose


@pytest.mark.parametrize(
    "path",
    [
        "sweep/model=efficientnet_lite1,seed=1",
        "Fotos (März)/it's {1}, [2].jpg",
        "photos/**/*.jpg",
        "C:\\photos\\",
        "a\\'b",
        "~/x y",
        "10",
        "#1: 50%",
    ],
)
def test_hydra_reads_the_path_that_was_typed(path: str, tmp_path: Path):
    quoted = quote_paths([f"run={path}", f"images={path}"])
    config = compose(*quoted, output=tmp_path, config_name="predict")
    assert config.run == path
    assert config.images == path


def test_other_arguments_stay_as_they_are():
    arguments = [
        "--help",
        "-m",
        "top_k=3",
        "run=null",
        "images=[a.jpg,b.jpg]",
        "images='a b'",
        "run=",
        "data=csv",
    ]
    assert quote_paths(arguments) == arguments
    assert quote_paths(["runs=a=b"]) == ["runs=a=b"]
    assert quote_paths(["runs=a=b"], ["runs"]) == ["runs='a=b'"]


def test_programs_are_named_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "tensorboard").touch()
    monkeypatch.setattr(sys, "executable", str(binaries / "python"))
    assert program("tensorboard") == str(binaries / "tensorboard")
    monkeypatch.chdir(tmp_path)
    assert program("tensorboard") == ".venv/bin/tensorboard"
    assert program("absent") == "absent"

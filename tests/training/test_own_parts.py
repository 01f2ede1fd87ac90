"""Runs on parts of the user: lists of names, and the parts of an earlier run."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig

from mlic.config import compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.train import train
from mlic.verify import verify

Command = Callable[..., DictConfig]
SHARES = ("data.split.test=0.2", "data.split.val=0.2", "trainer.max_epochs=1")


def parts_of(folder: Path) -> dict[str, str]:
    frame = pd.read_csv(folder / "split.csv")
    return dict(zip(frame["file_name"], frame["split"], strict=True))


def test_given_and_kept_parts_are_those_of_every_command(
    tiny_config: Command, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    annotations, images = tiny_csv
    header, *rows = annotations.read_text(encoding="utf-8").splitlines()
    names = [row.partition(",")[0] for row in rows]
    listed = tmp_path / "test.txt"
    listed.write_text("\n".join(name.removesuffix(".jpg") for name in names[:14]))
    some = tmp_path / "some.csv"
    some.write_text("\n".join([header, *rows[:50]]) + "\n", encoding="utf-8")
    overrides = (*SHARES, f"data.annotations={some}", f"data.split.files={{test: {listed}}}", "resume=auto")
    config = tiny_config(*overrides)
    results, run = train(config), tmp_path / "run"
    parts = parts_of(run)
    assert [parts[name] == "test" for name in names[:50]] == [True] * 14 + [False] * 36
    assert list(parts.values()).count("val") == pytest.approx(10, abs=2)
    assert json.loads((run / "metrics.json").read_text())["test"] == results["test"]
    places = (f"data.annotations={some}", f"data.images={images}", f"data.split.files={{test: {listed}}}")
    checked = verify(
        compose("data=csv", *places, *SHARES[:2], config_name="verify", output=tmp_path / "verified")
    )
    counts = json.loads((run / "dataset.json").read_text())["counts"]
    assert int(checked.classes["val"].to_numpy().sum()) == sum(counts["val"].values())

    assert train(config) == results  # finished, skipped
    listed.rename(tmp_path / "moved.txt")
    evaluated = evaluate(
        compose(f"run={run}", "part=test", config_name="evaluate", output=tmp_path / "scored")
    )
    assert evaluated["test"] == results["test"]
    with pytest.raises(InputError, match=r"data\.split\.files: '.*test\.txt' cannot be read"):
        train(config)

    keep = f"data.split.keep={run}"
    with pytest.raises(InputError, match=r"data\.split\.keep: .* is in output"):
        train(tiny_config(*SHARES, keep))
    grown = tiny_config(*SHARES, keep)
    grown.output = str(tmp_path / "grown")
    train(grown)
    new = parts_of(tmp_path / "grown")
    assert {name: new[name] for name in parts} == parts and len(new) == 60
    assert {"train", "val"} >= {new[name] for name in names[50:]}  # test has more than its share

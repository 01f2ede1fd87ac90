"""Searches on 60 small images with a tiny random network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlic.tune import tune

SMALL = ("trainer.max_epochs=3", "tune.trials=4", "tune.space.head.hidden={choice: [[16], [8, 8], []]}")
Search = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def search(tiny_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Search:
    """(folder, overrides) -> results of a search of a second or two; all read one feature store."""
    stored = (f"++features.dir={tmp_path_factory.mktemp('tuning') / 'store'}", "++features.num_workers=0")

    def run(folder: Path, *overrides: str, small: tuple[str, ...] = SMALL) -> dict[str, dict[str, Any]]:
        return tune(*tiny_arguments, *stored, *small, *overrides, output=folder)

    return run


@pytest.fixture(scope="session")
def trials_of() -> Callable[[Path], pd.DataFrame]:
    """Folder of a search -> its trials.csv, with the number of the trial as index."""
    return lambda folder: pd.read_csv(folder / "trials.csv").set_index("trial")

"""Searches on 60 small images with a tiny random network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlic.config import compose_with_choices

SMALL = (
    "trainer.max_epochs=3",
    "tune.heads=6",
    "tune.halving={first: 1, eta: 2}",
    "tune.space.head.hidden={choice: [[16], [8, 8], []]}",
)

Composed = tuple[Any, dict[str, str | None]]


@pytest.fixture(scope="session")
def search_in(
    tiny_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Composed]:
    """(folder, overrides) -> config and choices of a search that takes two seconds; all read one feature store."""
    stored = ("++features.num_workers=0", f"++features.dir={tmp_path_factory.mktemp('tuning') / 'store'}")

    def make(folder: Path, *overrides: str) -> Composed:
        every = (*tiny_arguments, *stored, *SMALL, *overrides)
        return compose_with_choices(*every, output=folder, config_name="tune")

    return make


@pytest.fixture
def tiny_search(search_in: Callable[..., Composed], tmp_path: Path) -> Callable[..., Composed]:
    """Overrides -> config and choices of such a search; its folder is `tmp_path / "tuned"`."""
    return partial(search_in, tmp_path / "tuned")

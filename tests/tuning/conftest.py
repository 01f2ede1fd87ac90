"""Searches on 60 small images with a tiny random network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlic.config import compose_with_choices

SMALL = (
    "tune.heads=6",
    "tune.halving={first: 1, eta: 2}",
    "tune.space.head.hidden={choice: [[16], [8, 8], []]}",
)

Composed = tuple[Any, dict[str, str | None]]


@pytest.fixture
def tiny_search(tiny_overrides: Callable[..., list[str]], tmp_path: Path) -> Callable[..., Composed]:
    """Overrides -> config and choices of a search that takes two seconds; its folder is `tmp_path / "tuned"`."""

    def make(*overrides: str) -> Composed:
        every = tiny_overrides(*SMALL, *overrides)
        return compose_with_choices(*every, output=tmp_path / "tuned", config_name="tune")

    return make

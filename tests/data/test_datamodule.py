from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate

from mlic.config import compose
from mlic.errors import InputError
from mlic.features.source import CachedFeatures
from mlic.train import train


def test_places_that_are_not_given_are_named(tmp_path: Path):
    for given, missing in (
        (["data=csv", f"data.images={tmp_path}"], "data.annotations: .*'annotations'"),
        (["data=voc"], "set data.annotations and data.images"),
    ):
        config = compose(*given, output=tmp_path / "run")
        with pytest.raises(InputError, match=missing):
            instantiate(config.data).read()


def test_a_split_that_cannot_be_is_told_before_features_are_computed(
    tiny_overrides: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = compose(*tiny_overrides("data.split.test=0.01", "data.split.val=0.01"), output=tmp_path / "run")
    monkeypatch.setattr(CachedFeatures, "extract", lambda *_: pytest.fail("features were computed"))
    with pytest.raises(InputError, match=r"data\.split"):
        train(config)

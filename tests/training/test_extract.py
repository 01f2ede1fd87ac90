from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from mlic.errors import InputError
from mlic.train import train
from mlic.training.run import extract


def test_extract_computes_what_training_then_finds(
    tiny_config: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    result = extract(tiny_config())
    assert (result.found, result.computed, result.bad) == (0, 60, {})
    assert not (tmp_path / "run" / "status.json").exists()
    again = extract(tiny_config())
    assert (again.found, again.computed) == (60, 0)
    with caplog.at_level("INFO"):
        train(tiny_config())
    assert any("60 rows found" in message for message in caplog.messages)


def test_extract_for_live_training_is_refused(tiny_config: Callable[..., DictConfig]):
    with pytest.raises(InputError, match="features=live keeps no features"):
        extract(tiny_config("features=live"))

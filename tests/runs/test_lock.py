"""A folder that Hydra names by itself is held too, and without a warning."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlic.runs.lock import LOCK_FILE


@pytest.mark.slow
def test_a_run_without_a_name_starts_without_a_warning(
    run_server: Any, tiny_arguments: tuple[str, ...], tmp_path: Path
):
    code = run_server.run(*tiny_arguments, "trainer.max_epochs=1", folder=tmp_path)
    text = (tmp_path / "command.log").read_text()
    assert code == 0, text
    assert "UserWarning: Callback" not in text
    assert len(list((tmp_path / "outputs" / "runs").glob(f"*/{LOCK_FILE}"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: expected a whole number"),
        ("+optimizer.learning_rate=0.1", "'optimizer.learning_rate': torch.optim.Adam takes no such option"),
        ("optimizer.lr=-1", "Invalid learning rate: -1"),
    ],
)
def test_settings_that_libraries_refuse_are_named(
    run_server: Any, tiny_arguments: tuple[str, ...], tmp_path: Path, setting: str, message: str
):
    assert run_server.run(*tiny_arguments, setting, folder=tmp_path) == 1
    text = (tmp_path / "command.log").read_text()
    assert "Traceback" not in text
    assert re.search(message, text), text

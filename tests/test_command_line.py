import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from mlic.command_line import ending_in_order, quote_paths, run_command
from mlic.config import compose
from mlic.errors import InputError


@pytest.mark.parametrize(
    "path",
    [
        "sweep/model=lite,seed=1", "Fotos (März)/it's {1}, [2].jpg", "photos/**/*.jpg", "C:\\photos\\", "a\\'b",
        "~/x y", "10", "#1: 50%",
    ],
)  # fmt: skip
def test_hydra_reads_the_path_that_was_typed(path: str, tmp_path: Path):
    quoted = quote_paths([f"run={path}", f"images={path}"])
    config = compose(*quoted, output=tmp_path, config_name="predict")
    assert config.run == config.images == path


def test_other_arguments_stay_as_they_are():
    arguments = [
        "--help",
        "-m",
        "top_k=3",
        "run=null",
        "images=[a.jpg,b.jpg]",
        "images='a b'",
        "run=",
        "runs=a=b",
    ]
    assert quote_paths(arguments) == arguments
    assert quote_paths(["runs=a=b"], ["runs"]) == ["runs='a=b'"]


def test_an_input_error_is_printed_alone(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match=r"^1$"), ending_in_order():
        raise InputError("data: absent")
    assert capsys.readouterr().err == "data: absent\n"


@pytest.mark.parametrize(
    "command", ["compare", "evaluate", "export", "extract", "predict", "train", "tune", "verify"]
)
def test_signals_end_every_command_in_order(command: str, monkeypatch: pytest.MonkeyPatch):
    """Also before and after Hydra runs the command's own work."""
    module = import_module(f"mlic.{command}")
    start = getattr(module, "command", lambda: run_command(module.main))
    monkeypatch.setattr(sys, "argv", [f"mlic.{command}"])
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            monkeypatch.setattr(module, "main", partial(signal.raise_signal, number))
            with pytest.raises(SystemExit) as ended:
                start()
            assert ended.value.code == code
            # no traceback from the end of the interpreter
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)

"""A run that is ended and resumed gives what an unbroken one gives; other runs are refused, finished ones skipped."""

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlic.config import CONFIG_DIR
from mlic.errors import InputError
from mlic.models import MultiLabelClassifier
from mlic.train import train
from mlic.training import run as run_module

MakeConfig = Callable[..., DictConfig]
Fingerprint = Callable[[Path], dict[str, str]]
LIVE = ("features=augmented", "model.backbone.unfreeze=1", "model.backbone.learning_rate=0.01")
TWO_VIEWS = ("scheduler=cosine", "features.views=2")
# each head, loss, optimizer, callback and kind of features at least once
SETTINGS = {
    "cached": ("optimizer=adam", "head=dense", "head.standardize=true"),
    "averaged": ("head=csra", "callbacks=weight_average", *TWO_VIEWS),
    "attention": ("head=attention", "optimizer=adamw", "loss=asymmetric", "features.dtype=float32"),
    "live": ("features=live", "head=linear", "loss=focal", "optimizer=sgd", *TWO_VIEWS),
    "trained": (*LIVE, "optimizer=sgd", "callbacks=weight_average"),
}
CHOICES = ("head", "loss", "optimizer", "scheduler", "callbacks", "features")
# what a run has without a word of it; early stopping: test_a_run_ended_in_its_test_is_tested_again
ELSEWHERE = {"loss=weighted_bce", "features=cached", "callbacks=default", "callbacks=early_stopping"}


class RunsCode:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


class Killed(SystemExit):
    """From outside."""


@contextmanager
def killed_in(
    epoch: int, monkeypatch: pytest.MonkeyPatch, *, at_step: int = 1, happens: bool = True
) -> Iterator[None]:
    """Ends a run at a step of an epoch; or sees that it does not come there."""
    original = MultiLabelClassifier.training_step

    def step(self: MultiLabelClassifier, batch: Any, batch_idx: int) -> torch.Tensor:
        if (self.current_epoch, batch_idx) == (epoch, at_step):
            raise Killed
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(MultiLabelClassifier, "training_step", step)
        with pytest.raises(Killed) if happens else nullcontext():
            yield


def status_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def set_state(folder: Path, state: str) -> None:
    """As a kill leaves it."""
    (folder / "status.json").write_text(json.dumps({**status_of(folder), "state": state}))


def test_every_choice_is_resumed():
    tried = {override for overrides in SETTINGS.values() for override in overrides}
    there = {
        f"{group}={file.stem}" for group in CHOICES for file in (Path(CONFIG_DIR) / group).glob("*.yaml")
    }
    assert len(there) > 15 and there <= tried | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_resumed_run_gives_the_same_to_the_bit(
    name: str,
    tiny_config: MakeConfig,
    fingerprint: Fingerprint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    train(tiny_config(*SETTINGS[name], output=tmp_path / "whole"))
    with killed_in(2, monkeypatch):
        train(tiny_config(*SETTINGS[name], "resume=auto"))
    assert status_of(tmp_path / "run")["state"] == "interrupted"
    with killed_in(2, monkeypatch, at_step=0):
        train(tiny_config(*SETTINGS[name], "resume=auto"))
    with killed_in(1, monkeypatch, happens=False):
        train(tiny_config(*SETTINGS[name], "resume=auto"))
    assert status_of(tmp_path / "run")["state"] == "finished"
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_curves_have_each_epoch_once(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for epoch in (1, 2):
        with killed_in(epoch, monkeypatch):
            train(tiny_config("resume=auto"))
    results = train(tiny_config("resume=auto"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    for name in ("train/loss", "val/map"):
        assert [event.step for event in events.Scalars(name)] == [5, 10, 15]
    assert len(events.Images("data/labels")) == 1
    assert [event.value for event in events.Scalars("final/test_map")] == [
        pytest.approx(results["test"]["map"], rel=1e-5)
    ]


def test_a_run_ended_in_its_test_is_tested_again(
    tiny_config: MakeConfig, fingerprint: Fingerprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # the learning rate is 0: val does not rise, and the run stops after its third epoch
    overrides = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "optimizer.lr=0")
    make = lambda **places: tiny_config(*overrides, "trainer.max_epochs=20", "resume=auto", **places)  # noqa: E731
    train(make(output=tmp_path / "whole"))

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_test", killed)
        with pytest.raises(Killed):
            train(make())
    trained = []
    monkeypatch.setattr(MultiLabelClassifier, "training_step", lambda *_: trained.append(1))
    train(make())
    assert trained == []
    assert len((tmp_path / "run" / "epochs.csv").read_text().splitlines()) == 1 + 3
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_a_finished_run_is_skipped(tiny_config: MakeConfig, tmp_path: Path):
    results = train(tiny_config())
    (tmp_path / "store").rename(tmp_path / "taken_away")
    assert train(tiny_config("resume=auto", "features.num_workers=1")) == results
    assert train(tiny_config(f"resume={tmp_path / 'run'}", output=tmp_path / "elsewhere")) == results
    assert not (tmp_path / "elsewhere").exists() and not list(tmp_path.glob("store/*/*"))


@pytest.fixture
def other_labels(tiny_csv: tuple[Path, Path], tmp_path: Path) -> Path:
    """The labels of each image given to the one before it."""
    head, *rows = tiny_csv[0].read_text().splitlines()
    names, labels = zip(*(row.split(",") for row in rows), strict=True)
    file = tmp_path / "other.csv"
    file.write_text(
        "\n".join([head, *map(",".join, zip(names, labels[1:] + labels[:1], strict=True))]) + "\n"
    )
    return file


def test_a_finished_run_is_not_taken_for_one_on_other_labels(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], other_labels: Path, tmp_path: Path
):
    results = train(tiny_config())
    with pytest.raises(InputError, match=r"is a run on other data: .* resume=null to begin anew"):
        train(tiny_config("resume=auto", f"data.annotations={other_labels}"))
    shutil.copy(tiny_csv[0], other_labels)
    assert train(tiny_config("resume=auto", f"data.annotations={other_labels}")) == results


@pytest.mark.parametrize(("state", "features"), [("finished", "live"), ("interrupted", "cached")])
def test_a_run_is_not_taken_for_one_on_changed_images(
    state: str,
    features: str,
    tiny_config: MakeConfig,
    tiny_csv: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: Any,
):
    images = tmp_path / "images"
    shutil.copytree(tiny_csv[1], images)
    make = lambda: tiny_config(f"data.images={images}", f"features={features}", "resume=auto")  # noqa: E731
    with killed_in(1, monkeypatch) if state == "interrupted" else nullcontext():
        train(make())
    before, content = status_of(tmp_path / "run"), (images / "shapes_07.jpg").read_bytes()
    shutil.copy(images / "shapes_08.jpg", images / "shapes_07.jpg")
    (images / "shapes_41.jpg").rename(tmp_path / "kept.jpg")
    with pytest.raises(
        InputError,
        match=r"is a run on other images: 2 of 60 have changed or are missing, such as shapes_07",
    ):
        train(make())
    assert status_of(tmp_path / "run") == before
    (images / "shapes_07.jpg").write_bytes(content)
    (tmp_path / "kept.jpg").rename(images / "shapes_41.jpg")
    train(make())
    assert status_of(tmp_path / "run")["state"] == "finished"


def test_a_run_that_does_not_tell_its_images_is_refused(tiny_config: MakeConfig, tmp_path: Path):
    train(tiny_config())
    (tmp_path / "run" / "split.csv").write_text("file_name,split\na.jpg,train\n")
    with pytest.raises(InputError, match=r"split\.csv' cannot be used: .*sha256.* resume=null to begin anew"):
        train(tiny_config("resume=auto"))


def test_a_finished_run_without_its_bad_images_is_skipped(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    shutil.copytree(tiny_csv[1], tmp_path / "images")
    (tmp_path / "images" / "shapes_07.jpg").write_bytes(b"no image")
    overrides = (f"data.images={tmp_path / 'images'}", "data.on_bad_image=drop")
    results = train(tiny_config(*overrides))
    assert train(tiny_config(*overrides, "resume=auto")) == results


def test_another_number_of_processes_is_another_setting(tiny_config: MakeConfig):
    train(tiny_config("trainer.max_epochs=1"))
    with pytest.raises(InputError, match=r"other settings \(trainer\.devices: 1 there, 2 here\)"):
        train(tiny_config("trainer.max_epochs=1", "resume=auto", "trainer.devices=2"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "a file"),
        RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_run_goes_on_whatever_ended_it(
    error: Exception,
    tiny_config: MakeConfig,
    fingerprint: Fingerprint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    train(tiny_config(output=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(MultiLabelClassifier, "on_train_epoch_start", raises_in(2, error), raising=False)
        with pytest.raises(InputError if isinstance(error, OSError) else RuntimeError):
            train(tiny_config())
    assert status_of(tmp_path / "run")["state"] == "failed"
    assert f"resume=auto output='{tmp_path / 'run'}' goes on from there" in caplog.text
    shutil.rmtree(tmp_path / "store")  # its features are computed again
    with killed_in(1, monkeypatch, happens=False):
        train(tiny_config("resume=auto"))
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    assert not (tmp_path / "run" / "earlier").exists()


def raises_in(epoch: int, error: Exception) -> Callable[[MultiLabelClassifier], None]:
    def hook(self: MultiLabelClassifier) -> None:
        if self.current_epoch == epoch:
            raise error

    return hook


def test_a_run_of_other_settings_is_refused_and_kept(
    tiny_config: MakeConfig, fingerprint: Fingerprint, tmp_path: Path
):
    train(tiny_config())
    before = fingerprint(tmp_path / "run")
    with pytest.raises(
        InputError,
        match=r"resume: '.*run' is a run of other settings \(data\.split\.seed: 0 there, 1 here; "
        r"optimizer\.lr: 0\.001 there, 0\.01 here\)\. Give the same settings, or set another output, or resume=null",
    ):
        train(tiny_config("resume=auto", "optimizer.lr=0.01", "data.split.seed=1"))
    assert fingerprint(tmp_path / "run") == before and status_of(tmp_path / "run")["state"] == "finished"
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"has no config\.yaml to compare its settings with"):
        train(tiny_config("resume=auto"))


REASONS = {
    "cut": "cannot be read", "malicious": "more than tensors", "flipped": "is damaged", "gone": "there is no",
}  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "name", "state"),
    [
        ("cut", "last.ckpt", "failed"), ("malicious", "last.ckpt", "running"), ("gone", "last.ckpt", "interrupted"),
        ("flipped", "last.ckpt", "failed"), ("gone", "best.ckpt", "failed"), ("flipped", "best.ckpt", "failed"),
    ],
)  # fmt: skip
def test_epochs_that_cannot_be_gone_on_from_are_moved_aside(
    damage: str,
    name: str,
    state: str,
    tiny_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    run = tmp_path / "run"
    with killed_in(2, monkeypatch):
        train(tiny_config())
    set_state(run, state)
    damaged = run / "checkpoints" / name
    content, epochs = bytearray(damaged.read_bytes()), (run / "epochs.csv").read_bytes()
    damaged.unlink()
    if damage == "cut":
        damaged.write_bytes(content[:5000])
    elif damage == "malicious":
        torch.save(RunsCode(tmp_path / "code ran"), damaged)
    elif damage == "flipped":
        state_dict = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
        weights = max(
            (state_dict[key] for key in state_dict if key.startswith("head.")), key=torch.Tensor.numel
        )
        content[content.index(weights.numpy().tobytes())] ^= 1
        damaged.write_bytes(content)
    left = {path.name: path.read_bytes() for path in damaged.parent.iterdir()}
    for number in ("1", "2"):
        aside = run / "earlier" / number
        train(tiny_config("resume=auto"))
        assert (
            REASONS[damage] in caplog.text
            and f"begins anew; what was there is now in '{aside}'" in caplog.text
        )
        assert {path.name: path.read_bytes() for path in (aside / "checkpoints").iterdir()} == left
        assert (aside / "epochs.csv").read_bytes() == epochs and (aside / "split.csv").is_file()
        assert status_of(run)["state"] == "finished" and not (tmp_path / "code ran").exists()
        if damage not in ("cut", "malicious"):
            return
        set_state(run, state)
        epochs = (run / "epochs.csv").read_bytes()
        (run / "checkpoints" / "last.ckpt").write_bytes(left["last.ckpt"])
        left["best.ckpt"] = (run / "checkpoints" / "best.ckpt").read_bytes()


def test_a_broken_file_is_refused_and_kept(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with killed_in(1, monkeypatch):
        train(tiny_config())
    settings = (tmp_path / "run" / "config.yaml").read_bytes()
    for name, content, message in (
        ("status.json", b'{"seconds": {', r"status\.json' cannot be used: Expecting"),
        ("status.json", b'{"seconds": {}, "state": 3}', r"status\.json' cannot be used: state is not text"),
        ("config.yaml", b"a: [", r"config\.yaml' cannot be used: not valid YAML"),
        (
            "config.yaml",
            settings.replace(b"seed: 0", b"seed: ${oc.env:HOME}"),
            r"other settings .*seed: \$\{oc\.env:HOME\} there, 0 here",
        ),
    ):
        file = tmp_path / "run" / name
        before = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"^resume: (.|\n)*{message}(.|\n)*resume=null to begin anew\.$"
        ):
            train(tiny_config("resume=auto"))
        assert file.read_bytes() == content
        file.write_bytes(before)


def test_a_folder_without_a_run_is_begun_by_auto_and_refused_by_name(tiny_config: MakeConfig, tmp_path: Path):
    with pytest.raises(InputError, match=r"resume: '.*absent' is not a run folder \(it has no status\.json"):
        train(tiny_config(f"resume={tmp_path / 'absent'}"))
    train(tiny_config("resume=auto"))
    assert status_of(tmp_path / "run")["state"] == "finished"


def test_a_run_without_resume_begins_anew(tiny_config: MakeConfig, fingerprint: Fingerprint, tmp_path: Path):
    train(tiny_config())
    before = fingerprint(tmp_path / "run")
    note = tmp_path / "run" / "note.txt"
    note.write_text("of the user")
    events = list((tmp_path / "run" / "tensorboard").glob("events*"))
    train(tiny_config())
    assert fingerprint(tmp_path / "run") == before
    assert events and not any(path.exists() for path in events) and note.exists()


def test_a_run_folder_that_was_moved_is_resumed(
    tiny_config: MakeConfig, fingerprint: Fingerprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = tmp_path / "whole"
    train(tiny_config(output=whole))
    with killed_in(2, monkeypatch):
        train(tiny_config())
    shutil.move(tmp_path / "run", tmp_path / "moved")
    train(tiny_config(f"resume={tmp_path / 'moved'}"))
    assert fingerprint(tmp_path / "moved") == fingerprint(whole)
    assert not (tmp_path / "run").exists()

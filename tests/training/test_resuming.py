"""A run that is ended and resumed gives what an unbroken one gives; other runs are refused, finished ones skipped."""

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

from mlic.compare import compare
from mlic.config import CONFIG_DIR, compose
from mlic.errors import InputError
from mlic.evaluate import evaluate
from mlic.models import MultiLabelClassifier
from mlic.predict import predict
from mlic.train import train
from mlic.training import run as run_module

MakeConfig = Callable[..., DictConfig]
Fingerprint = Callable[[Path], dict[str, str]]
LIVE = ("features=augmented", "model.backbone.unfreeze=1", "model.backbone.learning_rate=0.01")
MIRROR = ("scheduler=cosine", "model.backbone.mirror=true")
# each head, loss, optimizer, callback and kind of features at least once
SETTINGS = {
    "cached": ("optimizer=adam", "head=dense", "head.standardize=true"),
    "averaged": ("head=csra", "callbacks=weight_average", *MIRROR),
    "attention": ("head=attention", "optimizer=adamw", "loss=asymmetric", "features.dtype=float32"),
    "live": ("features=live", "head=linear", "loss=focal", "optimizer=sgd", *MIRROR),
    "blended": ("head=blend",),
    "trained": (*LIVE, "optimizer=sgd", "callbacks=weight_average"),
}
CHOICES = ("head", "loss", "optimizer", "scheduler", "callbacks", "features")
# what a run has without a word of it; early stopping: test_a_run_ended_in_its_test_is_tested_again; ridge has no epochs
ELSEWHERE = {
    "head=ridge",
    "head=knn",
    "loss=weighted_bce",
    "features=cached",
    "callbacks=default",
    "callbacks=early_stopping",
}


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
    """As a kill leaves it, in a folder of before there was a format version."""
    status = {key: value for key, value in status_of(folder).items() if key not in ("format", "overrides")}
    (folder / "status.json").write_text(json.dumps({**status, "state": state}))


@pytest.fixture(scope="module")
def templates(tiny_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, `whole`, and one that was ended in its third epoch, `broken`."""
    folder = tmp_path_factory.mktemp("templates")
    settings = ("trainer.max_epochs=3", "features.num_workers=0", f"features.dir={folder / 'store'}")
    train(compose(*tiny_arguments, *settings, output=folder / "whole"))
    with pytest.MonkeyPatch.context() as patch, killed_in(2, patch):
        train(compose(*tiny_arguments, *settings, output=folder / "broken"))
    return folder


@pytest.fixture
def finished(templates: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, in the folder of `tiny_config`."""
    return Path(shutil.copytree(templates / "whole", tmp_path / "run"))


@pytest.fixture
def broken(templates: Path, tmp_path: Path) -> Path:
    """A copy of the one that was ended, likewise."""
    return Path(shutil.copytree(templates / "broken", tmp_path / "run"))


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
    for step in (1, 0):
        with killed_in(2, monkeypatch, at_step=step):
            train(tiny_config(*SETTINGS[name], "resume=auto"))
        assert status_of(tmp_path / "run")["state"] == "interrupted"
    with killed_in(1, monkeypatch, happens=False):
        train(tiny_config(*SETTINGS[name], "resume=auto"))
    assert status_of(tmp_path / "run")["state"] == "finished"
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_curves_have_each_epoch_once(broken: Path, tiny_config: MakeConfig):
    results = train(tiny_config("resume=auto"))
    events = EventAccumulator(str(broken)).Reload()
    for name in ("train/loss", "val/map"):
        steps = [event.step for event in events.Scalars(name)]
        assert steps == sorted(set(steps)) and len(steps) == 3
    assert [event.value for event in events.Scalars("z_test/map")] == [
        pytest.approx(results["test"]["map"], rel=1e-5)
    ]


def test_a_run_ended_in_its_test_is_tested_again(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # the learning rate is 0: val does not rise, and the run stops after its third epoch
    overrides = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "optimizer.lr=0")
    config = tiny_config(*overrides, "trainer.max_epochs=20", "resume=auto")

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_test", killed)
        with pytest.raises(Killed):
            train(config)
    monkeypatch.setattr(MultiLabelClassifier, "training_step", killed)
    assert train(config)["test"]["map"] > 0
    assert len((tmp_path / "run" / "epochs.csv").read_text().splitlines()) == 1 + 3


def test_a_finished_run_is_skipped(finished: Path, tiny_config: MakeConfig, tmp_path: Path):
    results = json.loads((finished / "metrics.json").read_text())
    assert train(tiny_config("resume=auto", "features.num_workers=1")) == results
    assert train(tiny_config(f"resume={finished}", output=tmp_path / "elsewhere")) == results
    assert not (tmp_path / "elsewhere").exists() and not list(tmp_path.glob("store/*/*"))


def test_a_run_on_other_labels_is_refused(
    finished: Path, tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    """The labels of each image given to the one before it."""
    head, *rows = tiny_csv[0].read_text().splitlines()
    names, labels = zip(*(row.split(",") for row in rows), strict=True)
    moved = map(",".join, zip(names, labels[1:] + labels[:1], strict=True))
    other = tmp_path / "other.csv"
    other.write_text("\n".join([head, *moved]) + "\n")
    with pytest.raises(InputError, match=r"is a run on different data: .* resume=null to start again"):
        train(tiny_config("resume=auto", f"data.annotations={other}"))
    shutil.copy(tiny_csv[0], other)
    assert train(tiny_config("resume=auto", f"data.annotations={other}"))["test"]["map"] > 0


@pytest.mark.parametrize("state", ["whole", "broken"])
def test_a_run_on_changed_images_is_refused(
    state: str, templates: Path, tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    run, images = tmp_path / "run", tmp_path / "images"
    shutil.copytree(templates / state, run)
    shutil.copytree(tiny_csv[1], images)
    before, content = status_of(run), (images / "shapes_07.jpg").read_bytes()
    shutil.copy(images / "shapes_08.jpg", images / "shapes_07.jpg")
    (images / "shapes_41.jpg").rename(tmp_path / "kept.jpg")
    with pytest.raises(
        InputError, match=r"different images: 2 of 60 have changed or are missing, such as shapes_07"
    ):
        train(tiny_config(f"data.images={images}", "resume=auto"))
    assert status_of(run) == before
    (images / "shapes_07.jpg").write_bytes(content)
    (tmp_path / "kept.jpg").rename(images / "shapes_41.jpg")
    train(tiny_config(f"data.images={images}", "resume=auto"))
    assert status_of(run)["state"] == "finished"


def test_a_finished_run_without_its_bad_images_is_skipped(
    tiny_config: MakeConfig, tiny_csv: tuple[Path, Path], tmp_path: Path
):
    shutil.copytree(tiny_csv[1], tmp_path / "images")
    (tmp_path / "images" / "shapes_07.jpg").write_bytes(b"no image")
    overrides = (f"data.images={tmp_path / 'images'}", "data.on_bad_image=drop", "trainer.max_epochs=1")
    assert train(tiny_config(*overrides)) == train(tiny_config(*overrides, "resume=auto"))


def test_a_run_goes_on_whatever_ended_it(
    templates: Path,
    tiny_config: MakeConfig,
    fingerprint: Fingerprint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """And from another place, and without the features that it had."""

    def fail(self: MultiLabelClassifier) -> None:
        if self.current_epoch == 2:
            raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer")

    with monkeypatch.context() as patch:
        patch.setattr(MultiLabelClassifier, "on_train_epoch_start", fail, raising=False)
        with pytest.raises(RuntimeError):
            train(tiny_config())
    assert status_of(tmp_path / "run")["state"] == "failed"
    assert f"resume=auto output='{tmp_path / 'run'}' continues from there" in caplog.text
    shutil.rmtree(tmp_path / "store")
    moved = shutil.move(tmp_path / "run", tmp_path / "moved")
    with killed_in(1, monkeypatch, happens=False):
        train(tiny_config(f"resume={moved}"))
    assert fingerprint(tmp_path / "moved") == fingerprint(templates / "whole")
    assert not (tmp_path / "run").exists() and not (tmp_path / "moved" / "earlier").exists()


def test_a_run_of_other_settings_is_refused_and_kept(
    finished: Path, tiny_config: MakeConfig, fingerprint: Fingerprint
):
    before = fingerprint(finished)
    with pytest.raises(
        InputError,
        match=r"resume: '.*run' is a run with different settings \(optimizer\.lr: 0\.001 there, 0\.01 here; "
        r"trainer\.devices: 1 there, 2 here\)\. Use the same settings\. Set another output, or resume=null",
    ):
        train(tiny_config("resume=auto", "optimizer.lr=0.01", "trainer.devices=2"))
    assert fingerprint(finished) == before and status_of(finished)["state"] == "finished"
    (finished / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config\.yaml' cannot be used: .* No such file"):
        train(tiny_config("resume=auto"))


REASONS = {"malicious": "more than tensors", "flipped": "is damaged", "gone": "there is no"}


@pytest.mark.parametrize(
    ("damage", "name", "state"),
    [
        ("malicious", "last.ckpt", "running"), ("flipped", "last.ckpt", "failed"), ("gone", "best.ckpt", "interrupted"),
    ],
)  # fmt: skip
def test_epochs_that_cannot_be_gone_on_from_are_moved_aside(
    damage: str,
    name: str,
    state: str,
    broken: Path,
    tiny_config: MakeConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    set_state(broken, state)
    damaged = broken / "checkpoints" / name
    content, epochs = bytearray(damaged.read_bytes()), (broken / "epochs.csv").read_bytes()
    damaged.unlink()
    if damage == "malicious":
        torch.save(RunsCode(tmp_path / "code ran"), damaged)
    elif damage == "flipped":
        state_dict = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
        weights = max(
            (state_dict[key] for key in state_dict if key.startswith("head.")), key=torch.Tensor.numel
        )
        content[content.index(weights.numpy().tobytes())] ^= 1
        damaged.write_bytes(content)
    left = {path.name: path.read_bytes() for path in damaged.parent.iterdir()}
    aside = broken / "earlier" / "1"
    train(tiny_config("resume=auto"))
    assert REASONS[damage] in caplog.text
    assert f"starts again; the earlier results are now in '{aside}'" in caplog.text
    assert {path.name: path.read_bytes() for path in (aside / "checkpoints").iterdir()} == left
    assert (aside / "epochs.csv").read_bytes() == epochs and (aside / "split.csv").is_file()
    assert status_of(broken)["state"] == "finished" and not (tmp_path / "code ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("status.json", '{"seconds": {', r"cannot be used: status\.json cannot be read"),
        (
            "status.json",
            '{"seconds": {}, "state": 3}',
            r"cannot be used: status\.json: state has an unexpected form",
        ),
        ("config.yaml", "a: [", r"config\.yaml' cannot be used: not valid YAML"),
        (
            "config.yaml",
            "seed: ${oc.env:HOME}",
            r"different settings .*seed: \$\{oc\.env:HOME\} there, 0 here",
        ),
        ("split.csv", "file_name,split\na.jpg,train\n", r"split\.csv' cannot be used: .*sha256"),
    ],
)
def test_a_broken_file_is_refused_and_kept(
    name: str, content: str, message: str, broken: Path, tiny_config: MakeConfig
):
    file = broken / name
    if "oc.env" in content:
        content = file.read_text().replace("seed: 0", content)
    file.write_text(content)
    with pytest.raises(InputError, match=rf"^resume: (.|\n)*{message}(.|\n)*resume=null to start again\.$"):
        train(tiny_config("resume=auto"))
    assert file.read_text() == content


def test_a_run_of_a_newer_version_is_refused_by_all_commands(
    finished: Path, tiny_config: MakeConfig, tiny_images: Path, tmp_path: Path
):
    (finished / "status.json").write_text(json.dumps({**status_of(finished), "format": 99}))
    out = tmp_path / "out"
    calls: list[Callable[[], Any]] = [
        lambda: train(tiny_config("resume=auto")),
        lambda: train(tiny_config(f"init_from={finished}", output=tmp_path / "second")),
        lambda: predict(
            compose(f"run={finished}", f"images={tiny_images}", config_name="predict", output=out)
        ),
        lambda: evaluate(compose(f"run={finished}", "part=test", config_name="evaluate", output=out)),
        lambda: compare(compose(f"runs={finished}", config_name="compare", output=out)),
    ]
    for call in calls:
        with pytest.raises(
            InputError, match=r"run' is a run folder of format 99, written by a newer version"
        ):
            call()


def test_a_folder_without_a_run_is_begun_by_auto_and_refused_by_name(tiny_config: MakeConfig, tmp_path: Path):
    with pytest.raises(InputError, match=r"resume: '.*absent' is not a run folder \(it has no status\.json"):
        train(tiny_config(f"resume={tmp_path / 'absent'}"))
    train(tiny_config("resume=auto", "trainer.max_epochs=1"))
    assert status_of(tmp_path / "run")["state"] == "finished"


def test_a_run_without_resume_begins_anew(finished: Path, tiny_config: MakeConfig, fingerprint: Fingerprint):
    before, note = fingerprint(finished), finished / "note.txt"
    note.write_text("of the user")
    events = list(finished.glob("events*"))
    train(tiny_config())
    assert fingerprint(finished) == before
    assert events and not any(path.exists() for path in events) and note.exists()

"""Small inputs that several tests share; they are built here, and never written to the user's cache."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from omegaconf import DictConfig
from PIL import Image, ImageDraw

from mlic.command_line import ending_in_order
from mlic.config import compose
from mlic.data.table import LabelTable
from mlic.runs import lock

REPOSITORY = Path(__file__).parent.parent
SHAPES = {"circle": "red", "cross": "white", "square": "blue", "triangle": "yellow"}
# Every class is frequent enough for parts of a tenth.
LABEL_SETS = (
    ("square",), ("circle", "square"), ("triangle",), ("square", "cross"), ("circle",),
    ("square", "triangle"), (), ("cross",), ("circle", "square", "triangle"), ("square", "cross"),
)  # fmt: skip
TINY_IMAGES = 60


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this session alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MLIC_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def enabled_loggers() -> None:
    """Enable the loggers that Hydra disabled when an earlier test of the process started a command."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("mlic") and isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session")
def heic_photo() -> bytes:
    """A photograph as phones write them: upright 48 x 64, orange with a black block in the upper right.

    The file holds 64 x 48 pixels, to be turned right by a quarter.
    """
    return (REPOSITORY / "tests" / "photo.heic").read_bytes()


@pytest.fixture(scope="session")
def coco_data() -> Path:
    """The folder of real COCO photographs; skips where it is absent."""
    folder = Path(os.environ.get("MLIC_TEST_DATA", REPOSITORY.parent / "shared" / "data" / "coco"))
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no COCO photographs in {folder}; MLIC_TEST_DATA names their folder")
    return folder


@pytest.fixture(scope="session")
def fingerprint() -> Callable[[Path], dict[str, str]]:
    """Run folder -> sha256 of what the run results in: weights, epochs and metrics."""
    import torch  # not before a test needs it

    def compute(folder: Path) -> dict[str, str]:
        found = {
            name: sha256((folder / name).read_bytes()).hexdigest() for name in ("epochs.csv", "metrics.json")
        }
        for name in ("best", "last"):
            state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
            digest = sha256()
            for key in sorted(state):
                digest.update(key.encode() + state[key].numpy().tobytes())
            found[name] = digest.hexdigest()
        return found

    return compute


class RunServer:
    """Starts the commands in processes of their own, see command_server.py."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(REPOSITORY / "tests" / "command_server.py")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(
        self, *arguments: str, folder: Path, log: str = "command.log", command: str = "train", **faults: Any
    ) -> int:
        """Id of the process; what it prints goes to the file `log` in `folder`, its working folder."""
        job = {"command": command, "arguments": arguments, "folder": str(folder), "log": str(folder / log)}
        return self._ask({**job, **faults})

    def wait(self, process: int) -> int:
        """Exit status; that of a signal is negative."""
        return self._ask({"wait": process})

    def run(self, *arguments: str, folder: Path, **options: Any) -> int:
        """Exit status of a command."""
        return self.wait(self.start(*arguments, folder=folder, **options))

    def _ask(self, job: dict[str, Any]) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="session")
def run_server(own_cache: Path) -> Iterator[RunServer]:
    """Started by the first test that asks for it."""
    server = RunServer()
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=30)


TINY_RUN = (
    "data.split.test=0.2", "data.split.val=0.2", "data.num_workers=0", "data.batch_size=8",
    "model=timm", "model.backbone.name=test_efficientnet", "model.backbone.pretrained=false",
    "model.backbone.precision=float32", "model.recipe.hidden=[16]", "model.recipe.dropout=0.2", "trainer=cpu",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny_settings() -> tuple[str, ...]:
    """Settings of a run that takes a second, without those of its data."""
    return TINY_RUN


@pytest.fixture(scope="session")
def tiny_arguments(tiny_settings: tuple[str, ...], tiny_csv: tuple[Path, Path]) -> tuple[str, ...]:
    """Command line of a run that takes a second, on cached or live features."""
    annotations, images = tiny_csv
    return ("data=csv", *tiny_settings, f"data.annotations={annotations}", f"data.images={images}")


@pytest.fixture(scope="session")
def make_run(
    tiny_arguments: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function (overrides) -> folder of a run of two epochs on the 60 small images, with a random network."""
    from mlic.train import train

    store = tmp_path_factory.mktemp("runs_store")

    def make(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "model=tiny,run"
        live = "features=live" in overrides
        cached = () if live else ("features.num_workers=0", f"features.dir={store}")
        train(compose(*tiny_arguments, "trainer.max_epochs=2", *cached, *overrides, output=folder))
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_run(make_run: Callable[..., Path]) -> Path:
    """A run on cached features; do not write to it."""
    return make_run()


def draw_shapes(shapes: Sequence[str], side: int = 64) -> Image.Image:
    """One shape a quarter, in its own colour, on grey."""
    picture = Image.new("RGB", (side, side), "gray")
    pencil, half = ImageDraw.Draw(picture), side // 2
    for place, shape in enumerate(shapes):
        left, top = (place % 2) * half + 4, (place // 2) * half + 4
        right, bottom, colour = left + half - 8, top + half - 8, SHAPES[shape]
        if shape == "circle":
            pencil.ellipse((left, top, right, bottom), fill=colour)
        elif shape == "square":
            pencil.rectangle((left, top, right, bottom), fill=colour)
        elif shape == "triangle":
            pencil.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=colour)
        else:
            pencil.line((left, top, right, bottom), fill=colour, width=5)
            pencil.line((left, bottom, right, top), fill=colour, width=5)
    return picture


@pytest.fixture(scope="session")
def tiny_labels() -> dict[str, tuple[str, ...]]:
    """File name -> labels of the 60 small images."""
    sets = cycle(LABEL_SETS)
    return {f"shapes_{number:02d}.jpg": next(sets) for number in range(TINY_IMAGES)}


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory, tiny_labels: dict[str, tuple[str, ...]]) -> Path:
    """Folder of 60 small images (64 x 64) of coloured shapes; do not write to it."""
    folder = tmp_path_factory.mktemp("tiny") / "images"
    folder.mkdir()
    for number, (name, shapes) in enumerate(tiny_labels.items()):
        # no two files have the same bytes
        picture = draw_shapes(shapes)
        picture.putpixel((0, 0), (number * 4, 0, 0))
        picture.save(folder / name, quality=90)
    return folder


@pytest.fixture(scope="session")
def tiny_csv(tiny_images: Path, tiny_labels: dict[str, tuple[str, ...]]) -> tuple[Path, Path]:
    """(annotations, images): labels.csv beside the folder of 60 images with 4 classes."""
    file = tiny_images.parent / "labels.csv"
    rows = [f"{name},{'|'.join(labels)}" for name, labels in tiny_labels.items()]
    file.write_text("\n".join(["file_name,labels", *rows]) + "\n")
    return file, tiny_images


@pytest.fixture(scope="session")
def tiny_coco(tiny_images: Path, tiny_labels: dict[str, tuple[str, ...]]) -> tuple[Path, Path]:
    """(annotations, images): the same as COCO instances JSON, category ids with gaps."""
    ids = {name: 3 + 7 * place for place, name in enumerate(reversed(SHAPES))}
    content = {
        "images": [{"id": 1000 + row, "file_name": name} for row, name in enumerate(tiny_labels)],
        "categories": [{"id": identity, "name": name} for name, identity in ids.items()],
        "annotations": [
            {"id": 10 * row + place, "image_id": 1000 + row, "category_id": ids[label], "iscrowd": 0}
            for row, labels in enumerate(tiny_labels.values())
            for place, label in enumerate(labels)
        ],
    }
    file = tiny_images.parent / "instances.json"
    file.write_text(json.dumps(content))
    return file, tiny_images


@pytest.fixture(scope="session")
def pack() -> Callable[..., bytes]:
    """A function (members, format) -> tar file; members are contents by name, in pairs for names that are repeated."""

    def make(
        members: Mapping[str, bytes | str | tarfile.TarInfo]
        | Iterable[tuple[str, bytes | str | tarfile.TarInfo]],
        form: int = tarfile.PAX_FORMAT,
    ) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            pairs: Any = members.items() if isinstance(members, Mapping) else members
            for name, given in pairs:
                content = given.encode() if isinstance(given, str) else given
                info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
                info.size = len(content) if isinstance(content, bytes) else 0
                archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
        return stream.getvalue()

    return make


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., LabelTable]:
    """A function (labels (N, C), classes=None) -> table of files that need not exist."""

    def make(labels: np.ndarray, classes: Sequence[str] | None = None) -> LabelTable:
        names = [f"{row:05d}.jpg" for row in range(len(labels))]
        return LabelTable.build(
            tmp_path, names, labels, classes or [f"c{c:02d}" for c in range(labels.shape[1])]
        )

    return make


@pytest.fixture
def tiny_overrides(tiny_arguments: tuple[str, ...], tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides -> those of a run that takes a second, with these last."""

    def make(*overrides: str) -> list[str]:
        cached = ("features.num_workers=0", f"features.dir={tmp_path / 'store'}")
        live = any(item in overrides for item in ("features=live", "features=augmented"))
        return [*tiny_arguments, "trainer.max_epochs=3", *(() if live else cached), *overrides]

    return make


@pytest.fixture
def tiny_config(tiny_overrides: Callable[..., list[str]], tmp_path: Path) -> Callable[..., DictConfig]:
    """Overrides -> composed config of such a run; its folder is `tmp_path / "run"`."""

    def make(*overrides: str, output: Path = tmp_path / "run") -> DictConfig:
        return compose(*tiny_overrides(*overrides), output=output)

    return make


@pytest.fixture
def held_by_another(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], FileLock]:
    """A function (folder) -> context in which it is locked, as by another process, and nobody waits for long."""
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.05)

    def hold(folder: Path) -> FileLock:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / lock.LOCK_FILE)

    return hold


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[Path, bytes]]:
    """A function (folder) -> the bytes of each file in and below it."""
    return lambda folder: {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function (command, config, owner, name) that runs a command up to a call of owner.name.

    A signal arrives right after the first such call; the command must end as the shell expects it.
    """

    def run(
        command: Callable[..., Any],
        config: Any,
        owner: Any,
        name: str,
        number: signal.Signals = signal.SIGTERM,
    ) -> None:
        original = getattr(owner, name)

        def called(*arguments: Any, **options: Any) -> None:
            original(*arguments, **options)
            signal.raise_signal(number)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, called)
            with pytest.raises(SystemExit) as ended:
                ending_in_order()(command)(config)
        assert ended.value.code == 128 + number

    return run


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written without figures, which take most of the time."""
    from mlic.report import report

    monkeypatch.setattr(report, "draw_figures", lambda *_: {})

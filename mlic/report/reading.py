"""Reading of run folders for a report; missing and broken files become notes instead of errors."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from mlic.config import flatten
from mlic.errors import InputError
from mlic.evaluation.predictions import Predictions
from mlic.runs import folder as files
from mlic.runs.reading import load_plain_yaml, read_overrides, read_record

FINISHED = "finished"
HEAD_FILES = (files.EPOCHS_FILE, files.PENALTIES_FILE, files.NEIGHBOURS_FILE)  # what the fit of a head writes
PHASES = ("backbone", "data", "features", "records", "fit", "test")
NOTES_SHOWN = 3  # per file
Content = TypeVar("Content")


class Answers(NamedTuple):
    """Thresholds (C,) or () of `mlic.predict ask=true`: yes above the first, no up to the second; and their origin."""

    yes: np.ndarray
    no: np.ndarray
    origin: str


@dataclass
class ReportedRun:
    """The content of one run folder.

    Attributes:
        path: the run folder.
        name: unique name in the report, set by `name_runs`.
        status, model, dataset, metrics: content of the JSON files; {} if missing.
        overrides: overrides of the command line, such as "model=vgg16".
        settings: all settings of config.yaml, such as {"head.dropout": 0.6}; {} if missing.
        epochs: content of epochs.csv.
        val, test: predictions, sorted by file name.
        loo: leave-one-out predictions of the training images, of a head in closed form.
        penalties: content of penalties.csv, of a head in closed form.
        thresholds: float64 (C,), calibrated for each class of `test`, or those of the fold of each image (N, C).
        common_threshold: one threshold for all classes; None for a cross-validation.
        answers: thresholds of guarantees.json, if it has a guarantee for yes and one for no.
        notes: notes about missing and broken files.
    """

    path: Path
    name: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    epochs: pd.DataFrame | None = None
    val: Predictions | None = None
    test: Predictions | None = None
    loo: Predictions | None = None
    penalties: pd.DataFrame | None = None
    thresholds: np.ndarray | None = None
    common_threshold: float | None = None
    answers: Answers | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """`finished`, `failed`, `interrupted`, `running`, or `unknown` if status.json cannot be read."""
        return str(self.status.get("state", "unknown"))

    @property
    def held_back(self) -> Predictions | None:
        """Predictions on which thresholds and temperature are tuned: of val or, without it, leave-one-out."""
        return self.loo if self.val is None else self.val

    @property
    def num_folds(self) -> int:
        """Number of folds of a cross-validation; 0 for other runs."""
        return 0 if self.test is None or self.test.folds is None else len(np.unique(self.test.folds))

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the test predictions; () without predictions."""
        return () if self.test is None else self.test.classes

    @property
    def labels(self) -> np.ndarray:
        """Targets (N, C) of the val and test images."""
        parts = [part for part in (self.val, self.test) if part is not None and part.classes == self.classes]
        return np.concatenate([part.targets for part in parts]) if parts else np.empty((0, 0), dtype=np.int8)

    @property
    def is_closed_form(self) -> bool:
        """True if the head was fitted in closed form alone, without epochs."""
        folders = [self.path, *files.fold_folders(self.path)[:1]]
        found = {name for folder in folders for name in HEAD_FILES if (folder / name).is_file()}
        return bool(found) and files.EPOCHS_FILE not in found

    def find(self, source: str) -> Any:
        """Return a value by its place, such as "metrics.train.map", "settings.head.dropout", or a property.

        Run folders are not trusted: the value is a number, text, or None if it is missing. Several values, such as
        those of the networks of an ensemble, are joined.
        """
        record, *keys = source.split(".") if not source.startswith("settings.") else source.split(".", 1)
        value = getattr(self, record)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if source.endswith("_target_"):
            return class_name(value).removesuffix("Head") or None
        if isinstance(value, list):
            return " + ".join(map(str, value)) or None
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            # the numbers of other records were checked when they were read
            return value if record != "settings" or value is None or abs(value) < 2**53 else str(value)
        return str(value)

    @property
    def network(self) -> Any:
        """Name and tag of the weights, or the name of the configured network."""
        return self.model.get("weights_tag") or self.settings.get("model.name")

    @property
    def views(self) -> str | None:
        """Images whose features are averaged, if there are several."""
        return "with mirror image" if self.settings.get("model.backbone.mirror") is True else None

    @property
    def feature_size(self) -> int | None:
        """Features of an image."""
        return math.prod(shape) if (shape := self.model.get("feature_shape")) else None

    @property
    def seconds_per_1000(self) -> float | None:
        """Seconds of computing the features of 1,000 photographs."""
        value = self.model.get("seconds_per_image")
        return None if value is None else 1000 * float(value)

    @property
    def num_epochs(self) -> int | None:
        """Epochs of the training."""
        return None if self.epochs is None else len(self.epochs)

    @property
    def seconds_an_epoch(self) -> float | None:
        """Mean seconds of an epoch."""
        fit = self.find("status.seconds.fit")
        return fit / self.num_epochs if self.num_epochs and fit is not None else None

    @property
    def total_seconds(self) -> float | None:
        """Seconds of all phases."""
        known = [value for name in PHASES if (value := self.find(f"status.seconds.{name}")) is not None]
        return sum(known) if known else None

    @property
    def machine(self) -> str:
        """The machines of the training and of the features."""
        machines = (self.status.get("machine"), self.model.get("machine"))
        return "; features: ".join(dict.fromkeys(name for name in machines if name))


def class_name(target: Any) -> str:
    """Return the last part of the path of a class; "" for anything but text."""
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def read_run(path: Path) -> ReportedRun:
    """Read a run folder, or the folder of an evaluation; of an unfinished run only the files that identify it."""
    run = ReportedRun(path)
    if (path / files.EVALUATION_FILE).is_file():
        return _read_evaluation(run)
    run.status = _json(run, files.STATUS_FILE)
    run.model = _json(run, files.MODEL_FILE, optional=run.state != FINISHED)
    run.overrides = read_overrides(path)
    if run.state == FINISHED:
        run.settings = _read(run, files.SETTINGS_FILE, _settings, optional=True) or {}
        run.dataset, run.metrics = _json(run, files.DATASET_FILE), _json(run, files.METRICS_FILE)
        run.penalties = _read(run, files.PENALTIES_FILE, partial(_numbers, "penalty"), optional=True)
        run.val = _read(run, "predictions/val.parquet", _predictions, optional=True)
        run.loo = _read(run, "predictions/loo.parquet", _predictions, optional=True)
        run.test = _read(run, "predictions/test.parquet", _predictions)
        # a head in closed form has no epochs, and those of a cross-validation are in the runs of its folds
        without_epochs = run.is_closed_form or run.num_folds > 0
        run.epochs = _read(run, files.EPOCHS_FILE, partial(_numbers, "epoch"), optional=without_epochs)
        _use_thresholds(run, _json(run, files.THRESHOLDS_FILE, optional=True))
        run.answers = _read(run, files.GUARANTEES_FILE, partial(_answers, run.classes), optional=True)
    return run


def _read_evaluation(run: ReportedRun) -> ReportedRun:
    """Read the folder of an evaluation, whose labelled set takes the place of the test images."""
    content = _json(run, files.EVALUATION_FILE)
    run.status = {"state": FINISHED}
    run.model, run.dataset = (content.get(key) or {} for key in ("model", "dataset"))
    run.settings = flatten(content.get("settings") or {})
    metrics = _json(run, files.METRICS_FILE)
    run.metrics = {"test": next(iter(metrics.values()), {})}
    run.test = _read(run, files.EVALUATED_FILE, _predictions)
    run.notes.append(f"evaluation of {content.get('run')}")
    if seen := (content.get("images_in_run") or {}).get("train"):
        run.notes.append(
            f"{seen} images of the set were training images of the run: its figures are too optimistic"
        )
    _use_thresholds(run, content.get("thresholds") or {})
    return run


def _json(run: ReportedRun, name: str, *, optional: bool = False) -> dict[str, Any]:
    content, problems = read_record(run.path, name)
    if not optional or (run.path / name).exists():
        run.notes += problems[:NOTES_SHOWN]
    return content


def _read(
    run: ReportedRun, name: str, reader: Callable[[Path], Content], *, optional: bool = False
) -> Content | None:
    if not (run.path / name).is_file():
        run.notes += [] if optional else [f"{name} is missing"]
        return None
    try:
        return reader(run.path / name)
    except Exception as error:  # any error of a broken file must not stop the report of the other runs
        run.notes.append(f"{name} cannot be read ({type(error).__name__}: {error})")
        return None


def _settings(file: Path) -> dict[str, Any]:
    return flatten(load_plain_yaml(file.read_text(encoding="utf-8")))


def _numbers(first: str, file: Path) -> pd.DataFrame:
    table = pd.read_csv(file).astype(float)
    return table.dropna(subset=first)  # an error without this column


def _predictions(file: Path) -> Predictions:
    predictions = Predictions.read_parquet(file)
    if ((predictions.scores < 0) | (predictions.scores > 1)).any():
        raise InputError("its scores must be probabilities")
    return predictions.select(np.argsort(predictions.file_names.astype(str), kind="stable"))


def _answers(classes: Sequence[str], file: Path) -> Answers | None:
    """Read the thresholds of guarantees.json; a class without a guarantee is always asked."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if not {"yes", "no"} <= content.keys():
        return None
    checkpoints = [sha256(path.read_bytes()).hexdigest() for path in file.parent.glob("checkpoints/*.ckpt")]
    if checkpoints and content["checkpoint"] not in checkpoints:
        raise InputError("it belongs to another checkpoint")
    yes, no = (content[key]["thresholds"] for key in ("yes", "no"))
    upper = np.array([np.inf if yes[name] is None else yes[name] for name in classes], dtype=np.float64)
    lower = np.array([-1 if no[name] is None else no[name] for name in classes], dtype=np.float64)
    levels = f"{content['yes']['precision']:.1%} right, {1 - content['no']['recall']:.1%} missed"
    origin = f"{content['kind']} from {content['source']} (confidence {content['confidence']}): {levels}"
    return Answers(upper, np.minimum(lower, upper), origin)


def _use_thresholds(run: ReportedRun, stored: dict[str, Any]) -> None:
    """Use the calibrated thresholds of a run: one per class, or for a cross-validation those of each fold."""
    if run.test is None:
        return
    by_class, rows = [stored.get("per_class")], slice(0)
    if run.test.folds is not None:
        numbers, rows = np.unique(run.test.folds, return_inverse=True)
        by_class = [stored.get("folds", {}).get(str(number)) for number in numbers]
    table = [[(own or {}).get(name) for name in run.classes] for own in by_class]
    if any(value is None for own in table for value in own):
        run.notes.append(
            f"no calibrated metrics: {files.THRESHOLDS_FILE} does not have the thresholds of all classes"
        )
        return
    thresholds = np.array(table, dtype=np.float64)
    run.thresholds = thresholds[0] if run.test.folds is None else thresholds[rows]
    run.common_threshold = stored.get("common") if run.test.folds is None else None

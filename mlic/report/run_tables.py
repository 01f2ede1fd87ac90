"""Tables of settings, models, training, time and data with one row per run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mlic.config import WITHOUT_EFFECT
from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun, class_name
from mlic.report.reference import NOTE
from mlic.report.tables import RUN, SCORES, Column, Table

PARTS = ("train", "val", "test")
SETTINGS = {
    "run": RUN,
    "network": Column("network", meaning="timm name and tag of the pretrained weights", source="network"),
    "license": Column("licence", meaning="of the weights, according to timm", source="model.weights_license"),
    "pool": Column("pooling", meaning="pooling of the feature map", source="model.pool"),
    "views": Column("views", meaning="images whose features are averaged", source="views"),
    "head": Column("head", source="settings.head._target_"),
    "dropout": Column("dropout", "number", source="settings.head.dropout"),
    "hidden": Column("dense units", meaning="hidden layers of the head", source="settings.head.hidden"),
    "loss": Column("loss", source="settings.loss._target_"),
    "optimizer": Column("optimizer", source="settings.optimizer._target_"),
    "learning_rate": Column("learning rate", "number", source="settings.optimizer.lr"),
    "batch_size": Column("batch size", "integer", source="settings.data.batch_size"),
    "epochs": Column("epochs", "integer", source="settings.trainer.max_epochs"),
    "seed": Column("seed", "integer", source="settings.seed"),
}
SIZES = {
    "run": RUN,
    "weights_tag": Column("weights", meaning="timm name and tag", source="model.weights_tag"),
    "image_size": Column("input", "integer", "side of the square input, pixels", "model.image_size"),
    "backbone_parameters": Column("backbone parameters", "integer", "frozen", "model.backbone_parameters"),
    "head_parameters": Column("trainable parameters", "integer", "of the head", "model.head_parameters"),
    "feature_size": Column("feature size", "integer", "numbers per image", "feature_size"),
    "precision": Column("computed in", meaning="number format of the backbone", source="model.precision"),
}
TRAINING = {
    **{name: SCORES[name] for name in ("map", "auc_macro", "auc_micro", "precision_micro", "recall_micro")},
    "loo_map": Column(
        "leave-one-out mAP", "score", "each image scored by the head fitted without it or its group"
    ),
}
TIMES = {
    "run": RUN,
    "seconds_per_1000": Column(
        "features of 1,000 photographs", "seconds", "of the network, once an image", "seconds_per_1000"
    ),
    "extraction": Column(
        "extraction", "seconds", "features that no earlier run had stored", "status.seconds.features"
    ),
    "epochs": Column("epochs", "integer", source="num_epochs"),
    "seconds_an_epoch": Column("seconds per epoch", "seconds", source="seconds_an_epoch"),
    "fit": Column("training", "seconds", source="status.seconds.fit"),
    "test": Column("test", "seconds", source="status.seconds.test"),
    "total": Column("total", "seconds", source="total_seconds"),
    "machine": Column("machine", source="machine"),
}
DATA = {
    "run": RUN,
    **{
        f"images_{part}": Column(f"{part} images", "integer", source=f"dataset.images.{part}")
        for part in PARTS
    },
    "classes": Column("classes", "integer"),
    "classes_dropped": Column("classes dropped", "integer", "dropped by curation"),
    "labels_an_image": Column("labels per image", "number", "mean over the test images"),
    "unknown": Column("unknown labels", "share", "of the test images; they take no part in any figure"),
    "undefined": Column("classes without a test image", meaning="excluded from means"),
    "split": Column("split", meaning="first letters of the hash over file names, labels, seed and fractions"),
}
# settings without meaning for a head in closed form
OF_EPOCHS = ("loss", "optimizer", "learning_rate", "batch_size", "epochs")
# in the order in which the first screen names them; the first four are clear without their header
SETUP = ("network", "head", "views", "loss", "hidden", "dropout", *OF_EPOCHS[1:], "seed")
SETUP_SHOWN = 3
# here the data count, which a resumed run checks by their digests
IGNORED = tuple(f"{name}." for name in WITHOUT_EFFECT if name not in ("data.annotations", "data.images"))
UNSET = "not set"

References = Sequence[Mapping[str, Any]]


def run_rows(runs: Sequence[ReportedRun], columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Return the values of columns that have a source, one row per run."""
    known = {name: column.source for name, column in columns.items() if column.source}
    return [{"run": run.name, **{name: run.find(source) for name, source in known.items()}} for run in runs]


def settings_table(runs: Sequence[ReportedRun]) -> Table:
    """Build Table 1, the network, head and training settings of each run."""
    return Table("settings", "Table 1. Settings", SETTINGS, pd.DataFrame(_main_settings(runs)))


def _main_settings(runs: Sequence[ReportedRun]) -> list[dict[str, Any]]:
    rows = run_rows(runs, SETTINGS)
    return [
        row | (dict.fromkeys(OF_EPOCHS) if run.is_closed_form else {})
        for row, run in zip(rows, runs, strict=True)
    ]


def setups(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """Describe each run shortly by the first settings of Table 1 that differ between the runs."""
    rows = _main_settings(runs)
    for row, run in zip(rows, runs, strict=True):
        row["network"] = run.settings.get("model.name") or row["network"]  # shorter than that of the weights
    differing = [name for name in SETUP if len({row[name] for row in rows}) > 1]
    found = {}
    for row in rows:
        known = [name for name in differing if row[name] is not None]
        words = [
            f"{'' if name in SETUP[:4] else SETTINGS[name].header} {row[name]}".strip() for name in known
        ]
        found[row["run"]] = ", ".join(words[:SETUP_SHOWN]) + (", …" if len(words) > SETUP_SHOWN else "")
    return found


def relevant_settings(run: ReportedRun) -> dict[str, str]:
    """Return the settings that can change a result, as text."""
    return {
        name: class_name(value) if name.endswith("_target_") else _text(value)
        for name, value in run.settings.items()
        if not f"{name}.".startswith(IGNORED)
    }


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def difference_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of exactly the settings in which the runs differ, one row per setting.

    Of several settings that have the same last word and the same values, such as `seed` and `data.seed`, only the
    first is shown, because one is usually taken from the other.
    """
    runs = [run for run in runs if run.settings]
    columns = {"setting": Column("setting"), **{f"run:{run.name}": Column(run.name) for run in runs}}
    frame = pd.DataFrame({f"run:{run.name}": relevant_settings(run) for run in runs}, dtype=object).fillna(
        UNSET
    )
    frame = frame[frame.nunique(axis=1) > 1]
    frame = frame.loc[sorted(frame.index, key=lambda name: (name.count("."), name))]
    words = [name.rpartition(".")[2] for name in frame.index]
    frame = frame[~frame.assign(word=words).duplicated()].sort_index()
    frame.insert(0, "setting", [name.removesuffix("._target_") for name in frame.index])
    return Table("differences", "What differs", columns, frame)


def model_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of the sizes of the networks and heads."""
    return Table("models", "Sizes", SIZES, pd.DataFrame(run_rows(runs, SIZES)))


def loss_names(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """Name the loss function of each run by its class, with a number where the same class has several settings.

    Values of different loss functions, or of the same one with other class weights, cannot be compared.
    """
    names: dict[tuple[str, str], str] = {}
    found = {}
    for run in runs:
        word = str(run.find("settings.loss._target_") or "unknown")
        own = [item for item in run.settings.items() if item[0].startswith(("loss.", "data.class_w"))]
        number = sum(known == word for known, _ in names) + 1
        found[run.name] = names.setdefault((word, str(own)), f"{word} {number}" if number > 1 else word)
    return found


def training_table(runs: Sequence[ReportedRun], references: References = ()) -> Table:
    """Build Table 2, metrics of the selected checkpoint on its own training images at threshold 0.5."""
    # no best run is marked, because on training images it would be the one that overfits most
    losses = loss_names([run for run in runs if not run.is_closed_form])
    trained = dict.fromkeys(losses.values())
    headers = {name: f"loss, {name}" if len(trained) > 1 else "loss" for name in trained}
    columns = {
        "run": RUN,
        **{f"loss_{name}": Column(header, "loss") for name, header in headers.items()},
        **TRAINING,
    }
    rows = []
    for run in runs:
        row = {name: run.find(f"metrics.train.{name}") for name in TRAINING}
        row |= {f"loss_{losses[run.name]}": run.find("metrics.train.loss")} if run.name in losses else {}
        rows.append({"run": run.name, **row, "loo_map": run.find("metrics.loo.map")})
    notes = ["The selected checkpoint, without dropout, on its training images at threshold 0.5."]
    if len(trained) > 1:
        notes.append(
            "Values of different loss functions are in columns of their own: they cannot be compared."
        )
    return _with_references("training", "Table 2. Training", columns, rows, notes, references)


def time_table(runs: Sequence[ReportedRun], references: References = ()) -> Table:
    """Build Table 4, the seconds of each run."""
    notes = [
        "Seconds of wall-clock time on the machine of the row; of a cross-validation, sums over its folds.",
        "Those of the features of 1,000 photographs were measured when they were stored, perhaps by an earlier run.",
    ]
    return _with_references("times", "Table 4. Time", TIMES, run_rows(runs, TIMES), notes, references)


def _with_references(
    key: str,
    title: str,
    columns: Mapping[str, Column],
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    references: References,
) -> Table:
    """Build a table with greyed rows of the original report below the others."""
    faint = range(len(rows), len(rows) + len(references))
    notes = [*notes, NOTE] if references else notes
    return Table(key, title, columns, pd.DataFrame([*rows, *references]), notes, faint)


def data_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of images, classes and split of each run."""
    rows = run_rows(runs, DATA)
    for row, run in zip(rows, runs, strict=True):
        row["classes"] = len(run.dataset.get("classes", run.classes)) or None
        row["classes_dropped"] = len(run.dataset.get("curation", {}).get("dropped_classes", []))
        row["split"] = str(run.find("dataset.split.hash") or "")[:8] or None
        if run.test is not None:
            row["labels_an_image"] = float(run.test.positives.sum(axis=1).mean())
            row["unknown"] = float(1 - run.test.known.mean()) or None
            row["undefined"] = ", ".join(undefined_classes(run)) or None
    notes = ["Of a cross-validation, train and val are those of its first fold."]
    return Table("data", "Images and labels", DATA, pd.DataFrame(rows), notes)


def undefined_classes(run: ReportedRun) -> list[str]:
    """Return the classes without positives among the test images."""
    counts = [] if run.test is None else run.test.positives.sum(axis=0)
    return [name for name, count in zip(run.classes, counts, strict=True) if count == 0]


def state_table(runs: Sequence[ReportedRun], missing: Sequence[MissingRun]) -> Table:
    """Build the table of runs that are not in the other tables, with the reasons."""
    columns = {name: Column(name) for name in ("run", "state", "error", "folder")}
    rows = [
        {"run": run.name, "state": run.state, "error": _error(run), "folder": str(run.path)} for run in runs
    ]
    rows += [{"run": run.name, "state": "missing", "error": run.reason} for run in missing]
    return Table("not_finished", "Runs that did not finish", columns, pd.DataFrame(rows))


def _error(run: ReportedRun) -> str:
    error = run.status.get("error")
    if isinstance(error, dict):
        return f"{error.get('type')}: {error.get('message')}"
    if run.state == "running":
        return f"still running, or killed; started {run.status.get('started')}"
    return "; ".join(run.notes) or "no error recorded"

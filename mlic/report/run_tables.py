"""Tables of settings, models, training, time and data with one row per run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun
from mlic.report.reference import NOTE, TRAINING_NOTE, ReferenceRun
from mlic.report.tables import Column, Table

RUN = Column("run")
PHASES = ("backbone", "data", "features", "records", "fit", "test")
# in the order in which the first screen names them; the first four are clear without their header
SETUP = (
    "network", "head", "loss", "views", "hidden", "dropout", "optimizer", "learning_rate", "batch_size", "epochs",
    "seed",
)  # fmt: skip
SETUP_SHOWN = 3
# settings without meaning for a head in closed form
OF_EPOCHS = ("loss", "optimizer", "learning_rate", "batch_size", "epochs")


def settings_table(runs: Sequence[ReportedRun]) -> Table:
    """Build Table 1, the network, head and training settings of each run."""
    columns = {
        "run": RUN,
        "network": Column("network", meaning="timm name and tag of the pretrained weights"),
        "license": Column("licence", meaning="of the weights, according to timm"),
        "pool": Column("pooling", meaning="pooling of the feature map"),
        "views": Column("views", meaning="images whose features are averaged"),
        "head": Column("head"),
        "dropout": Column("dropout", "number"),
        "hidden": Column("dense units", meaning="hidden layers of the head"),
        "loss": Column("loss"),
        "optimizer": Column("optimizer"),
        "learning_rate": Column("learning rate", "number"),
        "batch_size": Column("batch size", "integer"),
        "epochs": Column("epochs", "integer"),
        "seed": Column("seed", "integer"),
    }
    rows = [{"run": run.name, **main_settings(run)} for run in runs]
    return Table("settings", "Table 1. Settings", columns, pd.DataFrame(rows))


def main_settings(run: ReportedRun) -> dict[str, Any]:
    """Return the settings of Table 1 by column; None where a run does not have one."""
    get = run.settings.get
    found = {
        "network": _words(run.model.get("weights_tag")) or _number_or_text(get("model.name")),
        "license": _words(run.model.get("weights_license")),
        "pool": run.model.get("pool"),
        "views": "with mirror image" if get("model.backbone.mirror") is True else None,
        "head": class_name(get("head._target_")).removesuffix("Head") or None,
        "dropout": _number_or_text(get("head.dropout")),
        "hidden": _words(get("head.hidden") or None),
        "loss": class_name(get("loss._target_")) or None,
        "optimizer": class_name(get("optimizer._target_")) or None,
        "learning_rate": _number_or_text(get("optimizer.lr")),
        "batch_size": _number_or_text(get("data.batch_size")),
        "epochs": _number_or_text(get("trainer.max_epochs")),
        "seed": _number_or_text(get("seed")),
    }
    return found | (dict.fromkeys(OF_EPOCHS) if run.is_closed_form else {})


def setups(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """Describe each run shortly by the first settings of Table 1 that differ between the runs."""
    table = settings_table(runs)
    # the name of a configured network is shorter than that of its weights
    table.frame["network"] = [run.settings.get("model.name") or run.model.get("weights_tag") for run in runs]
    differing = [name for name in SETUP if len({*map(str, table.frame[name])}) > 1]
    found = {}
    for record in table.frame.to_dict("records"):
        shown = [name for name in differing if not pd.isna(record[name])]
        texts = [table.columns[name].format(record[name]) for name in shown]
        words = [
            text if name in SETUP[:4] else f"{table.columns[name].header} {text}"
            for name, text in zip(shown, texts, strict=True)
        ]
        found[record["run"]] = ", ".join(words[:SETUP_SHOWN]) + (", …" if len(words) > SETUP_SHOWN else "")
    return found


def class_name(target: Any) -> str:
    """Return the last part of the path of a class; "" for anything but text."""
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def _number_or_text(value: Any) -> int | float | str | None:
    """Return a value of config.yaml, which is not trusted, as a number or as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53
    return value if value is None or is_number else str(value)


def _words(value: Any) -> Any:
    """Join several values, such as those of the networks of an ensemble, to one text."""
    return " + ".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def model_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of the sizes of the networks and heads."""
    columns = {
        "run": RUN,
        "weights_tag": Column("weights", meaning="timm name and tag of the pretrained weights"),
        "image_size": Column("input", "integer", "side of the square input, pixels"),
        "backbone_parameters": Column("backbone parameters", "integer", "frozen"),
        "head_parameters": Column("trainable parameters", "integer", "of the head"),
        "feature_size": Column("feature size", "integer", "numbers per image"),
        "precision": Column("computed in", meaning="number format of the backbone"),
    }
    rows = []
    for run in runs:
        shape, size = run.model.get("feature_shape"), run.model.get("image_size")
        texts = {"weights_tag": _words(run.model.get("weights_tag")), "run": run.name}
        sizes = {"image_size": _words(size) if isinstance(size, list) else size}
        rows.append({**run.model, **texts, **sizes, "feature_size": math.prod(shape) if shape else None})
    return Table("models", "Sizes", columns, pd.DataFrame(rows, columns=list(columns)))


def loss_names(runs: Sequence[ReportedRun]) -> dict[str, str]:
    """Name the loss function of each run by its class, with a number where the same class has several settings.

    Values of different loss functions, or of the same one with other class weights, cannot be compared.
    """
    identities = {
        run.name: str(
            {key: value for key, value in run.settings.items() if key.startswith(("loss.", "data.class_w"))}
        )
        for run in runs
    }
    known: dict[str, dict[str, str]] = {}
    for run in runs:
        word = class_name(run.settings.get("loss._target_")) or "unknown"
        own = known.setdefault(word, {})
        own.setdefault(identities[run.name], f"{word} {len(own) + 1}" if own else word)
    return {
        run.name: next(own[identity] for own in known.values() if (identity := identities[run.name]) in own)
        for run in runs
    }


def training_table(runs: Sequence[ReportedRun], references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 2, metrics of the selected checkpoint on its own training images at threshold 0.5."""
    losses = loss_names(runs)
    trained = list(dict.fromkeys(losses[run.name] for run in runs if not run.is_closed_form))
    columns = {
        "run": RUN,
        **{
            f"loss_{name}": Column(
                f"loss, {name}" if len(trained) > 1 else "loss", "loss", "training loss", "low"
            )
            for name in trained
        },
        "map": Column("mAP", "score"),
        "auc_macro": Column("AUC macro", "score"),
        "auc_micro": Column("AUC micro", "score"),
        "precision_micro": Column("precision", "score", "micro"),
        "recall_micro": Column("recall", "score", "micro"),
    }
    rows = []
    for run in runs:
        found = {key: run.metrics.get("train", {}).get(key) for key in columns} | {"run": run.name}
        loss = (
            {}
            if run.is_closed_form
            else {f"loss_{losses[run.name]}": run.metrics.get("train", {}).get("loss")}
        )
        rows.append({**found, **loss, "loo_map": run.metrics.get("loo", {}).get("map")})
    notes = ["The selected checkpoint, without dropout, on its training images at threshold 0.5."]
    if any("loo" in run.metrics for run in runs):
        columns["loo_map"] = Column("leave-one-out mAP", "score", "", "high")
        notes.append(
            "Leave-one-out: each training image scored by the head fitted without it, or without its group."
        )
    if len(trained) > 1:
        notes.append(
            "Values of different loss functions are in columns of their own: they cannot be compared."
        )
    rows += [
        {
            "run": item.name,
            "auc_micro": item.train_auc,
            "precision_micro": item.train_precision,
            "recall_micro": item.train_recall,
        }
        for item in references
    ]
    notes += _note_of_folds(runs, "means over its folds")
    notes += [NOTE, TRAINING_NOTE] if references else []
    # no best run is marked, because on training images it would be the one that overfits most
    faint = range(len(runs), len(rows))
    return Table("training", "Table 2. Training", columns, pd.DataFrame(rows), notes, faint)


def time_table(runs: Sequence[ReportedRun], references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 4, the seconds of each run."""
    columns = {
        "run": RUN,
        "seconds_per_1000": Column(
            "features of 1,000 photographs", "seconds", "of the network, once an image", "low"
        ),
        "extraction": Column("extraction", "seconds", "features that no earlier run had stored"),
        "epochs": Column("epochs", "integer"),
        "seconds_an_epoch": Column("seconds per epoch", "seconds", "", "low"),
        "fit": Column("training", "seconds"),
        "test": Column("test", "seconds"),
        "total": Column("total", "seconds"),
        "machine": Column("machine"),
    }
    rows = [{"run": run.name, **_times(run)} for run in runs]
    rows += [{"run": item.name, "seconds_an_epoch": item.seconds_an_epoch} for item in references]
    notes = [
        "Seconds of wall-clock time on the machine of the row.",
        "Those of the features of 1,000 photographs were measured when they were stored, perhaps by an earlier run.",
    ]
    notes += _note_of_folds(runs, "sums over its folds") + ([NOTE] if references else [])
    faint = range(len(runs), len(rows))
    return Table("times", "Table 4. Time", columns, pd.DataFrame(rows), notes, faint).mark_best()


def _times(run: ReportedRun) -> dict[str, Any]:
    epochs, fit = None if run.epochs is None else len(run.epochs), run.seconds("fit")
    machines = (run.status.get("machine"), run.model.get("machine"))
    known = [value for phase in PHASES if (value := run.seconds(phase)) is not None]
    return {
        "seconds_per_1000": run.seconds_per_1000,
        "extraction": run.seconds("features"),
        "epochs": epochs,
        "seconds_an_epoch": fit / epochs if fit is not None and epochs else None,
        "fit": fit,
        "test": run.seconds("test"),
        "total": sum(known) if known else None,
        "machine": "; features: ".join(dict.fromkeys(name for name in machines if name)) or None,
    }


def data_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of images, classes and split of each run."""
    columns = {
        "run": RUN,
        **{f"images_{part}": Column(f"{part} images", "integer") for part in ("train", "val", "test")},
        "classes": Column("classes", "integer"),
        "classes_dropped": Column("classes dropped", "integer", "dropped by curation"),
        "labels_an_image": Column("labels per image", "number", "mean over the test images"),
        "undefined": Column("classes without a test image", meaning="excluded from means"),
        "split": Column(
            "split", meaning="first letters of the hash over file names, labels, seed and fractions"
        ),
    }
    shares = {run.name: 1 - run.test.known.mean() for run in runs if run.test is not None}
    notes = [
        f"{name}: {share:.1%} of the test labels are unknown and take no part in any figure."
        for name, share in shares.items()
        if share > 0
    ]
    notes += _note_of_folds(runs, "train and val are those of its first fold")
    frame = pd.DataFrame([{"run": run.name, **_data(run)} for run in runs])
    return Table("data", "Images and labels", columns, frame, notes)


def _data(run: ReportedRun) -> dict[str, Any]:
    images, curation = run.dataset.get("images", {}), run.dataset.get("curation", {})
    return {
        **{f"images_{part}": images.get(part) for part in ("train", "val", "test")},
        "classes": len(run.dataset["classes"]) if "classes" in run.dataset else len(run.classes) or None,
        "classes_dropped": len(curation["dropped_classes"]) if "dropped_classes" in curation else None,
        "labels_an_image": None if run.test is None else float(run.test.positives.sum(axis=1).mean()),
        "undefined": ", ".join(undefined_classes(run)) or None,
        "split": str(run.dataset.get("split", {}).get("hash", ""))[:8] or None,
    }


def undefined_classes(run: ReportedRun) -> list[str]:
    """Return the classes without positives among the test images."""
    counts = [] if run.test is None else run.test.positives.sum(axis=0)
    return [name for name, count in zip(run.classes, counts, strict=True) if count == 0]


def state_table(runs: Sequence[ReportedRun], missing: Sequence[MissingRun]) -> Table:
    """Build the table of runs that are not in the other tables, with the reasons."""
    columns = {
        "run": RUN,
        "state": Column("state"),
        "error": Column("error", "message"),
        "folder": Column("folder"),
    }
    rows: list[Mapping[str, Any]] = [
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


def _note_of_folds(runs: Sequence[ReportedRun], meaning: str) -> list[str]:
    return [f"Cross-validation: {meaning}."] if any(run.num_folds for run in runs) else []

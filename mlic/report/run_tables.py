"""Tables of models, training and time with one row per run."""

import math
from collections.abc import Sequence
from typing import Any

from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun
from mlic.report.reference import NOTE, SOURCE, TRAINING_NOTE, ReferenceRun
from mlic.report.tables import Cell, Column, Row, Table, mark_best

RUN = Column("run", "run")
PHASES = ("backbone", "data", "features", "records", "fit", "test")


def model_table(runs: Sequence[ReportedRun]) -> Table:
    """Build Table 1, the network of each run."""
    columns = (
        RUN,
        Column("weights_tag", "weights", meaning="timm name and tag of the pretrained weights"),
        Column("weights_license", "licence", meaning="of the weights, according to timm"),
        Column("image_size", "input", "integer", meaning="side of the square input, pixels"),
        Column("backbone_parameters", "backbone parameters", "integer", meaning="frozen"),
        Column("trainable_parameters", "trainable parameters", "integer", meaning="of the head"),
        Column("feature_size", "feature size", "integer", meaning="numbers per image"),
        Column("pool", "pool", meaning="pooling of the feature map"),
        Column("precision", "computed in", meaning="number format of the backbone"),
    )
    keys = ("weights_tag", "weights_license", "image_size", "backbone_parameters", "head_parameters")
    rows = []
    for run in runs:
        shape = run.model.get("feature_shape")
        size = math.prod(shape) if shape else None
        values = [
            *(_words(run.model.get(key)) for key in keys),
            size,
            run.model.get("pool"),
            run.model.get("precision"),
        ]
        rows.append(Row([Cell(run.name), *map(Cell, values)]))
    return Table("models", "Table 1. Models", columns, rows)


def _words(value: Any) -> Any:
    """Join the values of the networks of an ensemble to one text."""
    return " + ".join(map(str, value)) if isinstance(value, list) else value


def training_table(runs: Sequence[ReportedRun], references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 2, metrics of the selected checkpoint on its own training images at threshold 0.5."""
    columns = (
        RUN,
        Column("loss", "loss", "loss", better="low", meaning="weighted training loss"),
        Column("map", "mAP", "score", better="high"),
        Column("auc_macro", "AUC macro", "score", better="high"),
        Column("auc_micro", "AUC micro", "score", better="high"),
        Column("precision_micro", "precision", "score", better="high", meaning="micro"),
        Column("recall_micro", "recall", "score", better="high", meaning="micro"),
    )
    keys = [column.key for column in columns[1:]]
    rows = [_row(run.name, [run.metrics.get("train", {}).get(key) for key in keys]) for run in runs]
    for item in references:
        values = [None, None, None, item.train_auc, item.train_precision, item.train_recall]
        rows.append(_row(f"{item.network} ({SOURCE})", values, reference=True))
    notes = ["The selected checkpoint, without dropout, on its training images at threshold 0.5."]
    if any("loo" in run.metrics for run in runs):
        columns += (Column("loo_map", "leave-one-out mAP", "score", better="high"),)
        left_out = [run.metrics.get("loo", {}).get("map") for run in runs] + [None] * len(references)
        rows = [
            Row([*row.cells, Cell(value)], row.reference) for row, value in zip(rows, left_out, strict=True)
        ]
        notes.append(
            "Leave-one-out: each training image scored by the head fitted without it, or without its group."
        )
    notes += _note_of_folds(runs, "means over its folds")
    notes += [NOTE, TRAINING_NOTE] if references else []
    # no best run is marked, because on training images it would be the one that overfits most
    return Table("training", "Table 2. Training", columns, rows, notes)


def time_table(runs: Sequence[ReportedRun], references: Sequence[ReferenceRun] = ()) -> Table:
    """Build Table 4, the seconds of each run."""
    columns = (
        RUN,
        Column("epochs", "epochs", "integer"),
        Column("seconds_an_epoch", "seconds per epoch", "seconds", better="low"),
        Column("extraction", "extraction", "seconds", meaning="features of new images"),
        Column("fit", "training", "seconds"),
        Column("test", "test", "seconds"),
        Column("total", "total", "seconds"),
    )
    rows = [_row(run.name, _times(run)) for run in runs]
    for item in references:
        values = [None, item.seconds_an_epoch, None, None, None, None]
        rows.append(_row(f"{item.network} ({SOURCE})", values, reference=True))
    notes = ["Seconds of wall-clock time. Extraction is near 0 if an earlier run stored the features."]
    notes += _note_of_folds(runs, "sums over its folds")
    return mark_best(Table("times", "Table 4. Time", columns, rows, notes + ([NOTE] if references else [])))


def _times(run: ReportedRun) -> list[Any]:
    epochs = None if run.epochs is None else len(run.epochs)
    fit = run.seconds("fit")
    known = [value for phase in PHASES if (value := run.seconds(phase)) is not None]
    an_epoch = fit / epochs if fit is not None and epochs else None
    return [
        epochs,
        an_epoch,
        run.seconds("features"),
        fit,
        run.seconds("test"),
        sum(known) if known else None,
    ]


def data_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of images, classes and split of each run."""
    columns = (
        RUN,
        *(Column(f"images_{part}", f"{part} images", "integer") for part in ("train", "val", "test")),
        Column("classes", "classes", "integer"),
        Column("classes_dropped", "classes dropped", "integer", meaning="dropped by curation"),
        Column("labels_an_image", "labels per image", "number", meaning="mean over the test images"),
        Column("undefined", "classes without a test image", meaning="excluded from means"),
        Column(
            "split", "split", meaning="first letters of the hash over file names, labels, seed and fractions"
        ),
    )
    shares = {run.name: 1 - run.test.known.mean() for run in runs if run.test is not None}
    notes = [
        f"{name}: {share:.1%} of the test labels are unknown and take no part in any figure."
        for name, share in shares.items()
        if share > 0
    ]
    notes += _note_of_folds(runs, "train and val are those of its first fold")
    rows = [Row([Cell(run.name), *map(Cell, _data(run))]) for run in runs]
    return Table("data", "Images and labels", columns, rows, notes)


def _data(run: ReportedRun) -> list[Any]:
    images, curation = run.dataset.get("images", {}), run.dataset.get("curation", {})
    labels = None if run.test is None else float(run.test.positives.sum(axis=1).mean())
    without = [] if run.test is None else undefined_classes(run)
    return [
        *(images.get(part) for part in ("train", "val", "test")),
        len(run.dataset["classes"]) if "classes" in run.dataset else len(run.classes) or None,
        len(curation["dropped_classes"]) if "dropped_classes" in curation else None,
        labels,
        ", ".join(without) or None,
        str(run.dataset.get("split", {}).get("hash", ""))[:8] or None,
    ]


def undefined_classes(run: ReportedRun) -> list[str]:
    """Return the classes without positives among the test images."""
    counts = [] if run.test is None else run.test.positives.sum(axis=0)
    return [name for name, count in zip(run.classes, counts, strict=True) if count == 0]


def state_table(runs: Sequence[ReportedRun], missing: Sequence[MissingRun]) -> Table:
    """Build the table of runs that are not in the other tables, with the reasons."""
    columns = (RUN, Column("state", "state"), Column("error", "error"), Column("folder", "folder"))
    rows = [_text_row(run.name, run.state, _error(run), str(run.path)) for run in runs]
    rows += [_text_row(run.name, "missing", run.reason, None) for run in missing]
    return Table("not_finished", "Runs that did not finish", columns, rows)


def _error(run: ReportedRun) -> str:
    error = run.status.get("error")
    if isinstance(error, dict):
        return f"{error.get('type')}: {error.get('message')}"
    if run.state == "running":
        return f"still running, or killed; started {run.status.get('started')}"
    return "; ".join(run.notes) or "no error recorded"


def _note_of_folds(runs: Sequence[ReportedRun], meaning: str) -> list[str]:
    return [f"Cross-validation: {meaning}."] if any(run.num_folds for run in runs) else []


def _row(name: str, values: Sequence[Any], *, reference: bool = False) -> Row:
    return Row([Cell(name), *map(Cell, values)], reference)


def _text_row(*values: str | None) -> Row:
    return Row([Cell(value) for value in values])

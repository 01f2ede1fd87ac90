"""Every figure of the test tables, against scikit-learn or by hand: ties, classes without positives, single classes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from mlic.evaluation.bootstrap import resample_weights
from mlic.report.comparison import HALF, Comparison, compare_runs
from mlic.report.discovery import name_runs
from mlic.report.reading import ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.score_tables import calibration_table, pair_table, result_table

WriteRun = Callable[..., Path]
Made = Callable[..., tuple[np.ndarray, np.ndarray]]

# six images; ties in a and b, b is everywhere, c nowhere
TARGETS = np.array(
    [[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=np.uint8
)
SCORES = np.array(
    [
        [0.9, 0.6, 0.1, 0.4],
        [0.9, 0.6, 0.7, 0.8],
        [0.5, 0.4, 0.2, 0.3],
        [0.2, 0.6, 0.2, 0.6],
        [0.7, 0.9, 0.1, 0.2],
        [0.2, 0.1, 0.1, 0.3],
    ],
    dtype=np.float32,
)
CLASSES = ("a", "b", "c", "d")
THRESHOLDS = {"a": 0.4, "b": 0.05, "c": 0.9, "d": 0.15}
RESAMPLES = 40
ZERO: Any = 0  # scikit-learn takes it, its annotations do not


def read(*folders: Path) -> list[ReportedRun]:
    runs = [read_run(folder) for folder in folders]
    name_runs(runs)
    return runs


def expected(scores: np.ndarray, targets: np.ndarray, limits: Any) -> dict[str, float]:
    """All metrics of the table by scikit-learn, over the classes that have what it takes."""
    positive = targets.any(axis=0)
    both = positive & ~targets.all(axis=0)
    decided = (scores.astype(np.float64) > limits).astype(int)
    columns = np.flatnonzero(positive)
    cp, cr = (
        np.mean([score(targets[:, c], decided[:, c], zero_division=ZERO) for c in columns])
        for score in (precision_score, recall_score)
    )
    # a class without positives counts in no macro mean, but its false positives do in the micro ones
    return {
        "map": float(np.mean([average_precision_score(targets[:, c], scores[:, c]) for c in columns])),
        "auc_macro": float(
            np.mean([roc_auc_score(targets[:, c], scores[:, c]) for c in np.flatnonzero(both)])
        ),
        "auc_thresholded": float(
            np.mean([roc_auc_score(targets[:, c], decided[:, c]) for c in np.flatnonzero(both)])
        ),
        "precision_micro": float(precision_score(targets, decided, average="micro", zero_division=ZERO)),
        "recall_micro": float(recall_score(targets, decided, average="micro", zero_division=ZERO)),
        "of1": float(f1_score(targets, decided, average="micro", zero_division=ZERO)),
        "cf1": float(2 * cp * cr / (cp + cr)),
    }


@pytest.fixture
def two_runs(tmp_path: Path, write_run: WriteRun) -> list[ReportedRun]:
    """The hand-made run, and one with other scores on the same images."""
    one = write_run(tmp_path / "1", SCORES, TARGETS, CLASSES, name="one", thresholds=THRESHOLDS)
    other = write_run(
        tmp_path / "2", SCORES[::-1].copy(), TARGETS, CLASSES, name="two", thresholds=THRESHOLDS
    )
    return read(one, other)


def compared(runs: list[ReportedRun], **options: Any) -> Comparison:
    return compare_runs(runs, resamples=RESAMPLES, **options)


def test_every_test_figure_is_scikit_learns(two_runs: list[ReportedRun]):
    frame = result_table(compared(two_runs)).to_frame().set_index("run")
    limits = np.array([THRESHOLDS[name] for name in CLASSES])
    for run, scores in (("one", SCORES), ("two", SCORES[::-1])):
        at_half, calibrated = expected(scores, TARGETS, 0.5), expected(scores, TARGETS, limits)
        for metric in (
            "map",
            "auc_macro",
            "precision_micro",
            "recall_micro",
            "cf1",
            "of1",
            "auc_thresholded",
        ):
            assert frame.loc[run, metric] == pytest.approx(at_half[metric], abs=1e-12), metric
        for metric in ("precision_micro", "recall_micro", "cf1", "of1", "auc_thresholded"):
            assert frame.loc[run, f"{metric}_calibrated"] == pytest.approx(calibrated[metric], abs=1e-12), (
                metric
            )
    # by hand: at 0.5 seven of ten predicted labels are right, of eleven true ones
    assert frame.loc["one", "precision_micro"] == pytest.approx(7 / 10)
    assert frame.loc["one", "recall_micro"] == pytest.approx(7 / 11)


def test_intervals_are_percentiles_of_the_metric_on_resampled_images(two_runs: list[ReportedRun]):
    frame = result_table(compared(two_runs, seed=3, level=0.8)).to_frame().set_index("run")
    weights = np.concatenate(list(resample_weights(len(SCORES), RESAMPLES, 3)), axis=1).astype(int)
    of1 = []
    for column in weights.T:
        rows = np.repeat(np.arange(len(SCORES)), column)
        of1.append(f1_score(TARGETS[rows], SCORES[rows] > 0.5, average="micro"))
    moved = np.array(of1) + f1_score(TARGETS, SCORES > 0.5, average="micro") - np.mean(of1)
    assert frame.loc["one", "of1_low"] == pytest.approx(np.quantile(moved, 0.1))
    assert frame.loc["one", "of1_high"] == pytest.approx(np.quantile(moved, 0.9))


def test_the_best_is_marked_and_ahead_only_beyond_chance(tmp_path: Path, write_run: WriteRun, made: Made):
    scores, targets = made(0, 200, 4)
    random = np.random.default_rng(1).random(scores.shape).astype(np.float32)
    near = np.clip(scores + np.random.default_rng(2).normal(size=scores.shape) * 0.01, 0, 1).astype(
        np.float32
    )
    limits = dict.fromkeys("wxyz", 0.5)
    folders = [
        write_run(tmp_path / name, values, targets, "wxyz", name=name, thresholds=limits)
        for name, values in (("good", scores), ("near", near), ("bad", random))
    ]
    good, near_run, bad = read(*folders)
    far_apart = compare_runs([good, bad], resamples=200)
    assert far_apart.best(HALF, "map") == {"good": True}
    assert set(compare_runs([good, near_run, bad], resamples=200).best(HALF, "map").values()) == {False}
    marks = {row.cells[0].value: row.cells[1].mark for row in result_table(far_apart).rows}
    assert marks == {"bad": "", "good": "ahead"}


def test_pairs_hold_differences_of_the_table_with_corrected_p_values(
    tmp_path: Path, write_run: WriteRun, made: Made
):
    targets = made(0, 60, 3)[1]
    folders = [
        write_run(tmp_path / name, made(seed, 60, 3)[0], targets, "xyz", name=name)
        for seed, name in enumerate(("one", "two", "three"))
    ]
    comparison = compared(read(*folders))
    results = result_table(comparison).to_frame().set_index("run")
    frame = pair_table(comparison).to_frame()
    rows = frame.query("metric == 'mAP'")
    assert list(zip(rows["first"], rows["second"], strict=True)) == [
        ("one", "two"), ("one", "three"), ("two", "three")
    ]  # fmt: skip
    for row in rows.to_dict("records"):
        difference = results.loc[row["first"], "map"] - results.loc[row["second"], "map"]
        assert row["difference"] == pytest.approx(difference)
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    ordered = rows.sort_values("p_value")
    by_hand = np.minimum(np.maximum.accumulate(ordered["p_value"].to_numpy(float) * [3, 2, 1]), 1)
    assert ordered["p_holm"].to_numpy(float) == pytest.approx(by_hand)


def test_runs_with_other_test_images_are_not_compared(tmp_path: Path, write_run: WriteRun, made: Made):
    scores, targets = made(0, 20, 3)
    one = write_run(tmp_path / "1", scores, targets, "xyz", name="one")
    two = write_run(tmp_path / "2", scores, targets, "xyz", name="two")
    names = [f"other{row:02d}.jpg" for row in range(20)]
    other = write_run(tmp_path / "3", scores, targets, "xyz", name="other", file_names=names)
    labels = write_run(tmp_path / "4", scores, targets[::-1].copy(), "xyz", name="labels")
    comparison = compared(read(one, other, two, labels))
    assert comparison.groups == [["one", "two"], ["other"], ["labels"]]
    table = result_table(comparison)
    assert table.to_frame()["test_set"].tolist() == ["set 1", "set 1", "set 2", "set 3"]
    assert any("different images" in note for note in table.notes)
    assert any("for the F1 of each class: they serve CF1, and may cost OF1" in note for note in table.notes)
    pairs = pair_table(comparison).to_frame()
    refused = pairs.query("verdict.str.startswith('not compared')")
    assert len(refused) == 5
    assert [bool(pd.isna(value)) for value in refused["difference"]] == [True] * 5
    reasons = refused.set_index(["first", "second"])["verdict"]
    assert "'0000.jpg' against 'other00.jpg'" in str(reasons["one", "other"])
    assert "other labels of the same images" in str(reasons["two", "labels"])


def test_a_single_class_and_no_positive_at_all(tmp_path: Path, write_run: WriteRun):
    single = write_run(tmp_path / "1", SCORES[:, :1], TARGETS[:, :1], "a", name="single")
    nothing = write_run(tmp_path / "2", SCORES[:, 2:3], TARGETS[:, 2:3], "c", name="nothing")
    frame = result_table(compared(read(single, nothing))).to_frame().set_index("run")
    by_hand = expected(SCORES[:, :1], TARGETS[:, :1], 0.5)
    for metric, value in by_hand.items():
        assert frame.loc["single", metric] == pytest.approx(value), metric
    assert frame.loc["nothing"].drop("test_set").isna().all()


def test_calibration_by_hand(tmp_path: Path, write_run: WriteRun):
    scores = np.array([[0.2], [0.2], [0.9], [0.9]], dtype=np.float32)
    targets = np.array([[0], [1], [1], [1]], dtype=np.uint8)
    runs = read(write_run(tmp_path / "1", scores, targets, "x", val=(scores, targets)))
    frame = calibration_table(runs).to_frame()
    # half of those at 0.2 are positive, all of those at 0.9
    assert frame.loc[0, "ece"] == pytest.approx((0.3 + 0.1) / 2, abs=1e-6)
    assert frame.loc[0, "ece_temperature"] != frame.loc[0, "ece"]
    assert 0.05 < frame.loc[0, "temperature"] < 20


def test_the_original_report_stands_beside_the_runs_and_is_never_best(two_runs: list[ReportedRun]):
    table = result_table(compared(two_runs), REFERENCES["report"])
    frame = table.to_frame().set_index("run")
    assert frame.loc["VGG16 (original report)", "auc_thresholded"] == 0.6636
    assert frame.loc["NASNetLarge (original report)", ["precision_micro", "recall_micro"]].tolist() == [
        0.6631,
        0.5196,
    ]
    assert pd.isna(frame.loc["VGG16 (original report)", "auc_macro"])
    references = [row for row in table.rows if row.reference]
    assert len(references) == 4
    assert not any(cell.mark for row in references for cell in row.cells)
    assert any("another data set" in note for note in table.notes)
    assert any("auc_thresholded" in note for note in table.notes)

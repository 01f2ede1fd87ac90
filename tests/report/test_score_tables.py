"""Every figure of the test tables, against scikit-learn or by hand: ties, classes without positives, single classes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from mlic.errors import InputError
from mlic.evaluation.bootstrap import Difference
from mlic.evaluation.guarantees import fit_guarantees
from mlic.report.answers import LEVEL, answer_table, estimate_answers
from mlic.report.comparison import HALF, Comparison, compare_runs, images_to_decide
from mlic.report.reading import ReportedRun, read_run
from mlic.report.reference import REFERENCES
from mlic.report.report_figures import choose_classes
from mlic.report.run_tables import difference_table, setups
from mlic.report.score_tables import class_metrics, class_table, pair_table, result_table
from mlic.report.verdict import judge, seed_notes

Made = Callable[..., tuple[np.ndarray, np.ndarray]]
ReadRun = Callable[..., ReportedRun]

# six images; ties in a and b, b is everywhere, c nowhere
TARGETS = np.array(
    [[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=np.uint8
)
SCORES = np.array(
    [[9, 6, 1, 4], [9, 6, 7, 8], [5, 4, 2, 3], [2, 6, 2, 6], [7, 9, 1, 2], [2, 1, 1, 3]], dtype=np.float32
)
SCORES /= 10
CLASSES = ("a", "b", "c", "d")
THRESHOLDS = {"a": 0.4, "b": 0.05, "c": 0.9, "d": 0.15}
RESAMPLES = 40
ZERO: Any = 0  # scikit-learn takes it, its annotations do not


def compared(*runs: ReportedRun) -> Comparison:
    return compare_runs(runs, resamples=RESAMPLES)


def by_run(comparison: Comparison) -> pd.DataFrame:
    return result_table(comparison).frame.set_index("run")


def expected(scores: np.ndarray, targets: np.ndarray, limits: Any) -> dict[str, float]:
    """All metrics of the table by scikit-learn, over the classes that have what it takes."""
    positive = np.flatnonzero(targets.any(axis=0))
    both = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    decided = (scores.astype(np.float64) > limits).astype(int)

    def mean(metric: Any, columns: np.ndarray, values: np.ndarray, **options: Any) -> float:
        return float(np.mean([metric(targets[:, c], values[:, c], **options) for c in columns]))

    # a class without positives counts in no macro mean, but its false positives do in the micro ones
    cp, cr = (mean(own, positive, decided, zero_division=ZERO) for own in (precision_score, recall_score))
    micro: dict[str, Any] = {"average": "micro", "zero_division": ZERO}
    return {
        "map": mean(average_precision_score, positive, scores),
        "auc_macro": mean(roc_auc_score, both, scores),
        "auc_thresholded": mean(roc_auc_score, both, decided),
        "precision_micro": float(precision_score(targets, decided, **micro)),
        "recall_micro": float(recall_score(targets, decided, **micro)),
        "of1": float(f1_score(targets, decided, **micro)),
        "cf1": 2 * cp * cr / (cp + cr),
    }


def test_every_test_figure_is_scikit_learns(read: ReadRun):
    given = {"one": SCORES, "two": SCORES[::-1].copy()}
    two_runs = [read(name, own, TARGETS, CLASSES, thresholds=THRESHOLDS) for name, own in given.items()]
    comparison = compared(*two_runs)
    frame = by_run(comparison)
    limits = np.array([THRESHOLDS[name] for name in CLASSES])
    for run, scores in (("one", SCORES), ("two", SCORES[::-1])):
        for metric, value in expected(scores, TARGETS, 0.5).items():
            assert frame.loc[run, metric] == pytest.approx(value, abs=1e-12), metric
        for metric, value in expected(scores, TARGETS, limits).items():
            if metric not in ("map", "auc_macro"):  # without a threshold
                assert frame.loc[run, f"{metric}_calibrated"] == pytest.approx(value, abs=1e-12), metric
    # by hand: at 0.5 seven of ten predicted labels are right, of eleven true ones
    assert frame.loc["one", ["precision_micro", "recall_micro"]].tolist() == pytest.approx([7 / 10, 7 / 11])
    # the mean share of positives over the three classes that have any
    assert frame.loc["chance", "map"] == pytest.approx((3 / 6 + 1 + 2 / 6) / 3)
    # the original report stands beside the runs, and is never best
    table = result_table(comparison, REFERENCES["report"]["test"])
    row = table.frame.set_index("run").loc["NASNetLarge (original report)"]
    assert row[["precision_micro", "recall_micro"]].tolist() == [0.6631, 0.5196] and pd.isna(row["auc_macro"])
    faint = [line for place, line in enumerate(table.lines()) if place in table.faint]
    assert len(faint) == 5 and not any(cell.mark for line in faint for cell in line)


def test_pairs_hold_differences_of_the_table(read: ReadRun, made: Made):
    targets = made(0, 60, 3)[1]
    names = ("one", "two", "three")
    runs = [read(name, made(seed, 60, 3)[0], targets, "xyz") for seed, name in enumerate(names)]
    comparison = compared(*runs)
    values = by_run(comparison)["map"]
    rows = pair_table(comparison).frame.query("metric == 'mAP'")
    pairs = list(zip(rows["first"], rows["second"], strict=True))
    assert pairs == [("one", "two"), ("one", "three"), ("two", "three")]
    differences = [values[first] - values[second] for first, second in pairs]
    assert rows["difference"].tolist() == pytest.approx(differences)
    low, middle, high = rows[["difference_low", "difference", "difference_high"]].to_numpy(float).T
    assert ((low <= middle) & (middle <= high)).all()


def test_runs_with_other_test_images_are_not_compared(read: ReadRun, made: Made):
    scores, targets = made(0, 20, 3)
    one, two = (read(name, scores, targets, "xyz") for name in ("one", "two"))
    names = [f"other{row:02d}.jpg" for row in range(20)]
    other = read("other", scores, targets, "xyz", file_names=names)
    labels = read("labels", scores, targets[::-1].copy(), "xyz")
    comparison = compared(one, other, two, labels)
    assert comparison.groups == [["one", "two"], ["other"], ["labels"]]
    table = result_table(comparison)
    assert table.frame["test_set"].tolist() == ["set 1", "set 1", "set 2", "set 3", "set 1", "set 2", "set 3"]
    refused = pair_table(comparison).frame.query("verdict.str.startswith('not compared')")
    assert len(refused) == 5 and refused["difference"].isna().tolist() == [True] * 5
    reasons = refused.set_index(["first", "second"])["verdict"]
    assert "different test images" in str(reasons["one", "other"])
    assert "different labels of the same images" in str(reasons["two", "labels"])


def test_a_single_class_and_no_positive_at_all(read: ReadRun):
    single = read("single", SCORES[:, :1], TARGETS[:, :1], "a")
    nothing = read("nothing", SCORES[:, 2:3], TARGETS[:, 2:3], "c")
    frame = by_run(compared(single, nothing))
    for metric, value in expected(SCORES[:, :1], TARGETS[:, :1], 0.5).items():
        assert frame.loc["single", metric] == pytest.approx(value), metric
    assert frame.loc["nothing"].drop("test_set").isna().all()


def test_few_images_are_left_out_and_each_class_has_an_interval(read: ReadRun, made: Made):
    scores, targets = made(0, 60, 3)
    targets[9:, 2] = 0
    run, two = read("one", scores, targets, "xyz"), read("two", made(1, 60, 3)[0], targets, "xyz")
    comparison = compared(run, two)
    by_class = [average_precision_score(targets[:, column], scores[:, column]) for column in range(3)]
    frequent = comparison.interval("one", HALF, "map_frequent")
    assert frequent is not None and frequent.estimate == pytest.approx(np.mean(by_class[:2]))
    metrics = class_metrics([run, two]).query("threshold == '0.5'")
    table = class_table(comparison, metrics)
    assert table.faint == [2] and not any(cell.mark for cell in table.lines()[2])
    assert all(sum(cell.mark == "best" for cell in line) == 1 for line in table.lines()[:2])
    assert table.frame["one:ap"].tolist() == pytest.approx(by_class)
    assert bool((table.frame["one:ap_low"] < table.frame["one:ap"]).all())
    # few images in one test set are too few, even if another set has enough
    other = class_metrics([read("other", *made(2, 200, 3), "xyz")]).query("threshold == '0.5'")
    assert set(choose_classes([], pd.concat([metrics, other]))) == {"x", "y"}
    with pytest.raises(InputError, match="no run has w"):
        choose_classes(["w"], metrics)


def test_the_verdict_in_words(read: ReadRun, made: Made):
    scores, targets = made(0, 200, 4)
    noise = np.random.default_rng(1).normal(size=scores.shape) * 0.01
    given = {"good": scores, "near": np.clip(scores + noise, 0, 1), "bad": made(2, 200, 4)[0]}
    runs = [read(name, own.astype(np.float32), targets, "wxyz") for name, own in given.items()]
    for run, seed in zip(runs, (0, 1, 1), strict=True):
        run.settings = {
            "seed": seed,
            "data.seed": seed,
            "output": run.name,
            "head.dropout": 0.2 - 0.1 * (run is runs[2]),
        }
    comparison = compare_runs(runs, resamples=200)
    best, other = comparison.ranking(comparison.groups[0])[:2]
    verdict = judge(comparison, comparison.groups[0])
    share = comparison.wins(comparison.groups[0])
    assert verdict.best == best and {best, other} == {"good", "near"}
    assert sum(share.values()) == pytest.approx(1) and share["bad"] == 0
    assert verdict.headline.startswith(f"Highest mAP: {best}, ") and f"{share[best]:.0%}" in verdict.headline
    assert verdict.headline.endswith(f"A tie: its lead over {other} may be chance.")
    text, precision = (
        " ".join(verdict.sentences),
        comparison.bootstraps["calibrated"][best].estimates["precision_micro"],
    )
    assert f"Of 100 labels that {best} gives, {100 * precision:.0f} are right" in text
    assert f"would decide between {best} and {other}" in text
    assert set(comparison.best(HALF, "map").values()) == {False}
    far_apart = compare_runs([runs[0], runs[2]], resamples=200)
    marks = {line[0].text: line[1].mark for line in result_table(far_apart).lines()}
    assert marks == {"good": "ahead", "bad": "", "chance": ""}, "beyond chance"
    alone = judge(far_apart, ["good", "bad"])
    assert "A tie" not in alone.headline and "of bad on all metrics" in alone.sentences[0]
    differences = difference_table(runs).frame.to_numpy().tolist()
    assert differences == [["head.dropout", "0.2", "0.2", "0.1"], ["seed", "0", "1", "1"]]
    assert [note.split(" differ")[0] for note in seed_notes(comparison)] == ["good, near"]
    setup = setups(runs)
    assert (setup["good"], setup["bad"]) == (
        "good.in1k, dropout 0.2, seed 0",
        "bad.in1k, dropout 0.1, seed 1",
    )


def test_four_times_the_images_halve_an_interval():
    difference = Difference("a", "b", "map", 0.01, -0.01, 0.03, 0.3, 0.3)
    assert images_to_decide(difference, 100, num_pairs=1) == pytest.approx(400)
    assert images_to_decide(difference, 100, num_pairs=10) > 800


def test_an_estimate_answers_as_many_labels_as_the_level_allows(read: ReadRun, made: Made):
    scores, targets = made(0, 80, 4)
    scores = scores.round(2)  # ties
    run = read("run", scores, targets, "wxyz")
    assert run.test is not None
    limits = np.unique(np.append(scores, [0, 1])).astype(np.float64)
    hits = targets == 1
    for level, rule in zip((0.6, 0.9), estimate_answers(run.test, (0.6, 0.9)), strict=True):
        given = [scores.astype(np.float64) > limit for limit in limits]
        answers = [yes.sum() for yes in given if yes.any() and hits[yes].mean() >= level]
        assert (scores.astype(np.float64) > rule.yes).sum() == max(answers)
        absent = [(~yes).sum() for yes in given if yes[hits].mean() >= level]
        assert (scores.astype(np.float64) <= rule.no).sum() == min(max(absent), (scores <= rule.yes).sum())
    row = answer_table([run]).frame.iloc[0]
    assert row["precision"] >= LEVEL and row["missed"] <= 1 - LEVEL and "estimate" in row["origin"]


def test_guarantees_of_a_run_are_shown_unless_they_belong_to_another_checkpoint(read: ReadRun, made: Made):
    run = read("run", *made(0, 300, 2, 5.0), "xy")
    assert run.test is not None
    found = fit_guarantees(run.test, precision=0.8, recall=0.8)
    found["yes"]["thresholds"]["y"] = None  # always asked
    content = {"kind": "promise", "source": "calibration", "confidence": 0.9, "checkpoint": "0", **found}
    (run.path / "guarantees.json").write_text(json.dumps(content))
    run = read_run(run.path)
    assert run.answers is not None and run.answers.yes[1] == np.inf and not run.notes
    row = answer_table([run]).frame.iloc[0]
    assert row["origin"].startswith("promise from calibration") and 0 < row["photographs"] < row["labels"] < 1
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "best.ckpt").write_bytes(b"other")
    run = read_run(run.path)
    assert run.answers is None and "another checkpoint" in run.notes[-1]

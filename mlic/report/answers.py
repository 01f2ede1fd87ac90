"""Labels that a run answers by itself, with yes or no, and photographs that need no look (`mlic.predict ask=true`)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve

from mlic.evaluation.guarantees import decide
from mlic.evaluation.metrics import known_labels
from mlic.evaluation.predictions import Predictions
from mlic.report.comparison import predictions_of
from mlic.report.reading import Answers, ReportedRun
from mlic.report.tables import RUN, Column, Table

LEVEL = 0.95
LEVELS = np.arange(50, 100) / 100
ESTIMATE = "estimate from the test images"


def estimate_answers(test: Predictions, levels: Sequence[float] | np.ndarray) -> list[Answers]:
    """Choose thresholds for all classes together on the test images themselves, for each level.

    That of yes is the lowest with at least this precision, that of no the highest with at least this recall.
    """
    scores, targets = known_labels(test.scores.astype(np.float64), test.targets)
    precision, recall, limits = precision_recall_curve(targets, scores)
    limits = np.nextafter(limits, -1)  # scikit-learn predicts the score itself, too
    rules = []
    for level in levels:
        yes = limits[precision[:-1] >= level].min(initial=np.inf)
        no = min(limits[recall[:-1] >= level].max(initial=-1), yes)
        rules.append(Answers(np.array(yes), np.array(no), ESTIMATE))
    return rules


def share_answered(test: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the labels that are answered at each of LEVELS, estimated, and these levels."""
    scores = np.sort(test.scores.astype(np.float64), axis=None)
    rules = estimate_answers(test, LEVELS)
    asked = [np.subtract(*np.searchsorted(scores, (rule.yes, rule.no), "right")) for rule in rules]
    return 1 - np.array(asked) / scores.size, LEVELS


def answer_table(runs: Sequence[ReportedRun]) -> Table:
    """Build the table of the labels and photographs that need no look, with the guarantee of a run or an estimate."""
    columns = {
        "run": RUN,
        "photographs": Column("photographs that need no look", "share", "every label is answered"),
        "labels": Column("labels answered", "share", "with yes or no"),
        "precision": Column("right", "share", "of the labels answered with yes"),
        "missed": Column("missed", "share", "true labels answered with no"),
        "origin": Column("thresholds"),
    }
    rows = [{"run": run.name, **_shares(run)} for run in runs]
    note = (
        f"An estimate is too optimistic: on these test images themselves, {LEVEL:.0%} of the labels answered with "
        f"yes are right, and {1 - LEVEL:.0%} of the true labels are answered with no. "
        f"mlic.evaluate precision={LEVEL} recall={LEVEL} can make a promise."
    )
    title = f"Photographs that need no look at {LEVEL:.0%}"
    return Table("answers", title, columns, pd.DataFrame(rows), [note])


def _shares(run: ReportedRun) -> dict[str, Any]:
    test = predictions_of(run)
    hits = test.positives
    if not hits.any():
        return {}
    rule = run.answers or estimate_answers(test, [LEVEL])[0]
    answers = decide(test.scores.astype(np.float64), rule.yes, rule.no)
    yes = (answers == "yes") & test.known
    return {
        "photographs": float((answers != "ask").all(axis=1).mean()),
        "labels": float((answers != "ask").mean()),
        "precision": float(hits[yes].mean()) if yes.any() else None,
        "missed": float((answers[hits] == "no").mean()),
        "origin": rule.origin,
    }

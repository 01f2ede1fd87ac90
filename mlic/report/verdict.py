"""The first screen of a report: which run is best, how sure that is, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mlic.evaluation.bootstrap import FREQUENT, FREQUENT_MAP, MEAN_OF_FOLDS, Interval
from mlic.evaluation.errors import confusions
from mlic.report.comparison import CALIBRATED, HALF, Comparison, images_to_decide, predictions_of
from mlic.report.differences import seed_notes
from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun
from mlic.report.run_tables import undefined_classes
from mlic.report.score_tables import HEADERS, SECOND_TRAINING, interval_cells
from mlic.report.tables import Column, Table

COMPARED = ("map", "auc_macro", "precision_micro", "recall_micro", "cf1", "of1")
PATTERNS_SHOWN = 3  # of metrics on which the best run is ahead of others
TIES_SHOWN = 3
NAMES_SHOWN = 6
WEAKEST = 5
CONFUSED = 2
MANY_IMAGES = 100_000


@dataclass
class Verdict:
    """The result on one set of test images.

    Attributes:
        best: name of the run with the highest mAP; "" without one.
        headline: the main sentence.
        sentences: further sentences.
    """

    best: str
    headline: str
    sentences: list[str] = field(default_factory=list)


def judge(comparison: Comparison, group: Sequence[str]) -> Verdict:
    """Compare the runs of one set of test images in plain words."""
    ranked = [
        name for name in comparison.ranking(group) if comparison.interval(name, HALF, "map") is not None
    ]
    if not ranked:
        return Verdict("", f"{_join(group)}: no mAP, because no class has test images.")
    best, others = ranked[0], ranked[1:]
    figure = _figure(comparison.interval(best, HALF, "map"))
    if (mean := comparison.interval(best, HALF, MEAN_OF_FOLDS)) is not None:
        figure += f" over all images pooled, {_figure(mean)} as mean of the folds"
    labels = " ".join([_labels(comparison, best), _frequent(comparison, best)])
    if not others:
        return Verdict(best, f"{best}: mAP {figure}.", [labels])
    share = comparison.wins(group)[best]
    tied = [name for name in others if not comparison.is_ahead(best, name, HALF, "map")]
    first = f"Best by mAP: {best}, {figure}"
    if tied:
        first = f"{best} and {_join(tied)} tie by mAP: {best} has {figure}"
    headline = f"{first}; it is best in {share:.0%} of the resamples."
    pairs = len(ranked) * len(others) // 2
    sentences = [_ahead(comparison, best, others), _ties(comparison, best, tied, pairs), labels]
    return Verdict(best, headline, [sentence for sentence in sentences if sentence])


def _ahead(comparison: Comparison, best: str, others: Sequence[str]) -> str:
    """Tell on which metrics the best run is ahead of the others, with runs of the same metrics together."""
    patterns: dict[tuple[str, ...], list[str]] = {}
    for name in others:
        found = (metric for metric in COMPARED if comparison.is_ahead(best, name, HALF, metric))
        patterns.setdefault(tuple(found), []).append(name)
    parts = []
    for metrics, names in list(patterns.items())[:PATTERNS_SHOWN]:
        rest = [HEADERS[metric] for metric in COMPARED if metric not in metrics]
        on = "all metrics" if not rest else _join([HEADERS[metric] for metric in metrics]) or "nothing"
        parts.append(f"of {_join(names)} on {on}" + (f", not on {_join(rest)}" if rest and metrics else ""))
    behind = [
        f"{name} is ahead of it on {_join([HEADERS[metric] for metric in found])}"
        for name in others
        if (found := [metric for metric in COMPARED if comparison.is_ahead(name, best, HALF, metric)])
    ]
    sentences = [f"Beyond chance, {best} is ahead {'; '.join(parts)}."]
    return " ".join([*sentences, *(f"{text}." for text in behind[:PATTERNS_SHOWN])])


def _ties(comparison: Comparison, best: str, tied: Sequence[str], num_pairs: int) -> str:
    """Estimate how many test images would decide the ties."""
    now = len(predictions_of(comparison.runs[best]))
    found = []
    for name in tied[:TIES_SHOWN]:
        difference = comparison.difference(best, name, HALF, "map")
        assert difference is not None
        wanted = images_to_decide(difference, now, num_pairs, comparison.level)
        digits = 1 - len(f"{min(wanted, MANY_IMAGES):.0f}")  # two significant digits
        number = (
            f"more than {MANY_IMAGES:,}"
            if wanted > MANY_IMAGES
            else f"about {round(wanted, digits + 1):,.0f}"
        )
        found.append(
            f"{number} test images would decide between {best} and {name} ({abs(difference.estimate):.3f})"
        )
    return f"If the differences stay as they are, {'; '.join(found)}; now there are {now:,}." if found else ""


def _labels(comparison: Comparison, name: str) -> str:
    """Translate micro precision and recall at the thresholds of `mlic.predict`."""
    threshold = CALIBRATED if name in comparison.bootstraps[CALIBRATED] else HALF
    precision, recall = (
        comparison.interval(name, threshold, metric) for metric in ("precision_micro", "recall_micro")
    )
    if precision is None or recall is None:
        return ""
    rule = (
        "the thresholds of each class, which mlic.predict uses"
        if threshold == CALIBRATED
        else "threshold 0.5"
    )
    return (
        f"Of 100 labels that {name} gives, {100 * precision.estimate:.0f} are right; of 100 true labels it finds "
        f"{100 * recall.estimate:.0f} (at {rule})."
    )


def _frequent(comparison: Comparison, name: str) -> str:
    interval = comparison.interval(name, HALF, FREQUENT_MAP)
    figure = _figure(interval) if interval is not None else "undefined"
    return f"Over the classes with at least {FREQUENT} test images its mAP is {figure}."


def notes_of(
    comparison: Comparison,
    drawn: Sequence[ReportedRun],
    others: Sequence[ReportedRun],
    missing: Sequence[MissingRun],
) -> list[str]:
    """Return the sentences about data and uncertainty below the verdicts."""
    sentences = [_data(comparison, group) for group in comparison.groups]
    if len(comparison.groups) > 1:
        sentences.append(
            f"The runs were tested on {len(comparison.groups)} different sets of images, labels or folds. Runs on "
            "different sets are not compared."
        )
    if comparison.runs:
        sentences += [SECOND_TRAINING, *seed_notes(comparison)]
    if others or missing:
        counts = [
            f"{len(group)} {word}" for group, word in ((others, "unfinished"), (missing, "missing")) if group
        ]
        sentences.append(f"Not in the tables: {' and '.join(counts)}, listed with their errors at the end.")
    drawn_runs = {run.name for run in drawn}
    if not drawn_runs >= {*comparison.runs}:
        sentences.append(f"Figures and photographs show the {len(drawn_runs)} best runs.")
    return sentences


def _data(comparison: Comparison, group: Sequence[str]) -> str:
    run = comparison.runs[group[0]]
    test = predictions_of(run)
    without = undefined_classes(run)
    few = int((test.positives.sum(axis=0) < FREQUENT).sum()) - len(without)
    words = [
        f"{len(test):,} test images"
        + (f", each tested in one of {run.num_folds} folds" if run.num_folds else "")
    ]
    words.append(
        f"{len(run.classes)} classes" + (f" ({few} with fewer than {FREQUENT} test images)" if few else "")
    )
    if without:
        words.append(f"excluded from means, because they have no test images: {_join(without)}")
    return ", ".join(words) + (f" ({_join(group)})." if len(comparison.groups) > 1 else ".")


def weakest_classes(comparison: Comparison, name: str) -> Table:
    """Build the table of the classes with the lowest average precision that have enough test images.

    What they are confused with is counted at the thresholds of `mlic.predict`.
    """
    run = comparison.runs[name]
    test, bootstrap = predictions_of(run), comparison.bootstraps[HALF][name]
    threshold: Any = 0.5 if run.thresholds is None else run.thresholds
    columns = {
        "class": Column("class"),
        "test_images": Column("test images", "integer"),
        "ap": Column("average precision", "score"),
        "confused_with": Column(
            "predicted in its place", meaning="number of images on which the class is missed"
        ),
    }
    confused = confusions(test, threshold, top=CONFUSED)
    counts = test.positives.sum(axis=0)
    rows: list[Mapping[str, Any]] = []
    for column in (counts >= FREQUENT).nonzero()[0].tolist():
        own = confused[confused["class"] == run.classes[column]]
        words = [
            f"{other} ({images})" for other, images in zip(own["confused_with"], own["images"], strict=True)
        ]
        cells = interval_cells("ap", bootstrap.class_interval(column))
        rows.append(
            {
                "class": run.classes[column],
                "test_images": int(counts[column]),
                **cells,
                "confused_with": ", ".join(words) or "nothing",
            }
        )
    rows.sort(key=lambda row: row.get("ap", 1.0))
    return Table("weakest", f"Where {name} fails: its weakest classes", columns, pd.DataFrame(rows[:WEAKEST]))


def _figure(value: Interval | None) -> str:
    return "" if value is None else f"{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f})"


def _join(names: Sequence[str]) -> str:
    """Join names to "a, b and c"; many are cut."""
    shown = list(names[:NAMES_SHOWN])
    if len(names) > NAMES_SHOWN:
        shown.append(f"{len(names) - NAMES_SHOWN} more")
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)

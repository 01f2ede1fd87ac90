"""The first screen of a report in words: which run is best, how sure that is, and on what it was measured."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from mlic.evaluation.bootstrap import FREQUENT, FREQUENT_MAP, MEAN_OF_FOLDS
from mlic.report.comparison import CALIBRATED, HALF, Comparison, images_to_decide, predictions_of
from mlic.report.run_tables import relevant_settings, undefined_classes
from mlic.report.score_tables import SECOND_TRAINING
from mlic.report.tables import SCORES

COMPARED = ("map", "auc_macro", "precision_micro", "recall_micro", "cf1", "of1")
OTHERS_SHOWN = 3  # in a sentence about other runs
NAMES_SHOWN = 6
MANY_IMAGES = 100_000


class Verdict(NamedTuple):
    """The result on one set of test images: the run with the highest mAP ("" without one), and sentences."""

    best: str
    headline: str
    sentences: Sequence[str] = ()


def judge(comparison: Comparison, group: Sequence[str]) -> Verdict:
    """Compare the runs of one set of test images in plain words."""
    ranked = list(comparison.intervals(group))
    if not ranked:
        return Verdict("", f"{_join(group)}: no mAP, because no class has test images.")
    best, *others = ranked
    figure = _figure(comparison, best, "map")
    if mean := _figure(comparison, best, MEAN_OF_FOLDS):
        figure += f" over all images pooled, {mean} as mean of the folds"
    labels = _labels(comparison, best)
    if not others:
        return Verdict(best, f"{best}: mAP {figure}.", [labels])
    tied = [name for name in others if not comparison.is_ahead(best, name, HALF, "map")]
    headline = (
        f"Highest mAP: {best}, {figure}; the highest in {comparison.wins(group)[best]:.0%} of the resamples."
    )
    if tied:
        headline += f" A tie: its lead over {_join(tied)} may be chance."
    sentences = [_ahead(comparison, best, others), _ties(comparison, best, tied, len(ranked)), labels]
    return Verdict(best, headline, [sentence for sentence in sentences if sentence])


def _ahead(comparison: Comparison, best: str, others: Sequence[str]) -> str:
    """Tell on which metrics the best run is ahead of the others, with runs of the same metrics together."""
    patterns: dict[tuple[str, str], list[str]] = {}
    for name in others:
        lists = {True: [], False: []}
        for metric in COMPARED:
            lists[comparison.is_ahead(best, name, HALF, metric)].append(SCORES[metric].header)
        on = _join(lists[True]) if lists[False] else "all metrics"
        patterns.setdefault((on or "nothing", _join(lists[False])), []).append(name)
    parts = [
        f"of {_join(names)} on {on}" + (f", not on {rest}" if rest and on != "nothing" else "")
        for (on, rest), names in list(patterns.items())[:OTHERS_SHOWN]
    ]
    behind = [
        f" {name} is ahead of it on {_join(found)}."
        for name in others
        if (found := [SCORES[m].header for m in COMPARED if comparison.is_ahead(name, best, HALF, m)])
    ]
    return f"Beyond chance, {best} is ahead {'; '.join(parts)}.{''.join(behind[:OTHERS_SHOWN])}"


def _ties(comparison: Comparison, best: str, tied: Sequence[str], num_runs: int) -> str:
    """Estimate how many test images would decide the ties."""
    now, pairs, found = len(predictions_of(comparison.runs[best])), num_runs * (num_runs - 1) // 2, []
    for name in tied[:OTHERS_SHOWN]:
        difference = comparison.difference(best, name, HALF, "map")
        assert difference is not None
        wanted = images_to_decide(difference, now, pairs, comparison.level)
        number = (
            f"more than {MANY_IMAGES:,}" if wanted > MANY_IMAGES else f"about {float(f'{wanted:.2g}'):,.0f}"
        )
        found.append(
            f"{number} test images would decide between {best} and {name}, {abs(difference.estimate):.3f} mAP apart"
        )
    return f"If the differences stay as they are, {'; '.join(found)}; now there are {now:,}." if found else ""


def _labels(comparison: Comparison, name: str) -> str:
    """Translate micro precision and recall at the thresholds of `mlic.predict`."""
    has_own = name in comparison.bootstraps[CALIBRATED]
    rule = "the thresholds of each class, which mlic.predict uses" if has_own else "threshold 0.5"
    values = comparison.bootstraps[CALIBRATED if has_own else HALF][name].estimates
    return (
        f"Of 100 labels that {name} gives, {100 * values['precision_micro']:.0f} are right; of 100 true labels it "
        f"finds {100 * values['recall_micro']:.0f} (at {rule}). Over the classes with at least {FREQUENT} test images "
        f"its mAP is {_figure(comparison, name, FREQUENT_MAP) or 'undefined'}."
    )


def notes_of(comparison: Comparison, drawn: Sequence[str], absent: int) -> list[str]:
    """Return the sentences about data and uncertainty below the verdicts.

    Args:
        comparison: comparison of all runs.
        drawn: names of the runs in the figures.
        absent: number of runs that are unfinished or missing.
    """
    sentences = [_data(comparison, group) for group in comparison.groups]
    if len(comparison.groups) > 1:
        sentences.append("Runs that were tested on different images, labels or folds are not compared.")
    if comparison.runs:
        sentences += [SECOND_TRAINING, *seed_notes(comparison)]
    if absent:
        sentences.append(f"{absent} unfinished or missing runs are listed with their errors at the end.")
    if not {*comparison.runs} <= {*drawn}:
        sentences.append(f"Figures and photographs show the {len(drawn)} best runs.")
    return sentences


def _data(comparison: Comparison, group: Sequence[str]) -> str:
    run = comparison.runs[group[0]]
    test, without = predictions_of(run), undefined_classes(run)
    few = int((test.positives.sum(axis=0) < FREQUENT).sum())
    folds = f", each tested in one of {run.num_folds} folds" if run.num_folds else ""
    words = f"{_join(group)}: {len(test):,} test images{folds}, {len(run.classes)} classes"
    words += f", {few} of them with fewer than {FREQUENT} test images" if few else ""
    return words + (f"; without any, and left out of means: {_join(without)}." if without else ".")


def seed_notes(comparison: Comparison) -> list[str]:
    """Describe the spread of the mAP of runs on the same test images that differ in their seed alone."""
    notes = []
    for group in comparison.groups:
        sets: dict[str, dict[str, float]] = {}
        for name in group:
            settings = relevant_settings(comparison.runs[name])
            same = {key: value for key, value in settings.items() if key.rpartition(".")[2] != "seed"}
            value = comparison.bootstraps[HALF][name].estimates["map"]
            sets.setdefault(str(sorted(same.items())) if same else name, {})[name] = value
        for own in sets.values():
            values = pd.Series(own).dropna()
            if len(values) > 1:
                notes.append(
                    f"{', '.join(own)} differ in the seed alone: their mAP is {values.min():.3f} to "
                    f"{values.max():.3f}, mean {values.mean():.3f}, standard deviation {values.std():.3f}."
                )
    return notes


def _figure(comparison: Comparison, name: str, metric: str) -> str:
    value = comparison.interval(name, HALF, metric)
    return "" if value is None else f"{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f})"


def _join(names: Sequence[str]) -> str:
    """Join names to "a, b and c"; many are cut."""
    shown = list(names[:NAMES_SHOWN])
    if len(names) > NAMES_SHOWN:
        shown.append(f"{len(names) - NAMES_SHOWN} more")
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)

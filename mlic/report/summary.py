"""Title and summary of a report."""

from collections.abc import Sequence

from mlic.evaluation.bootstrap import MEAN_OF_FOLDS, Interval
from mlic.report.comparison import HALF, Comparison, is_beyond_chance
from mlic.report.discovery import MissingRun
from mlic.report.reading import ReportedRun
from mlic.report.run_tables import undefined_classes
from mlic.report.tables import MINUS


def summarise(
    finished: Sequence[ReportedRun],
    drawn: Sequence[ReportedRun],
    others: Sequence[ReportedRun],
    missing: Sequence[MissingRun],
    comparison: Comparison,
) -> tuple[str, list[str]]:
    """Return the title and the sentences at the top of a report."""
    title = f"Comparison of {len(finished)} runs" if len(finished) != 1 else f"Run {finished[0].name}"
    sentences = [_best(comparison, group) for group in comparison.groups]
    sentences += [_data(comparison, group) for group in comparison.groups]
    if len(comparison.groups) > 1:
        sentences.append(
            f"The runs were tested on {len(comparison.groups)} different sets of images, labels or folds. Runs on "
            "different sets are not compared."
        )
    if not finished:
        sentences.append("No run has finished.")
    if others or missing:
        counts = [
            f"{len(group)} {word}" for group, word in ((others, "unfinished"), (missing, "missing")) if group
        ]
        sentences.append(f"Not in the tables: {' and '.join(counts)}, listed with their errors.")
    if len(drawn) < len(finished):
        sentences.append(f"Figures and photographs show the {len(drawn)} runs with the highest mAP on val.")
    return title, sentences


def _best(comparison: Comparison, group: Sequence[str]) -> str:
    known = [
        (value.estimate, value, name) for name in group if (value := comparison.interval(name, HALF, "map"))
    ]
    known.sort(key=lambda item: -item[0])
    if not known:
        return f"{', '.join(group)}: no mAP, because no class has test images."
    _, best, name = known[0]
    figure = _figure(best)
    if (mean := comparison.interval(name, HALF, MEAN_OF_FOLDS)) is not None:
        figure += f" over all images pooled, {_figure(mean)} as mean of the folds"
    if len(known) == 1:
        return f"{name}: test mAP {figure}."
    other = known[1][2]
    row = comparison.difference(name, other, HALF, "map")
    assert row is not None
    sign = 1 if row.first == name else -1
    low, high = sorted((sign * row.low, sign * row.high))
    verdict = "significant" if is_beyond_chance(row, comparison.level) else "not significant"
    return (
        f"{name} has the highest test mAP of {len(known)} runs: {figure}. "
        f"It is ahead of {other} by {sign * row.estimate:.3f} ({_signed(low)} to {_signed(high)}), {verdict}."
    )


def _data(comparison: Comparison, group: Sequence[str]) -> str:
    run = comparison.runs[group[0]]
    images = 0 if run.test is None else len(run.test)
    without = undefined_classes(run)
    named = (
        f"; excluded from means, because they have no test images: {', '.join(without)}" if without else ""
    )
    runs = f" ({', '.join(group)})" if len(comparison.groups) > 1 else ""
    folds = f", each tested in one of {run.num_folds} folds" if run.num_folds else ""
    return f"{images:,} test images{folds}, {len(run.classes)} classes{named}{runs}."


def _figure(value: Interval) -> str:
    return f"{value.estimate:.3f} ({value.low:.3f} to {value.high:.3f})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)

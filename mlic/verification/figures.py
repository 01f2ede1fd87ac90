"""Figures of a data set: label frequencies, and sample images with their labels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mlic.data.table import LabelTable
from mlic.figures import FAINT, GREY, INK, PRIMARY, new_figure, plain_log_axis, shorten
from mlic.svg import mark
from mlic.verification.sheets import Captioned

NAMED_AT_MOST = 100  # classes; the names of more are not readable
ROW_HEIGHT, MOST_HEIGHT, WIDTH = 0.175, 18.0, 5.0  # inches
SAMPLES = 12


def label_distribution(before: Mapping[str, int], after: Mapping[str, int]) -> Figure:
    """Draw the number of images per class, most frequent first, after (coloured) and before (grey) curation.

    Args:
        before: images of each class.
        after: images of each class after curation; dropped classes are absent or 0.

    Returns:
        A figure with a logarithmic axis and the number of images at each bar; dropped classes are below, and only grey.
        If curation changes nothing, there is one kind of bars and no legend.
    """
    kept = {name: after.get(name, 0) for name in before}
    names = sorted(before, key=lambda name: (-kept[name], -before[name], name))
    height = min(MOST_HEIGHT, 1.1 + ROW_HEIGHT * len(names))
    figure = new_figure(width=WIDTH, height=height)
    axes = figure.add_subplot()
    places, changed = np.arange(len(names)), any(kept[name] != before[name] for name in names)
    drawn = {"before curation": (before, GREY)} if changed else {}
    drawn["after curation"] = (kept, PRIMARY)
    handles = []
    for label, (counts, colour) in drawn.items():
        bars = axes.barh(places, [counts[name] for name in names], height=0.8, color=colour)
        handles.append(bars)
        for bar, name in zip(bars, names, strict=True):
            mark(bar, f"{name}: {counts[name]:,} images {label if changed else ''}".strip(), note=True)
    # the axis begins below the smallest count, so that its bar is visible
    least = min((count for count in (*before.values(), *kept.values()) if count > 0), default=1)
    most = max(max(before.values(), default=1), 1)
    axes.set_xlim(max(0.5, 0.7 * least), 4 * max(most, least + 1))
    plain_log_axis(axes)
    axes.set_xlabel("images")
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.grid(visible=False, axis="y")
    if len(names) <= NAMED_AT_MOST:
        axes.set_yticks(places, [shorten(name) for name in names], fontsize=8)
        for place, name in zip(places, names, strict=True):
            words = f"{before[name]:,}"
            if kept[name] != before[name]:
                words = f"{kept[name]:,} of {words}" if kept[name] else f"{words}, dropped"
            position = (max(before[name], 0.5), place)
            axes.annotate(
                words, position, xytext=(3, 0),
                textcoords="offset points", va="center", fontsize=7, color=INK if kept[name] else FAINT,
            )  # fmt: skip
    else:
        axes.set_yticks([])
        axes.set_ylabel("classes, by frequency")
    axes.set_title(f"{sum(count > 0 for count in kept.values())} of {len(names)} classes kept")
    if changed:
        figure.legend(handles, list(drawn), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def sample_images(table: LabelTable, *, count: int = SAMPLES, seed: int = 0) -> list[Captioned]:
    """Return randomly selected images of a table with their labels as captions.

    Args:
        table: N images.
        count: maximum number of images.
        seed: seed of the selection.
    """
    rows = sorted(np.random.default_rng(seed).permutation(len(table))[:count].tolist())
    paths = table.paths()
    names = [[table.classes[column] for column in np.flatnonzero(table.positives[row])] for row in rows]
    captions = [", ".join(labels) or "no label" for labels in names]
    return [(paths[row], caption) for row, caption in zip(rows, captions, strict=True)]

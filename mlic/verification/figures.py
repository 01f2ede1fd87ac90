"""Figures of a data set: label frequencies, and sample images with their labels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mlic.data.images import FULL_BITS, ImageReference, open_image
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.figures import FAINT, GREY, INK, PRIMARY, new_figure, plain_log_axis, shorten
from mlic.verification.findings import SEPARATOR, class_names

MOST_CLASSES = 100
ROW_HEIGHT, WIDTH = 0.175, 5.0  # inches
SAMPLES = 12
PIXELS = 320


def label_distribution(before: Mapping[str, int], after: Mapping[str, int]) -> Figure:
    """Draw the number of images of the most frequent classes after (coloured) and before (grey) curation.

    Args:
        before: images of each class.
        after: images of each class after curation; dropped classes are absent or 0.

    Returns:
        A figure with a logarithmic axis and the number of images at each bar; dropped classes are below, and only grey.
        If curation changes nothing, there is one kind of bars and no legend.
    """
    kept = {name: after.get(name, 0) for name in before}
    names = sorted(before, key=lambda name: (-kept[name], -before[name], name))[:MOST_CLASSES]
    figure = new_figure(width=WIDTH, height=1.1 + ROW_HEIGHT * len(names))
    axes, places = figure.add_subplot(), range(len(names))
    drawn = {"after curation": (kept, PRIMARY)}
    if kept != dict(before):
        drawn = {"before curation": (before, GREY), **drawn}
    handles = []
    for counts, colour in drawn.values():
        handles.append(axes.barh(places, [counts[name] for name in names], height=0.8, color=colour))
    # the axis begins below the smallest count, so that its bar is visible
    positive = [count for count in (*before.values(), *kept.values()) if count] or [1]
    axes.set_xlim(max(0.5, 0.7 * min(positive)), 4 * max(*positive, min(positive) + 1))
    plain_log_axis(axes)
    axes.set_xlabel("images")
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(places, [shorten(name) for name in names], fontsize=8)
    for place, name in enumerate(names):
        number = f"{before[name]:,}"
        if kept[name] != before[name]:
            number = f"{kept[name]:,} of {number}" if kept[name] else f"{number}, dropped"
        colour, position = INK if kept[name] else FAINT, (max(before[name], 0.5), place)
        axes.annotate(
            number, position, (3, 0), textcoords="offset points", va="center", fontsize=7, color=colour
        )
    axes.set_title(f"{np.count_nonzero([*kept.values()])} of {len(before)} classes kept")
    if len(drawn) > 1:
        figure.legend(handles, list(drawn), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def sample_images(
    table: LabelTable, *, count: int = SAMPLES, seed: int = 0
) -> list[tuple[ImageReference, str]]:
    """Return randomly selected images of a table with their labels as captions.

    Args:
        table: N images.
        count: maximum number of images.
        seed: seed of the selection.
    """
    rows = sorted(np.random.default_rng(seed).permutation(len(table))[:count].tolist())
    captions = [class_names(table, table.positives[row]).replace(SEPARATOR, ", ") for row in rows]
    paths = table.paths()
    return [(paths[row], caption or "no label") for row, caption in zip(rows, captions, strict=True)]


def open_small(
    reference: ImageReference, bits_stored: int = FULL_BITS, pixels: int = PIXELS
) -> Image.Image | None:
    """Return an image with a longer side of at most `pixels`, or None if it cannot be opened."""
    try:
        image = open_image(reference, draft_size=pixels, bits_stored=bits_stored)
    except InputError:
        return None
    image.thumbnail((pixels, pixels))
    return image

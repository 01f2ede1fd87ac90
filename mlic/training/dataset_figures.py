"""Figures of a data set: label frequencies, and sample images with their labels."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mlic.data.images import FULL_BITS, ImageReference, open_image
from mlic.figures import GREY, PRIMARY, new_figure

CLASS_NAMES_AT_MOST = 100  # more do not fit below the axis
THUMBNAIL_PIXELS = 224


def label_distribution(dataset: Mapping[str, Any]) -> Figure:
    """Draw the number of images per class, most frequent first, before (grey) and after (coloured) curation.

    Args:
        dataset: content of dataset.json.

    Returns:
        A figure with a logarithmic axis; dropped classes are on the right and only grey.
    """
    before = dataset["counts"]["before_curation"]
    after = {name: sum(dataset["counts"][part].get(name, 0) for part in dataset["images"]) for name in before}
    names = sorted(before, key=lambda name: (-after[name], -before[name], name))
    figure = new_figure(width=max(6.0, min(16.0, 0.2 * len(names) + 2)), height=4.2)
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.bar(places, [before[name] for name in names], width=0.85, color=GREY, label="before curation")
    axes.bar(places, [after[name] for name in names], width=0.85, color=PRIMARY, label="after curation")
    axes.grid(visible=False, axis="x")
    axes.set_yscale("log")
    axes.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=FuncFormatter(lambda count, _: f"{count:,.0f}" if count >= 1 else ""),
        minor_locator=NullLocator(),
    )
    # begin at a power of ten below the smallest count, so that its bar is visible and the axis has labels
    least = min((count for count in (*before.values(), *after.values()) if count > 0), default=1)
    axes.set_ylim(bottom=max(0.5, 10 ** np.floor(np.log10(0.8 * least))))
    axes.set_ylabel("images")
    axes.set_xlim(-0.8, len(names) - 0.2)
    if len(names) <= CLASS_NAMES_AT_MOST:
        axes.set_xticks(places, names, rotation=90, fontsize=8)
    else:
        axes.set_xlabel("classes, by frequency")
    kept = sum(count > 0 for count in after.values())
    axes.set_title(f"{sum(dataset['images'].values()):,} images, {kept} of {len(names)} classes kept")
    axes.legend(frameon=False)
    return figure


def sample_grid(
    paths: Sequence[ImageReference],
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    count: int = 12,
    seed: int = 0,
    bits_stored: int = FULL_BITS,
) -> Figure:
    """Draw a grid of randomly selected images with their labels as titles.

    Args:
        paths: N images.
        labels: labels (N, C) of 0 and 1.
        classes: C names.
        count: maximum number of images.
        seed: seed of the selection.
        bits_stored: see `mlic.data.open_image`.

    Returns:
        A figure with up to 4 images per row.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(paths))[:count])
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(width=2.6 * columns, height=2.9 * lines)
    for place, row in enumerate(rows.tolist(), start=1):
        axes = figure.add_subplot(lines, columns, place)
        image = open_image(paths[row], draft_size=THUMBNAIL_PIXELS, bits_stored=bits_stored)
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        axes.imshow(np.asarray(image))
        axes.axis("off")
        names = ", ".join(classes[int(column)] for column in np.flatnonzero(labels[row])) or "no label kept"
        axes.set_title(
            fill(names, 32, max_lines=3, placeholder=" …"), fontsize=8, fontweight="normal", parse_math=False
        )
    return figure

"""Figures of a data set: label frequencies, and sample images with their labels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mlic.data.images import FULL_BITS
from mlic.data.table import LabelTable
from mlic.figures import GREY, PNG_DPI, PRIMARY, new_figure, report_style
from mlic.verification.sheets import image_sheet

CLASS_NAMES_AT_MOST = 100  # more do not fit below the axis


def write_figures(
    folder: Path,
    images: LabelTable,
    before: Mapping[str, int],
    after: Mapping[str, int],
    *,
    seed: int,
    bits_stored: int,
) -> None:
    """Write labels.png and samples.png to a folder, which is created.

    Args:
        folder: folder of the files.
        images: images to sample from; without any, there is no samples.png.
        before: images of each class; without classes, there is no labels.png.
        after: images of each class after curation.
        seed: seed of the samples.
        bits_stored: see `mlic.data.open_image`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with report_style():
        if before:
            label_distribution(before, after).savefig(folder / "labels.png", dpi=PNG_DPI)
        if len(images):
            sample_grid(images, seed=seed, bits_stored=bits_stored).savefig(
                folder / "samples.png", dpi=PNG_DPI
            )


def label_distribution(before: Mapping[str, int], after: Mapping[str, int]) -> Figure:
    """Draw the number of images per class, most frequent first, before (grey) and after (coloured) curation.

    Args:
        before: images of each class.
        after: images of each class after curation; dropped classes are absent or 0.

    Returns:
        A figure with a logarithmic axis; dropped classes are on the right and only grey.
    """
    kept = {name: count for name, count in after.items() if count}
    names = sorted(before, key=lambda name: (-kept.get(name, 0), -before[name], name))
    figure = new_figure(width=max(6.0, min(16.0, 0.2 * len(names) + 2)), height=4.2)
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.bar(places, [before[name] for name in names], width=0.85, color=GREY, label="before curation")
    counts = [kept.get(name, 0) for name in names]
    axes.bar(places, counts, width=0.85, color=PRIMARY, label="after curation")
    axes.grid(visible=False, axis="x")
    axes.set_yscale("log")
    axes.yaxis.set(
        major_locator=LogLocator(subs=(1, 2, 5)),
        major_formatter=FuncFormatter(lambda count, _: f"{count:,.0f}" if count >= 1 else ""),
        minor_locator=NullLocator(),
    )
    # begin at a power of ten below the smallest count, so that its bar is visible and the axis has labels
    least = min((count for count in (*before.values(), *kept.values()) if count > 0), default=1)
    axes.set_ylim(bottom=max(0.5, 10 ** np.floor(np.log10(0.8 * least))))
    axes.set_ylabel("images")
    axes.set_xlim(-0.8, len(names) - 0.2)
    if len(names) <= CLASS_NAMES_AT_MOST:
        axes.set_xticks(places, names, rotation=90, fontsize=8)
    else:
        axes.set_xlabel("classes, by frequency")
    axes.set_title(f"{len(kept)} of {len(names)} classes kept")
    axes.legend(frameon=False)
    return figure


def sample_grid(table: LabelTable, *, count: int = 12, seed: int = 0, bits_stored: int = FULL_BITS) -> Figure:
    """Draw randomly selected images of a table with their labels.

    Args:
        table: N images.
        count: maximum number of images.
        seed: seed of the selection.
        bits_stored: see `mlic.data.open_image`.
    """
    rows = sorted(np.random.default_rng(seed).permutation(len(table))[:count].tolist())
    paths = table.paths()
    names = [[table.classes[column] for column in np.flatnonzero(table.positives[row])] for row in rows]
    captions = [", ".join(labels) or "no label" for labels in names]
    images = [(paths[row], caption) for row, caption in zip(rows, captions, strict=True)]
    return image_sheet(images, bits_stored=bits_stored)

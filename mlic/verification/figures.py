"""Figures of a data set: label frequencies, and sample images with their labels."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from mlic.data.images import FULL_BITS, BadImageError, ImageReference, open_image
from mlic.data.table import LabelTable
from mlic.figures import GREY, PNG_DPI, PRIMARY, new_figure, report_style

CLASS_NAMES_AT_MOST = 100  # more do not fit below the axis
SAMPLES_IN_A_ROW = 4
THUMBNAIL_PIXELS = 224


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
            grid = sample_grid(
                images.paths(), images.labels, images.classes, seed=seed, bits_stored=bits_stored
            )
            grid.savefig(folder / "samples.png", dpi=PNG_DPI)


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
        paths: N images; those that cannot be opened are skipped.
        labels: labels (N, C); a class is shown if its label is 1.
        classes: C names.
        count: maximum number of images.
        seed: seed of the selection.
        bits_stored: see `mlic.data.open_image`.

    Returns:
        A figure with up to 4 images per row.
    """
    order = np.random.default_rng(seed).permutation(len(paths)).tolist()
    samples = sorted(islice(_thumbnails(paths, order, bits_stored), count), key=lambda sample: sample[0])
    lines = max(1, -(-len(samples) // SAMPLES_IN_A_ROW))
    columns = max(1, min(SAMPLES_IN_A_ROW, len(samples)))
    figure = new_figure(width=2.6 * columns, height=2.9 * lines)
    for place, (row, image) in enumerate(samples, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.imshow(np.asarray(image))
        axes.axis("off")
        names = ", ".join(classes[column] for column in np.flatnonzero(labels[row] == 1).tolist())
        axes.set_title(
            fill(names or "no label", 32, max_lines=3, placeholder=" …"),
            fontsize=8,
            fontweight="normal",
            parse_math=False,
        )
    return figure


def _thumbnails(
    paths: Sequence[ImageReference], order: Sequence[int], bits_stored: int
) -> Iterator[tuple[int, Image.Image]]:
    for row in order:
        try:
            image = open_image(paths[row], draft_size=THUMBNAIL_PIXELS, bits_stored=bits_stored)
        except BadImageError:  # check=quick does not find all of them
            continue
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        yield row, image

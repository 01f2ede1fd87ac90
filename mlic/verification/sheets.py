"""Contact sheets: pictures of the images that a person should look at."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from mlic.data.images import FULL_BITS, ImageReference, open_image
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.figures import PNG_DPI, new_figure, report_style
from mlic.runs.folder import replacing

PIXELS = 320
CAPTION_WIDTH, CAPTION_LINES = 38, 6
PAIRS_ON_SHEET = 12
CELL_WIDTH, CELL_HEIGHT = 2.6, 3.4  # inches


def image_sheet(
    images: Sequence[tuple[ImageReference, str]],
    *,
    title: str = "",
    columns: int = 4,
    bits_stored: int = FULL_BITS,
) -> Figure:
    """Draw small copies of images with a caption below each.

    Args:
        images: image references and captions, row by row; an image that cannot be opened leaves a gap.
        title: heading of the sheet.
        columns: images in a row.
        bits_stored: see `mlic.data.open_image`.
    """
    columns = max(1, min(columns, len(images)))
    lines = max(1, -(-len(images) // columns))
    figure = new_figure(width=CELL_WIDTH * columns, height=CELL_HEIGHT * lines)
    figure.suptitle(title, fontweight="bold")
    for place, (reference, caption) in enumerate(images, start=1):
        axes = figure.add_subplot(lines, columns, place)
        axes.set_axis_off()
        try:
            image = open_image(reference, draft_size=PIXELS, bits_stored=bits_stored)
        except InputError:
            image = Image.new("RGB", (1, 1), "white")
        # a square canvas keeps the cells equally high, so that captions do not overlap
        axes.imshow(ImageOps.pad(image, (PIXELS, PIXELS), color="white", centering=(0, 1)))
        shown = "\n".join(fill(line, CAPTION_WIDTH) for line in caption.splitlines()).splitlines()
        axes.text(
            *(0, -0.03, "\n".join(shown[:CAPTION_LINES])),
            fontsize=7,
            va="top",
            transform=axes.transAxes,
            parse_math=False,
        )
    return figure


def write_sheet(path: Path, images: Sequence[tuple[ImageReference, str]], **options: Any) -> None:
    """Write the figure of `image_sheet` as a PNG file."""
    with report_style(), replacing(path, durable=False) as file:
        image_sheet(images, **options).savefig(file, format="png", dpi=PNG_DPI)


def write_pair_sheet(
    path: Path,
    table: LabelTable,
    pairs: Iterable[tuple[str, str, str]],
    *,
    title: str,
    bits_stored: int,
    with_labels: bool = False,
) -> None:
    """Write a sheet of the first pairs of images side by side, with their names.

    Args:
        path: PNG file.
        table: images and their labels.
        pairs: two file names, and what is said about them.
        title: heading of the sheet.
        bits_stored: see `mlic.data.open_image`.
        with_labels: also write the labels. After curation the table lacks those of dropped classes.
    """
    paths, images = table.paths(), []
    for number, (*names, relation) in enumerate(islice(pairs, PAIRS_ON_SHEET), start=1):
        for row in np.searchsorted(table.file_names, np.array(names, dtype=object)).tolist():
            caption = f"{number}. {relation}\n{table.file_names[row]}"
            if with_labels:
                labels = ", ".join(table.classes[column] for column in np.flatnonzero(table.labels[row] == 1))
                caption += f"\nlabels: {labels or 'none'}"
            images.append((paths[row], caption))
    write_sheet(path, images, title=title, bits_stored=bits_stored)

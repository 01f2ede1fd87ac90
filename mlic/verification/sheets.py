"""Contact sheets: pictures of the images that a person should look at."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from mlic.data.images import FULL_BITS, ImageReference, open_image
from mlic.data.table import LabelTable
from mlic.errors import InputError
from mlic.figures import PNG_DPI, image_sheet, report_style
from mlic.runs.folder import replacing

PIXELS = 320
PAIRS_ON_SHEET = 12

Captioned = tuple[ImageReference, str]  # image and caption


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


def write_sheet(
    path: Path, images: Sequence[Captioned], *, title: str = "", bits_stored: int = FULL_BITS
) -> None:
    """Write small copies of images with their captions as a PNG file; see `image_sheet`."""
    small = [(open_small(reference, bits_stored), caption) for reference, caption in images]
    with report_style(), replacing(path, durable=False) as file:
        image_sheet(small, title=title).savefig(file, format="png", dpi=PNG_DPI)


def caption_pairs(
    table: LabelTable, pairs: Iterable[tuple[str, str, str]], *, with_labels: bool = False
) -> Iterator[Captioned]:
    """Yield both images of the first pairs with their captions.

    Args:
        table: images and their labels.
        pairs: two file names, and what is said about them.
        with_labels: also write the labels. After curation the table lacks those of dropped classes.
    """
    paths = table.paths()
    for number, (*names, relation) in enumerate(islice(pairs, PAIRS_ON_SHEET), start=1):
        for row in np.searchsorted(table.file_names, np.array(names, dtype=object)).tolist():
            caption = f"{number}. {relation}\n{table.file_names[row]}"
            if with_labels:
                labels = ", ".join(table.classes[column] for column in np.flatnonzero(table.labels[row] == 1))
                caption += f"\nlabels: {labels or 'none'}"
            yield paths[row], caption

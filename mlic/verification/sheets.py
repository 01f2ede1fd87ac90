"""Contact sheets: pictures of the images that a person should look at."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from PIL import ImageOps

from mlic.data.images import FULL_BITS, ImageReference, open_image
from mlic.errors import InputError
from mlic.figures import PNG_DPI, new_figure, report_style
from mlic.runs.folder import replacing

PIXELS = 320
CAPTION_WIDTH, CAPTION_LINES = 38, 6
CELL_WIDTH, CELL_HEIGHT = 2.6, 3.5  # inches


def write_sheet(
    path: Path,
    title: str,
    images: Sequence[tuple[ImageReference, str]],
    *,
    columns: int = 4,
    bits_stored: int = FULL_BITS,
) -> None:
    """Write a PNG with small copies of images and a caption below each.

    Args:
        path: file to write.
        title: heading of the sheet.
        images: image references and captions, row by row; an image that cannot be opened leaves a gap.
        columns: images in a row.
        bits_stored: see `mlic.data.open_image`.
    """
    lines = max(1, -(-len(images) // columns))
    with report_style():
        figure = new_figure(width=CELL_WIDTH * columns, height=CELL_HEIGHT * lines + 0.5)
        figure.suptitle(title, fontweight="bold")
        for place, (reference, caption) in enumerate(images, start=1):
            axes = figure.add_subplot(lines, columns, place)
            axes.set_axis_off()
            try:
                image = open_image(reference, draft_size=PIXELS, bits_stored=bits_stored)
            except InputError:
                axes.text(0.5, 0.5, "cannot be opened", ha="center", transform=axes.transAxes)
            else:
                # a square canvas keeps the cells equally high, so that captions do not overlap
                axes.imshow(ImageOps.pad(image, (PIXELS, PIXELS), color="white", centering=(0, 1)))
            wrapped = [fill(line, CAPTION_WIDTH) for line in caption.splitlines()]
            shown = "\n".join(wrapped).splitlines()[:CAPTION_LINES]
            axes.text(0, -0.03, "\n".join(shown), fontsize=7, va="top", transform=axes.transAxes)
        with replacing(path, durable=False) as file:
            figure.savefig(file, format="png", dpi=PNG_DPI)

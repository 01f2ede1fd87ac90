"""Colours, styles, files and contact sheets of figures."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image, ImageOps

from mlic.escaping import printable
from mlic.runs.folder import replacing
from mlic.svg import prepare, to_element

PRIMARY, SECONDARY, GREY = "#2a6fbb", "#d1603d", "#c9ccd1"
INK, FAINT, LINE = "#1d2530", "#8a93a0", "#e6e8ec"
# the colours that follow the theme of the page: text, axes, grid, and the last colour of a run
PAGE_COLOURS = {INK: "currentColor", FAINT: "var(--faint)", LINE: "var(--line)", "#000000": "currentColor"}

# The colours of Okabe and Ito, distinguishable with any colour blindness, without yellow (too pale on white).
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

PANEL_WIDTH, PANEL_HEIGHT = 4.0, 3.3  # inches; readable on the screen of a phone

CELL_WIDTH, CELL_GAP, TITLE_HEIGHT = 2.4, 0.15, 0.5  # inches, of sheets of images
CAPTION_WIDTH, CAPTION_LINES, CAPTION_LINE = 42, 8, 0.125  # characters, lines, inches a line

PNG_DPI = 150
CSS_PIXELS_PER_INCH = 96

SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # `$` in a class name is not a formula
    "svg.fonttype": "none",  # text that can be selected, and that takes the colour of the page
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class RunStyle:
    """Colour and marker of a run in all figures."""

    colour: str
    marker: str


def run_style(place: int) -> RunStyle:
    """Return the style of the run at a position; colours repeat after seven runs with another marker."""
    turn, colour = divmod(place, len(RUN_COLOURS))
    return RunStyle(RUN_COLOURS[colour], RUN_MARKERS[(colour + turn) % len(RUN_MARKERS)])


@contextmanager
def report_style() -> Iterator[None]:
    """Context manager that sets the common style of figures."""
    with matplotlib.rc_context(SETTINGS):
        yield


def new_figure(*, width: float, height: float) -> Figure:
    """Create an empty figure (size in inches) without a window system and without the global state of pyplot."""
    return Figure(figsize=(width, height), layout="constrained")


def shorten(name: str, length: int = 24) -> str:
    """Shorten a name so that it fits beside an axis, and escape its control characters."""
    name = printable(name).replace("\n", " ").replace("\t", " ")
    return name if len(name) <= length else name[: length - 1] + "…"


def plain_log_axis(axes: Axes) -> None:
    """Make the x axis logarithmic, with plain numbers (those of matplotlib need mathtext, which is off).

    Values between the powers of ten are also labelled if the axis spans less than two of them.
    """
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    narrow = high / low < 100
    axes.xaxis.set_minor_formatter(
        (lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "") if narrow else NullFormatter()
    )
    axes.tick_params(axis="x", which="both", length=3, pad=3)  # labels of both kinds on one line


def image_sheet(
    images: Sequence[tuple[Image.Image | None, str]], *, title: str = "", columns: int = 4
) -> Figure:
    """Draw small copies of images with a caption below each, on an even grid.

    Args:
        images: images and captions, row by row; None leaves a gap.
        title: heading of the sheet.
        columns: images in a row.
    """
    columns = max(1, min(columns, len(images)))
    captions = [_wrap(caption) for _, caption in images]
    text_height = CAPTION_LINE * max((caption.count("\n") + 1 for caption in captions), default=1)
    cell_height = CELL_WIDTH + text_height + 0.2
    lines = -(-len(images) // columns)
    top = TITLE_HEIGHT if title else CELL_GAP
    width, height = (CELL_WIDTH + CELL_GAP) * columns + CELL_GAP, cell_height * max(1, lines) + top
    # a fixed grid: a layout by the contents would give images with long captions less room
    figure = Figure(figsize=(width, height))
    figure.text(CELL_GAP / width, 1 - 0.25 / height, printable(title), weight="bold", va="center")
    for place, ((image, _), caption) in enumerate(zip(images, captions, strict=True)):
        line, column = divmod(place, columns)
        left = CELL_GAP + (CELL_WIDTH + CELL_GAP) * column
        bottom = height - top - cell_height * line - CELL_WIDTH
        axes = figure.add_axes((left / width, bottom / height, CELL_WIDTH / width, CELL_WIDTH / height))
        axes.set_axis_off()
        shown = Image.new("RGB", (1, 1), "white") if image is None else image
        square = max(shown.size)
        # at the bottom of a square, above the caption
        axes.imshow(ImageOps.pad(shown, (square, square), color="white", centering=(0.5, 1)))
        axes.text(0, -0.03, caption, fontsize=7, va="top", transform=axes.transAxes, parse_math=False)
    return figure


def _wrap(caption: str) -> str:
    lines = "\n".join(fill(line, CAPTION_WIDTH) for line in printable(caption).splitlines()).splitlines()
    return "\n".join(lines[:CAPTION_LINES])


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure of the page: an `<svg>` element, and its size in CSS pixels."""

    svg: str
    width: int
    height: int

    @property
    def rows(self) -> int:
        """Height in rows of ordinary panels."""
        return max(1, round(self.height / CSS_PIXELS_PER_INCH / PANEL_HEIGHT))


def save_figure(folder: Path, key: str, figure: Figure) -> EmbeddedFigure:
    """Write `<key>.png` and `<key>.svg`, and return the figure for a page, where its title is read to the blind."""
    # the first drawing fixes the layout; repeating it would cost as much as the drawing
    raster, vectors = io.BytesIO(), io.BytesIO()
    figure.savefig(raster, format="png", dpi=PNG_DPI)
    figure.set_layout_engine("none")
    caption = "; ".join(axes.get_title(loc="left") or axes.get_xlabel() for axes in figure.axes)
    attributes = prepare(figure)
    with matplotlib.rc_context({"svg.hashsalt": key}):  # ids that are deterministic, and unique in the page
        figure.savefig(vectors, format="svg", metadata={"Date": None})
    for ending, content in (("png", raster), ("svg", vectors)):
        with replacing(folder / f"{key}.{ending}", durable=False) as file:
            file.write(content.getvalue())
    width, height = (round(size * CSS_PIXELS_PER_INCH) for size in figure.get_size_inches())
    return EmbeddedFigure(
        to_element(vectors.getvalue(), caption, attributes, PAGE_COLOURS),
        width,
        height,
    )

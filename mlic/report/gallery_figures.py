"""Galleries as figures for TensorBoard."""

import io
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mlic.figures import GREY, new_figure
from mlic.report.galleries import Gallery, Label, Photograph
from mlic.report.run_figures import shorten
from mlic.report.thumbnails import Thumbnails

GREEN, RED = "#1a7f37", "#b42318"
COLUMNS = 4


def gallery_figure(gallery: Gallery, thumbnails: Thumbnails) -> Figure:
    """Draw the photographs with their labels: right ones in green, wrong and missed in red, unknown in grey."""
    lines = max(1, -(-len(gallery.photographs) // COLUMNS))
    figure = new_figure(width=2.5 * COLUMNS, height=3.2 * lines + 0.4)
    figure.suptitle(gallery.title, fontweight="bold")
    for place, photograph in enumerate(gallery.photographs, start=1):
        axes = figure.add_subplot(lines, COLUMNS, place)
        axes.set_axis_off()
        axes.set_title(shorten(photograph.file_name), fontsize=7, fontweight="normal")
        jpeg = thumbnails.jpeg(photograph.file_name)
        if jpeg is not None:
            axes.imshow(np.asarray(Image.open(io.BytesIO(jpeg))))
        height = -0.04
        for colour, words in label_lines(photograph):
            axes.text(0, height, words, color=colour, fontsize=7, va="top", transform=axes.transAxes)
            height -= 0.07 * (words.count("\n") + 1)
    return figure


def label_lines(photograph: Photograph) -> list[tuple[str, str]]:
    """Return (colour, text) lines of the right, wrong, missed and unknown labels."""
    groups = (
        (GREEN, "found", [label for label in photograph.predicted if label.good]),
        (RED, "wrong", [label for label in photograph.predicted if not label.good]),
        (RED, "missed", [label for label in photograph.true if not label.good]),
        (GREY, "unknown", photograph.unknown),
    )
    return [(colour, _line(title, labels)) for colour, title, labels in groups if labels]


def _line(title: str, labels: list[Label]) -> str:
    names = ", ".join(f"{label.name} {label.score:.2f}" for label in labels)
    return fill(f"{title}: {names}", 38, max_lines=3, placeholder=" …")

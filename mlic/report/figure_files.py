"""Figures as files, PNG and SVG, and as addresses inside the page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mlic.report.style import PANEL_HEIGHT
from mlic.runs.folder import replacing

PNG_DPI = 150
CSS_PIXELS_PER_INCH = 96
PNG_EFFORT = (
    3  # of 9; photographs get 4 % larger than at Pillow's 6, and are written in less than half the time
)


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure in the page: its SVG as `data:` address, its size in CSS pixels, and what it shows."""

    key: str
    caption: str
    address: str
    width: int
    height: int

    @property
    def rows(self) -> int:
        """Rows of ordinary panels that are as high."""
        return max(1, round(self.height / CSS_PIXELS_PER_INCH / PANEL_HEIGHT))


class FigureFiles:
    """Writes figures to one folder and remembers them."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keys: list[str] = []

    def save(self, key: str, caption: str, figure: Figure | None) -> list[EmbeddedFigure]:
        """Write `<key>.png` and `<key>.svg`; [] for no figure, so that lists can be added."""
        if figure is None:
            return []
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        # the layout is settled by the first drawing; doing it again would cost as much as the drawing
        figure.set_layout_engine("none")
        raster = io.BytesIO()
        figure.savefig(raster, format="png", dpi=PNG_DPI)
        svg = stream.getvalue()
        for ending, content in (("png", raster.getvalue()), ("svg", svg)):
            with replacing(self.folder / f"{key}.{ending}", durable=False) as file:
                file.write(content)
        self.keys.append(key)
        width, height = (round(size * CSS_PIXELS_PER_INCH) for size in figure.get_size_inches())
        address = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        return [EmbeddedFigure(key, caption, address, width, height)]


@dataclass(frozen=True)
class Picture:
    """A drawn figure as the content of a PNG file, and its size in pixels."""

    png: bytes
    width: int
    height: int

    def write(self, path: Path) -> None:
        """Write a file that is there whole or not at all."""
        with replacing(path, durable=False) as file:
            file.write(self.png)


def draw(figure: Figure, *, dpi: int = PNG_DPI) -> Picture:
    """Draw and encode once for all places that it goes to: a figure takes longer than some epochs of a head."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(stream, "PNG", compress_level=PNG_EFFORT)
    width, height = canvas.get_width_height()
    return Picture(stream.getvalue(), width, height)

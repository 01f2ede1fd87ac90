"""Figures of matplotlib as SVG elements of a page, with the data that its script shows under the pointer."""

import json
import re
from collections.abc import Iterable
from itertools import count
from typing import Any
from xml.etree import ElementTree

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from mlic.escaping import printable

POINTS_PER_INCH = 72
SERIES, NOTE, AXES, BACKGROUND = "series-", "note-", "axes-", "background"
DRAWN_TAGS = {"path", "use", "text", "image", "rect", "g", "svg", "defs", "clipPath"}
_DIGITS = re.compile(r"(\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w-]+)")
_numbers = count()


def mark(artist: Artist, name: str, *, points: Iterable[str] = (), note: bool = False) -> None:
    """Name an artist for the page.

    Args:
        artist: line, markers or bar.
        name: name of the series, which is shown with the coordinates of a point.
        points: names of the points, if they have any.
        note: show `name` alone, without coordinates.
    """
    artist.set_gid(f"{NOTE if note else SERIES}{next(_numbers)}")
    artist.set_label(json.dumps([name, *points]))


def prepare(figure: Figure) -> dict[str, dict[str, str]]:
    """Give ids to the parts of a figure that the page uses; call it before `savefig` and after the layout is fixed.

    Returns:
        Attributes of the elements by id, all JSON: `data-series` or `data-note`, a list of the name and the names of
        the points; and `data-axes`, see `_describe`.
    """
    attributes = {}
    for number, axes in enumerate(figure.axes):
        axes.set_gid(f"{AXES}{number}")
        attributes[f"{AXES}{number}"] = {"data-axes": json.dumps(_describe(axes, figure))}
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_gid(BACKGROUND)
    for artist in figure.findobj():
        identity = artist.get_gid() or ""
        for prefix, key in ((SERIES, "data-series"), (NOTE, "data-note")):
            if identity.startswith(prefix):
                attributes[identity] = {
                    key: str(artist.get_label())
                }  # JSON, which escapes what XML does not allow
    return attributes


def _describe(axes: Axes, figure: Figure) -> dict[str, Any]:
    """Return the box (left, top, width, height in points), `x` and `y` (see `_scale`), and the cells of an image."""
    width, height = (inches * POINTS_PER_INCH for inches in figure.get_size_inches())
    place = axes.get_position()
    box = (place.x0 * width, (1 - place.y1) * height, place.width * width, place.height * height)
    described = {"box": [round(value, 2) for value in box], "x": _scale(axes.xaxis), "y": _scale(axes.yaxis)}
    if axes.images:
        cells = np.ma.filled(np.ma.asarray(axes.images[0].get_array(), dtype=float), np.nan)
        described["cells"] = [[None if np.isnan(v) else round(v, 1) for v in row] for row in cells.tolist()]
    return described


def _scale(axis: Axis) -> dict[str, Any]:
    """Return label, limits, whether the scale is logarithmic, and the names at 0, 1, 2, ... of a categorical axis."""
    low, high = map(float, axis.get_view_interval())
    named = isinstance(axis.get_major_locator(), FixedLocator)  # by set_ticks(range(n), names)
    names = [label.get_text() for label in axis.get_majorticklabels()] if named else None
    if axis.get_inverted():
        low, high = high, low
    return {
        "label": axis.get_label_text(), "low": low, "high": high, "log": axis.get_scale() == "log", "names": names
    }  # fmt: skip


def to_element(
    svg: bytes, caption: str, attributes: dict[str, dict[str, str]], colours: dict[str, str]
) -> str:
    """Return the `<svg>` element of a page for a file written by matplotlib.

    Only drawn elements are kept, without ids that nothing refers to. All text is escaped by the XML writer, and links
    lead to elements of the figure or to embedded images.

    Args:
        svg: the file.
        caption: description for screen readers.
        attributes: result of `prepare`.
        colours: CSS colours that replace colours of the file, so that the figure follows the theme of the page.
    """
    root = ElementTree.fromstring(svg)
    referenced = {
        name for each in root.iter() for value in each.attrib.values() for name in _REFERENCE.findall(value)
    }
    for parent in list(root.iter()):
        parent.tag = parent.tag.rpartition("}")[2]
        for child in list(parent):
            if child.tag.rpartition("}")[2] not in DRAWN_TAGS or child.get("id") == BACKGROUND:
                parent.remove(child)
        parent.attrib = _clean(parent.attrib, attributes, referenced, colours)
        parent.tail = None
    root.attrib = {
        "class": "plot", "role": "img", "tabindex": "0", "aria-label": printable(caption),
        "viewBox": root.attrib["viewBox"],
    }  # fmt: skip
    return ElementTree.tostring(root, encoding="unicode")


def _clean(
    given: dict[str, str],
    attributes: dict[str, dict[str, str]],
    referenced: set[str],
    colours: dict[str, str],
) -> dict[str, str]:
    kept = dict(attributes.get(given.get("id", ""), {}))
    for key, value in given.items():
        name = key.rpartition("}")[2]
        if name == "id" and value not in referenced:
            continue
        if name == "href" and not value.startswith(("#", "data:image/png")):
            continue
        if name == "style":
            for colour, replacement in colours.items():
                value = value.replace(colour, replacement)
        elif not value.startswith("data:"):
            value = _DIGITS.sub(r"\1", value)
        kept[name] = value
    return kept

"""Colours and figure defaults shared by all figures."""

from matplotlib.figure import Figure

PRIMARY, SECONDARY, GREY = "#2a6fbb", "#d1603d", "#c9ccd1"


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure (inches) that is drawn without a window system and without pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")

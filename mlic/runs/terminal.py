"""The width of the terminal."""

import os
import sys


def has_room_for_bar() -> bool:
    """True on a terminal with a width; one of 0 columns, as some containers have it, would show no bar at all."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 1

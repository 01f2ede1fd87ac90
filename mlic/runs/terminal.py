"""The width of the terminal."""

import os
import sys


def has_room_for_bar() -> bool:
    """Return True on a terminal with a width; some containers have 0 columns, where a bar would be invisible."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 1

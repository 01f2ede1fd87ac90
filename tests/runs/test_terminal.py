import fcntl
import os
import struct
import sys
import termios

import pytest

from mlic.runs.terminal import has_room_for_bar


@pytest.mark.parametrize("columns", [0, 80])
def test_a_terminal_of_no_width_has_no_room_for_a_bar(columns: int, monkeypatch: pytest.MonkeyPatch):
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(controller, "rb"), os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert has_room_for_bar() == (columns > 0)

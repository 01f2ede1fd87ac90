"""Clocks: wall seconds, core-seconds, and repetitions that take turns."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median


class Clock:
    """Seconds between entering and leaving `measured()`.

    Attributes:
        wall: of wall clock.
        core: that the threads of this process ran, together.
        children: that processes ran which it started, and which ended within the block.
    """

    wall: float = 0.0
    core: float = 0.0
    children: float = 0.0


@contextmanager
def measured() -> Iterator[Clock]:
    """Take the time of a `with` block; the clock shows it afterwards."""
    clock = Clock()
    wall, core, children = time.perf_counter(), time.process_time(), _children()
    try:
        yield clock
    finally:
        clock.wall, clock.core = time.perf_counter() - wall, time.process_time() - core
        clock.children = _children() - children


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def take_turns(actions: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[Clock]]:
    """Run all actions in turn, again and again: a disturbance then falls on all of them.

    Args:
        actions: by name.
        repetitions: of each, after one that is not counted.

    Returns:
        The clocks of each action.
    """
    clocks: dict[str, list[Clock]] = {name: [] for name in actions}
    for repetition in range(repetitions + 1):
        for name, action in actions.items():
            with measured() as clock:
                action()
            if repetition:
                clocks[name].append(clock)
    return clocks


def median_wall(clocks: list[Clock]) -> float:
    """Wall seconds."""
    return median(clock.wall for clock in clocks)


def median_core(clocks: list[Clock]) -> float:
    """Core-seconds."""
    return median(clock.core for clock in clocks)

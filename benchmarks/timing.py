"""Clocks: wall-clock seconds, core-seconds, and interleaved repetitions."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median


class Clock:
    """Seconds between entering and leaving `measured()`.

    Attributes:
        wall: wall-clock seconds.
        core: CPU seconds of all threads of this process.
        children: CPU seconds of child processes that ended within the block.
    """

    wall: float = 0.0
    core: float = 0.0
    children: float = 0.0


@contextmanager
def measured() -> Iterator[Clock]:
    """Measure a `with` block; the clock is set at its end."""
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
    """Run all actions in turn several times, so that disturbances affect all of them.

    Args:
        actions: actions by name.
        repetitions: number of repetitions of each, after one that is not counted.

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
    """Return the median of the wall-clock seconds."""
    return median(clock.wall for clock in clocks)


def median_core(clocks: list[Clock]) -> float:
    """Core-seconds."""
    return median(clock.core for clock in clocks)

"""How many cases each fuzzing test tries: 30 among the other tests, MLIC_FUZZ_CASES with `make fuzz`."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

CASES = int(os.environ.get("MLIC_FUZZ_CASES", "30"))
TRIED: Counter[str] = Counter()

settings.register_profile(
    "fuzz",
    max_examples=CASES,
    deadline=None,
    derandomize="MLIC_FUZZ_CASES"
    not in os.environ,  # the same cases each time in CI, new ones with `make fuzz`
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
    database=None,
)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Counts a case."""

    def count() -> None:
        TRIED[request.node.name] += 1

    return count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many cases were tried."""
    if TRIED:
        terminalreporter.write_line(f"{sum(TRIED.values())} cases fuzzed by {len(TRIED)} tests")

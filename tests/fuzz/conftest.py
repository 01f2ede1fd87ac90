"""How many cases each fuzzing test tries: 30 among the other tests, MLIC_FUZZ_CASES with `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("MLIC_FUZZ_CASES", "30")),
    deadline=None,
    derandomize="MLIC_FUZZ_CASES" not in os.environ,  # the same cases in CI, new ones with `make fuzz`
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
    database=None,
)

"""Which seeds there are: NumPy's, torch's and Python's generators all take them."""

from typing import Any

from mlic.errors import InputError

LARGEST_SEED = 2**32 - 1


def check_seed(key: str, seed: Any) -> int:
    """The seed itself; InputError, which names the config key, for anything but a whole number of 32 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"{key}={seed}: expected a whole number from 0 to {LARGEST_SEED}.")
    return seed

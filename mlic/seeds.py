"""Seeds that the generators of NumPy, torch and Python all accept."""

from typing import Any

from mlic.errors import InputError

LARGEST_SEED = 2**32 - 1


def check_seed(key: str, seed: Any) -> int:
    """Return the seed if it is a whole number of 32 bits, else raise an InputError that names the key."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"{key}={seed}: expected a whole number from 0 to {LARGEST_SEED}.")
    return seed

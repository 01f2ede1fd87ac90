"""Iterative stratification of groups of images, such as copies of one image."""

import numpy as np

from mlic.errors import InputError


def find_copies(digests: np.ndarray) -> np.ndarray:
    """Rows whose bytes an earlier row has.

    Args:
        digests: (N,) of their bytes; empty ones are left out.

    Returns:
        (K, 2) int64: each such row, and the first row of these bytes.
    """
    rows = np.flatnonzero(digests != np.zeros(1, digests.dtype))
    _, first, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
    pairs = np.stack([rows, rows[first][inverse]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def stratify_groups(strata: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Give each group to the part that lacks most of the group's rarest stratum.

    This is the method of Sechidis et al. (On the Stratification of Multi-Label Data, 2011), as the package
    iterative-stratification implements it for single images, over the sums of the strata of each group. Large groups
    come first: what they leave uneven, small ones make up for.

    Args:
        strata: (N, S) of 0 and 1 or bool; each row has at least one.
        groups: (N,) int64 number of the group of each row.
        shares: (P,) of the parts; their sum is 1.
        seed: of the order of groups of one size, and of ties.

    Returns:
        (N,) int64: the part of each row.

    Raises:
        InputError: a part is left empty, such as with fewer groups than parts.
    """
    _, number_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number_of)
    sums = np.stack([np.bincount(number_of, weights=column) for column in strata.T], axis=1)
    random = np.random.RandomState(seed)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    left = sums.sum(axis=0)
    wanted, wanted_rows = np.outer(shares, left), shares * len(strata)
    part_of = np.full(len(sizes), -1)
    while left.any():
        stratum = np.where(left > 0, left, np.inf).argmin()
        chosen = order[(part_of[order] < 0) & (sums[order, stratum] > 0)]
        for group in chosen:
            best = np.flatnonzero(wanted[:, stratum] == wanted[:, stratum].max())
            best = best[wanted_rows[best] == wanted_rows[best].max()]
            part = best[0] if len(best) == 1 else random.choice(best)
            part_of[group] = part
            wanted[part] -= sums[group]
            wanted_rows[part] -= sizes[group]
        left -= sums[chosen].sum(axis=0)
    if len(np.unique(part_of)) < len(shares):
        raise InputError(
            f"this split leaves a part empty: copies of an image stay in one part, and only {len(sizes)} of the "
            f"{len(groups)} images differ. Use more images, larger data.split.test and val, or fewer data.split.folds."
        )
    return part_of[number_of]

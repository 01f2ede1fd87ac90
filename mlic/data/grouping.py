"""Iterative stratification of groups of images, such as copies of an image."""

import numpy as np

from mlic.errors import InputError


def find_copies(digests: np.ndarray) -> np.ndarray:
    """Find rows with the same bytes as an earlier row.

    Args:
        digests: digests (N,) of the bytes; empty ones are ignored.

    Returns:
        int64 (K, 2): each copy and the first row with the same bytes.
    """
    rows = np.flatnonzero(digests != np.zeros(1, digests.dtype))
    _, first, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
    pairs = np.stack([rows, rows[first][inverse]], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def stratify_groups(strata: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Assign each group to the part with the greatest need for the rarest stratum of the group.

    This is the method of Sechidis et al. (On the Stratification of Multi-Label Data, 2011), as implemented for single
    images by the package iterative-stratification, applied to the sums of the strata of each group. Large groups are
    assigned first, so that small groups can even out the shares.

    Args:
        strata: (N, S) of 0 and 1 or bool; each row has at least one.
        groups: int64 (N,), the group number of each row.
        shares: share of each part (P,); they sum to 1.
        seed: seed of the order of groups of equal size and of ties.

    Returns:
        int64 (N,), the part of each row.

    Raises:
        InputError: a part is empty, for example because there are fewer groups than parts.
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
            f"this split has an empty part: copies of an image stay in one part, and only {len(sizes)} of the "
            f"{len(groups)} images differ. Use more images, larger data.split.test and val, or fewer data.split.folds."
        )
    return part_of[number_of]

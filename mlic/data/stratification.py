"""Iterative stratification of groups of images.

The method of Sechidis, Tsoumakas and Vlahavas (On the Stratification of Multi-Label Data, ECML PKDD 2011), as the
package iterative-stratification (https://github.com/trent-b/iterative-stratification) implements it for single images,
applied to the sums of the labels of each group.
"""

import numpy as np

MOST_MOVES = 2000


def stratify_groups(
    strata: np.ndarray,
    groups: np.ndarray,
    wanted: np.ndarray,
    wanted_rows: np.ndarray,
    seed: int,
    *,
    refine: bool = False,
) -> np.ndarray:
    """Assign each group to the part with the greatest need for the rarest stratum of the group.

    Large groups are assigned first, so that small groups can even out the shares.

    Args:
        strata: (N, S) of 0 and 1 or bool; each row has at least one.
        groups: int64 (N,), the group number of each row.
        wanted: rows of each stratum that each part needs (P, S).
        wanted_rows: rows that each part needs (P,).
        seed: seed of the order of groups of equal size and of ties.
        refine: afterwards move single groups as long as that brings the shares closer to the wanted ones.

    Returns:
        int64 (N,), the part of each row.
    """
    _, number_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number_of)
    sums = np.stack([np.bincount(number_of, weights=column) for column in strata.T], axis=1)
    random = np.random.RandomState(seed)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    left = sums.sum(axis=0)
    need, need_rows = wanted.astype(float), wanted_rows.astype(float)
    part_of = np.full(len(sizes), -1)
    while left.any():
        stratum = np.where(left > 0, left, np.inf).argmin()
        chosen = order[(part_of[order] < 0) & (sums[order, stratum] > 0)]
        for group in chosen:
            best = np.flatnonzero(need[:, stratum] == need[:, stratum].max())
            best = best[need_rows[best] == need_rows[best].max()]
            part = best[0] if len(best) == 1 else random.choice(best)
            part_of[group] = part
            need[part] -= sums[group]
            need_rows[part] -= sizes[group]
        left -= sums[chosen].sum(axis=0)
    if refine:
        _refine(part_of, np.column_stack([sums, sizes]), np.column_stack([wanted, wanted_rows]))
    return part_of[number_of]


def _refine(part_of: np.ndarray, sums: np.ndarray, wanted: np.ndarray) -> None:
    """Move groups between parts, each time the one that helps most, until no move helps.

    What is made small is the sum over parts and strata of the squared error of the share of the stratum.

    Args:
        part_of: int64 (G,), the part of each group; changed in place.
        sums: rows of each stratum in each group (G, S).
        wanted: rows of each stratum that each part needs (P, S).
    """
    scaled = sums / np.maximum(sums.sum(axis=0), 1)
    error = np.stack([scaled[part_of == part].sum(axis=0) for part in range(len(wanted))])
    error -= wanted / np.maximum(sums.sum(axis=0), 1)
    own, every = (scaled**2).sum(axis=1), np.arange(len(sums))
    products = scaled @ error.T  # (G, P)
    for _ in range(MOST_MOVES):
        # the change of the sum of squares if a group moves to a part
        change = 2 * (products - products[every, part_of][:, None] + own[:, None])
        change[every, part_of] = 0
        group, part = np.unravel_index(change.argmin(), change.shape)
        if change[group, part] > -1e-12:
            return
        moved = scaled @ scaled[group]
        products[:, part_of[group]] -= moved
        products[:, part] += moved
        part_of[group] = part

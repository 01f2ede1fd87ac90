"""Iterative stratification of groups of images.

The method of Sechidis, Tsoumakas and Vlahavas (On the Stratification of Multi-Label Data, ECML PKDD 2011), as the
package iterative-stratification (https://github.com/trent-b/iterative-stratification) implements it for single images,
applied to the sums of the labels of each group.
"""

import numpy as np

# Limits of the refinement, so that it takes no longer than the assignment. Many groups need little refinement.
STEPS, STEPPED_GROUPS = 2000, 20_000_000
CANDIDATES, SMALLEST_GAIN = 300, 1e-12


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
        refine: afterwards move and exchange groups as long as that brings the shares closer to the wanted ones.

    Returns:
        int64 (N,), the part of each row.
    """
    _, number_of = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number_of)
    sums = np.stack([np.bincount(number_of, weights=column) for column in strata.T], axis=1)
    part_of = _assign(sums, sizes, wanted, wanted_rows, np.random.RandomState(seed))
    if refine:
        _refine(part_of, np.column_stack([sums, sizes]), np.column_stack([wanted, wanted_rows]))
    return part_of[number_of]


def _assign(
    sums: np.ndarray,
    sizes: np.ndarray,
    wanted: np.ndarray,
    wanted_rows: np.ndarray,
    random: np.random.RandomState,
) -> np.ndarray:
    """Assign the groups, the rarest stratum and the largest groups first; return the part of each (G,)."""
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
    return part_of


def _refine(part_of: np.ndarray, sums: np.ndarray, wanted: np.ndarray) -> None:
    """Move or exchange groups, each time those that help most, until nothing helps.

    This minimizes the sum over parts and strata of the squared error of the share of the stratum.

    Args:
        part_of: int64 (G,), the part of each group; changed in place.
        sums: rows of each stratum in each group (G, S).
        wanted: rows of each stratum that each part needs (P, S).
    """
    totals = np.maximum(sums.sum(axis=0), 1)
    scaled = sums / totals
    error = np.stack([scaled[part_of == part].sum(axis=0) for part in range(len(wanted))]) - wanted / totals
    squares, every = (scaled**2).sum(axis=1), np.arange(len(sums))
    products = scaled @ error.T  # (G, P)
    for _ in range(min(STEPS, 1 + STEPPED_GROUPS // len(sums))):
        # moving x from part p to q changes the sum of squares by 2 (x.e_q - x.e_p + x.x)
        change = 2 * (products - products[every, part_of][:, None] + squares[:, None])
        change[every, part_of] = 0
        group, part = np.unravel_index(change.argmin(), change.shape)
        moves = (
            [(group, part)] if change[group, part] < -SMALLEST_GAIN else _exchange(part_of, scaled, change)
        )
        if not moves:
            break
        for group, part in moves:
            moved = scaled @ scaled[group]
            for sign, place in ((-1, part_of[group]), (1, part)):
                products[:, place] += sign * moved
                error[place] += sign * scaled[group]
            part_of[group] = part


def _exchange(part_of: np.ndarray, scaled: np.ndarray, change: np.ndarray) -> list[tuple[int, int]]:
    """Return the moves of the best exchange of two groups between two parts; empty if none helps.

    Only groups that can be moved with little harm are tried, because the number of pairs is quadratic.
    """
    own = np.eye(change.shape[1], dtype=bool)[part_of]
    tried = np.argsort(np.where(own, np.inf, change).min(axis=1), kind="stable")[:CANDIDATES]
    parts, rows = part_of[tried], scaled[tried]
    to_other = change[tried][:, parts]
    pairs = to_other + to_other.T - 4 * rows @ rows.T
    pairs[parts[:, None] == parts] = 0
    first, second = np.unravel_index(pairs.argmin(), pairs.shape)
    if pairs[first, second] > -SMALLEST_GAIN:
        return []
    return [(int(tried[first]), int(parts[second])), (int(tried[second]), int(parts[first]))]

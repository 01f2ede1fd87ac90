"""Batch active learning: the order in which to label images, by doubt and diversity.

The most doubtful images are often alike, so that the labels of one would remove the doubt about the others. The next
image is therefore the one with the largest product of its doubt and its distance to the nearest image before it. This
is the greedy selection of k centres (Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set
Approach, ICLR 2018) with the doubt as weight.
"""

import numpy as np
from scipy.special import entr, expit, logit

CANDIDATES, CHOSEN = 10_000, 1_000  # products of all vectors would take hours for 100,000 images
SMALLEST = 1e-6  # probability


def doubt(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the doubt of each image, float64 (N,): the sum of the binary entropies of its labels, in nats.

    Sum of entropies: Settles, Active Learning Literature Survey, 2009, section 3.1. Here scores are first moved along
    their logits such that a label at its threshold has a probability of 0.5, and so the largest entropy: a head that is
    trained with class weights predicts rare labels far below 0.5.

    Args:
        scores: probabilities (N, C).
        thresholds: (C,), probabilities above which a label is predicted; infinity if it is never predicted.
    """
    limits = [np.clip(values, SMALLEST, 1 - SMALLEST) for values in (scores, thresholds)]
    moved = expit(logit(limits[0]) - logit(limits[1]))
    return (entr(moved) + entr(1 - moved)).sum(axis=1)


def informative_order(doubts: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the order in which to label images, int64 (N,), the first one first.

    Only the first 1,000 differ from each other, and are chosen among the 10,000 most doubtful; the others follow by
    doubt. Every beginning of the order is a batch, of any size. Ties keep the order of the images.

    Args:
        doubts: (N,), at least 0; see `doubt`.
        vectors: features (N, F), of which only the directions count.
    """
    by_doubt = np.argsort(-doubts, kind="stable")
    candidates = by_doubt[:CANDIDATES]
    weights, nearby = doubts[candidates], vectors[candidates].astype(np.float32)
    nearby /= np.maximum(np.linalg.norm(nearby, axis=1, keepdims=True), SMALLEST)
    gains, chosen = weights.copy(), []
    for _ in range(min(CHOSEN, len(candidates))):
        place = int(np.argmax(gains))
        chosen.append(candidates[place])
        gains = np.minimum(gains, weights * (1 - nearby @ nearby[place]))
        gains[place] = -np.inf
    return np.concatenate([chosen, by_doubt[~np.isin(by_doubt, chosen)]]).astype(np.int64)

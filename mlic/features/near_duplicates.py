"""Near duplicates: copies of a photograph in other files, found by the cosine of whitened features."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from mlic.errors import InputError
from mlic.features.dataset import FeatureRows

logger = logging.getLogger(__name__)

BLOCK_ROWS = 2048
READ_VALUES = 16_000_000
LARGE_GROUP = 0.05


def check_threshold(threshold: float) -> None:
    """Check `data.split.groups.threshold`.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < threshold <= 1:
        key = "data.split.groups.threshold"
        raise InputError(f"{key}={threshold}: expected a cosine above 0 and at most 1.", key=key)


def whiten(features: Tensor) -> Tensor:
    """Return the unit vectors whose products are the similarities of images.

    The plain cosine of features is high for two photographs of the same kind of thing: among 1,069 photographs of COCO,
    the most similar strangers were zebras, more similar than many copies cropped by a tenth. Whitening takes these
    common directions back and leaves what is special to one photograph (Jégou and Chum, Negative Evidences and
    Co-occurrences in Image Retrieval, 2012). It also makes the scale independent of the network. Small directions are
    damped by the mean variance, so that few images can be whitened, too.

    Any square root of the inverse covariance gives the same products, so that a Cholesky factor replaces eigenvectors.

    Args:
        features: float32 (N, F).

    Returns:
        float32 (N, F), rows of length 1; 0 for rows that do not differ from the mean.
    """
    vectors = functional.normalize(features)
    vectors -= vectors.mean(dim=0)
    covariance = vectors.T @ vectors / len(vectors)
    mean = covariance.trace() / max(1, min(len(vectors) - 1, len(covariance)))
    covariance.diagonal().add_(mean + 1e-12)
    root = torch.linalg.cholesky(covariance)
    return functional.normalize(torch.linalg.solve_triangular(root, vectors.T, upper=False).T).contiguous()


def descriptors(rows: FeatureRows, channels: int | None = None) -> Tensor:
    """Return whitened features of all images, float32 (N, F), on the device of the rows.

    Maps are averaged over their positions, because a crop moves what they show.

    Args:
        rows: N features of shape (F,) or (F, h, w).
        channels: number F of channels if features are flattened maps (F * h * w,).
    """
    parts = []
    # maps may have half a million values
    step = max(1, READ_VALUES // rows.gather(torch.arange(1)).numel())
    for start in range(0, len(rows), step):
        block = rows.gather(torch.arange(start, min(start + step, len(rows))))
        parts.append(block.reshape(len(block), channels or block.shape[1], -1).mean(dim=2))
    return whiten(torch.cat(parts))


def similar_pairs(vectors: Tensor, threshold: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of rows with a product of at least `threshold`, in blocks of the upper triangle.

    Args:
        vectors: unit vectors (N, F).
        threshold: least similarity.

    Yields:
        Pairs int64 (K, 2), the lower row first, and similarities float32 (K,).
    """
    for start in range(0, len(vectors), BLOCK_ROWS):
        first = vectors[start : start + BLOCK_ROWS]
        for other in range(start, len(vectors), BLOCK_ROWS):
            products = first @ vectors[other : other + BLOCK_ROWS].T
            found = (products >= threshold).nonzero()
            if other == start:  # on the diagonal, each pair occurs twice, and each image with itself
                found = found[found[:, 0] < found[:, 1]]
            if len(found):
                similarities = products[found[:, 0], found[:, 1]]
                pairs = found + torch.tensor([start, other], device=found.device)
                yield pairs.cpu().numpy(), similarities.cpu().numpy()


def near_duplicate_groups(vectors: Tensor, threshold: float) -> np.ndarray:
    """Return group numbers int64 (N,): images connected by similar pairs are one group.

    Args:
        vectors: see `descriptors`.
        threshold: least similarity of a pair.
    """
    number = len(vectors)
    groups = np.arange(number)
    # block by block, because in a set of frames of one scene all pairs would not fit in memory
    for pairs, _ in similar_pairs(vectors, threshold):
        edges = groups[pairs]
        graph = coo_matrix((np.ones(len(edges), dtype=bool), edges.T), shape=(number, number))
        groups = connected_components(graph, directed=False)[1].astype(np.int64)[groups]
    sizes = np.bincount(groups)
    several, largest = sizes[sizes > 1], sizes.max(initial=0)
    logger.info(
        "near duplicates: %d of %d images are in %d groups, the largest of %d images",
        several.sum(),
        number,
        len(several),
        largest,
    )
    if largest > max(10, LARGE_GROUP * number):
        logger.warning(
            "near duplicates: one group has %d of %d images. If these are different photographs, raise "
            "data.split.groups.threshold=%g.",
            largest,
            number,
            threshold,
        )
    return groups


def count_near_duplicates(vectors: Tensor, rows: np.ndarray, others: np.ndarray, threshold: float) -> int:
    """Return the number of images among `rows` that have a near duplicate among `others`.

    Args:
        vectors: see `descriptors`.
        rows: row numbers (M,).
        others: row numbers (K,).
        threshold: least similarity.
    """
    near = np.zeros(len(rows), dtype=bool)
    candidates = vectors[torch.from_numpy(others).to(vectors.device)].split(BLOCK_ROWS)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = vectors[torch.from_numpy(rows[start : start + BLOCK_ROWS]).to(vectors.device)]
        for other in candidates:
            near[start : start + BLOCK_ROWS] |= (block @ other.T >= threshold).any(dim=1).cpu().numpy()
    return int(near.sum())

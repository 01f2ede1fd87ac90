"""Ridge regression in closed form: a linear head with its penalty chosen by exact leave-one-out.

The head solves, for each class, `min |y - b - Zw|² + penalty |w|²` with standardised features Z (N, F) and an intercept
b without penalty. With centred Z, and an eigendecomposition of Z'Z (or of ZZ' where there are fewer images than
features), the matrix that maps labels to fitted values is

    H = 1/N + U diag(1 / (s + penalty)) U'        with U (N, R), s (R,)

so that one decomposition serves all penalties. The residual of an image in a model that was fitted without it is
`e_i / (1 - H_ii)` (Allen, The Relationship between Variable Selection and Data Augmentation and a Method for
Prediction, Technometrics 1974), and the residuals of a group of images in a model without the group are
`(I - H_gg)⁻¹ e_g`. Both are exact as long as the standardisation, which does not use labels, is not fitted again: on
1,069 photographs, fitting it again without the image changed a logit by 0.0013 on average and by at most 0.016, with
logits of standard deviation 1.7.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from mlic.data.table import UNKNOWN
from mlic.errors import InputError
from mlic.evaluation.calibration import fit_class_calibration
from mlic.evaluation.ranking import Ranking
from mlic.models.standardization import Standardization, fit_standardization

CHUNK_ROWS = 4096
SUBSET_ROWS = 10_000  # leave-one-out of more images would not choose another penalty
CALIBRATION_ROWS = 50_000  # two numbers per class do not need more images, with at least:
CALIBRATION_LABELS = 50  # positives and negatives
LARGEST_SYSTEM = (
    20_000  # a matrix of so many images or features takes 3 GB, and its decomposition half an hour
)
KEPT_BYTES = 2e9
SMALLEST = 1e-12
SMALLEST_SHARE = 1e-12  # squared lengths below this share of the longest are rounding errors

Gather = Callable[[Tensor], Tensor]


class RidgeHead(nn.Module):
    """Power transform, standardisation, one linear layer and a calibration per class; `fit_ridge` sets all weights."""

    slope: Tensor
    offset: Tensor

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_classes: int,
        *,
        power: float = 0.5,
        penalties: Sequence[float] | float | None = None,
    ) -> None:
        """Build the layers, with weights of 0.

        Args:
            feature_shape: shape of the features of one image.
            num_classes: width of the output.
            power: exponent of the power transform `sign(x) |x|^power`; 1 leaves features as they are.
            penalties: candidates for the penalty, relative to the number of features; default: 17 from 0.01 to 100.

        Raises:
            InputError: `power` or a penalty is not above 0.
        """
        super().__init__()
        if not 0 < power <= 1:
            raise InputError(
                f"head.power={power}: expected a number above 0 and at most 1.", key="head.power"
            )
        given = np.logspace(-2, 2, 17).tolist() if penalties is None else np.ravel(penalties).tolist()
        # in increasing order, as the table of candidates is
        candidates = sorted({value for value in given if isinstance(value, int | float) and 0 < value < inf})
        if not candidates or len(candidates) < len(set(given)):
            raise InputError(f"head.penalties={penalties}: expected numbers above 0.", key="head.penalties")
        self.power, self.penalties = power, tuple(map(float, candidates))
        num_features = prod(feature_shape)
        self.standardization = Standardization(num_features)
        self.linear = nn.Linear(num_features, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.linear.requires_grad_(False)
        self.register_buffer("slope", torch.ones(num_classes))
        self.register_buffer("offset", torch.zeros(num_classes))

    def transform(self, input: Tensor) -> Tensor:
        """Return transformed and standardised features (B, F) of features (B, *feature_shape)."""
        features = input.flatten(1).float()
        if self.power != 1:
            # the slope of a root is infinite at 0, which would make activation maps undefined
            powers = features.abs().clamp(min=SMALLEST).pow(self.power)
            features = torch.where(features < 0, -powers, powers)
        return self.standardization(features)

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits float32 (B, C) of features (B, *feature_shape)."""
        return self.linear(self.transform(input)) * self.slope + self.offset

    def fit_closed_form(
        self, gather: Gather, targets: np.ndarray, groups: np.ndarray | None = None, *, seed: int = 0
    ) -> "ClosedFormFit":
        """Set all weights; see `fit_ridge`."""
        return fit_ridge(self, gather, targets, groups, seed)


class RidgeSystem:
    """Features and labels of some rows, decomposed once for all penalties.

    Attributes:
        rows: int64 (N,), the rows on which it is fitted.
        mean: float64 (F,), of the features.
        axes: float64 (F, R); coordinates of features z are `(z - mean) @ axes`.
        squares: float64 (R,), the sum of the squared coordinates of all rows on each axis.
        target_mean: float64 (C,).
        projected: float64 (R, C), the product of coordinates and labels.
    """

    def __init__(self, gather: Gather, targets: Tensor, rows: Tensor) -> None:
        """Decompose the features.

        Args:
            gather: returns features (B, F) of row numbers (B,).
            targets: float64 (N, C) of 0 and 1, labels of `rows`.
            rows: int64 (N,).

        Raises:
            InputError: there are more features and more images than can be solved.
        """
        self.gather, self.rows, self.targets = gather, rows, targets
        num_features = gather(rows[:1]).shape[1]
        self.target_mean = targets.mean(dim=0)
        if min(len(rows), num_features) > LARGEST_SYSTEM:
            raise InputError(
                f"head=ridge: {len(rows):,} images with {num_features:,} features each are too many. Set "
                "model.backbone.pool=avg for fewer features, or use another head."
            )
        if len(rows) >= num_features:
            self._decompose_features(num_features)
        else:
            self._decompose_images()

    def _decompose_features(self, num_features: int) -> None:
        device = self.targets.device
        gram = torch.zeros(num_features, num_features, dtype=torch.float64, device=device)
        # the last column of ones sums the features themselves
        targets = torch.cat([self.targets, torch.ones_like(self.targets[:, :1])], dim=1)
        product = torch.zeros(num_features, targets.shape[1], dtype=torch.float64, device=device)
        for places in torch.arange(len(self.rows), device=device).split(CHUNK_ROWS):
            features = self.gather(self.rows[places])
            # the products of a chunk are as precise as the features; their sum over all chunks needs more digits
            gram += features.T @ features
            product += features.T @ targets[places].to(features)
        self.mean = product[:, -1] / len(self.rows)
        gram -= len(self.rows) * torch.outer(self.mean, self.mean)
        self.squares, self.axes = torch.linalg.eigh(gram)
        self.squares = self.squares.clamp(min=0)
        centred = product[:, :-1] - len(self.rows) * torch.outer(self.mean, self.target_mean)
        self.projected = self.axes.T @ centred

    def _decompose_images(self) -> None:
        features = self.gather(self.rows).double()
        self.mean = features.mean(dim=0)
        features -= self.mean
        squares, directions = torch.linalg.eigh(features @ features.T)
        kept = squares > SMALLEST_SHARE * squares.max()
        self.squares, directions = squares[kept], directions[:, kept]
        self.axes = features.T @ (directions / self.squares.sqrt())
        self.projected = self.squares.sqrt()[:, None] * (directions.T @ (self.targets - self.target_mean))

    def weights(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Return weights (C, F) and biases (C,) for a penalty."""
        weight = (self.axes @ (self.projected / (self.squares + penalty)[:, None])).T
        return weight, self.target_mean - weight @ self.mean

    def left_out_scores(self, penalties: Sequence[float], groups: Tensor, places: Tensor) -> Tensor:
        """Return the scores of rows in models fitted without them or, for groups of rows, without their group.

        Args:
            penalties: L penalties.
            groups: int64 (N,), the group of each row of the system.
            places: int64 (M,), places in `rows`, with whole groups next to each other.

        Returns:
            (L, M, C), in the dtype of the features.
        """
        scores = [
            self._left_out_of_chunk(penalties, groups[chunk], chunk) for chunk in _chunks(groups, places)
        ]
        return torch.cat(scores, dim=1)

    def _left_out_of_chunk(self, penalties: Sequence[float], groups: Tensor, places: Tensor) -> Tensor:
        features = self.gather(self.rows[places])
        # in the precision of the features, because this product takes as long as the decomposition's
        coordinates = (features - self.mean.to(features)) @ self.axes.to(features)
        inverses = 1 / (self.squares + self.squares.new_tensor(penalties)[:, None])  # (L, R)
        weights = (inverses[:, :, None] * self.projected).to(features)  # (L, R, C)
        # one product for all penalties
        fitted = (coordinates @ weights.transpose(0, 1).flatten(1)).unflatten(1, weights.shape[::2])
        explained = (self.targets[places] - self.target_mean).to(features)
        residuals = explained - fitted.transpose(0, 1)  # (L, M, C)
        inverses = inverses.to(features)
        leverages = 1 / len(self.rows) + coordinates.square() @ inverses.T  # (M, L)
        left_out = residuals / (1 - leverages.T)[:, :, None]
        for members in _groups_by_size(groups):
            own = coordinates[members]  # (G, size, R)
            for inverse, of_penalty, before in zip(inverses, left_out, residuals, strict=True):
                hat = 1 / len(self.rows) + (own * inverse) @ own.transpose(1, 2)
                # a singular matrix gives scores that are not finite, which are not used
                of_penalty[members] = torch.linalg.solve_ex(
                    torch.eye(hat.shape[1]).to(hat) - hat, before[members]
                ).result
        return self.targets[places].to(features) - left_out


def _groups_by_size(groups: Tensor) -> Iterator[Tensor]:
    """Yield the places (G, size) of all groups of each size above 1; the members of a group follow each other."""
    _, sizes = torch.unique_consecutive(groups, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    for size in sizes.unique().tolist():
        if size > 1:
            yield starts[sizes == size][:, None] + torch.arange(size, device=groups.device)


def _chunks(groups: Tensor, places: Tensor) -> Iterator[Tensor]:
    """Split places into chunks of about `CHUNK_ROWS` that do not divide a group."""
    _, sizes = torch.unique_consecutive(groups[places], return_counts=True)
    ends = sizes.cumsum(0).cpu()
    start = 0
    while start < len(places):
        last = int(torch.searchsorted(ends, start + CHUNK_ROWS).clamp(max=len(ends) - 1))
        yield places[start : int(ends[last])]
        start = int(ends[last])


@dataclass(frozen=True, eq=False)
class ClosedFormFit:
    """Result of the fit of a head in closed form.

    Attributes:
        curve: for each candidate, its value under the name `setting`, and metrics of leave-one-out scores: `map`, and
            `log_loss` of a ridge head.
        chosen: the chosen candidate.
        scores: leave-one-out probabilities of the training images, float32 (N, C).
        setting: name of what is chosen, `penalty` or `neighbours`.
    """

    curve: list[dict[str, float]]
    chosen: float
    scores: np.ndarray
    setting: str = "penalty"


@torch.no_grad()
def fit_ridge(
    head: RidgeHead, gather: Gather, targets: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> ClosedFormFit:
    """Fit a head in closed form, and choose its penalty by leave-one-out or, with groups, by leave-group-out.

    Classes with unknown labels are solved one by one on the images with known labels, others all together.

    Args:
        head: head to fit, on the device to compute on.
        gather: returns features (B, *feature_shape) of row numbers (B,), on any device.
        targets: labels (N, C) of 1, 0 and -1 (unknown) of the rows that `gather` accepts.
        groups: int (N,), the group of each row; None if each row is a group.
        seed: seed of the images on which the penalty is chosen, if there are more than 10,000.

    Raises:
        InputError: see `RidgeSystem`; no class has known labels in two groups; or all penalties are too small.
    """
    device, (num_rows, num_classes) = head.linear.weight.device, targets.shape
    labels = torch.from_numpy(targets).to(device)
    group_of = (torch.arange(num_rows) if groups is None else torch.from_numpy(groups)).to(device)
    by_group = group_of.argsort(stable=True)  # the rows of a group next to each other
    subset = _choose_groups(group_of, seed)
    # with more images than these, the scale of a feature is known, and means are subtracted again below
    fit_standardization(
        head, (gather(rows).to(device) for rows in subset.nonzero().flatten().cpu().split(CHUNK_ROWS))
    )
    class_sets = _class_sets(targets != UNKNOWN, by_group, group_of)
    if not class_sets:
        raise InputError(
            "head=ridge chooses its penalty by leave-one-out, which requires at least two training images with known "
            "labels, in different groups. Use more images, or another head."
        )

    # each system is used twice; those of all classes of a large data set with unknown labels may be too large to keep
    width = head.linear.in_features
    kept = max(1, int(KEPT_BYTES / (8 * width * min(width, num_rows))))

    @lru_cache(maxsize=kept)
    def system(number: int) -> RidgeSystem:
        columns, rows = class_sets[number]
        own = labels[rows][:, columns].double()
        return RidgeSystem(lambda wanted: head.transform(gather(wanted.cpu()).to(device)), own, rows)

    candidates = np.array(head.penalties) * width
    precision, loss = np.full((2, len(candidates), num_classes), np.nan)
    for number, (columns, rows) in enumerate(class_sets):
        places = subset[rows].nonzero().flatten()
        left_out = system(number).left_out_scores(candidates.tolist(), group_of[rows], places)
        figures = _figures(left_out.cpu().numpy(), targets[rows[places].cpu().numpy()][:, columns])
        precision[:, columns], loss[:, columns] = figures
    if np.isneginf(precision).any(axis=1).all():
        raise InputError(
            f"head.penalties={list(head.penalties)}: too small to be computed. Use larger ones.",
            key="head.penalties",
        )
    # one penalty for all classes: those of single classes are mostly noise, and cost 0.01 of mAP on new images
    penalty = float(candidates[np.nanmean(precision, axis=1).argmax()])
    scores = np.zeros((num_rows, num_classes), dtype=np.float32)
    for number, (columns, _) in enumerate(class_sets):
        weight, bias = system(number).weights(penalty)
        head.linear.weight[columns], head.linear.bias[columns] = weight.float(), bias.float()
        scores[:, columns] = _all_scores(system(number), penalty, group_of)
    slope, offset = _calibrate(scores, targets)
    head.slope.copy_(torch.from_numpy(slope))
    head.offset.copy_(torch.from_numpy(offset))
    means = np.nanmean([precision, loss], axis=2).T.tolist()
    curve = [
        {"penalty": candidate, "map": of_classes, "log_loss": log_loss}
        for candidate, (of_classes, log_loss) in zip(candidates.tolist(), means, strict=True)
    ]
    return ClosedFormFit(curve, penalty, expit(slope * scores + offset).astype(np.float32))


def _class_sets(known: np.ndarray, by_group: Tensor, group_of: Tensor) -> list[tuple[np.ndarray, Tensor]]:
    """Return sets of classes (column numbers) whose labels are known for the same rows, and these rows by group."""
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    class_sets = []
    for number, pattern in enumerate(torch.from_numpy(patterns.T.copy()).to(by_group.device)):
        rows = by_group[pattern[by_group]]
        # a class with known labels in no group or a single one has no model without it, and keeps weights of 0
        if len(group_of[rows].unique()) > 1:
            class_sets.append((np.flatnonzero(pattern_of.ravel() == number), rows))
    return class_sets


def _figures(left_out: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return average precision and log loss (L, C) of leave-one-out scores (L, N, C)."""
    precision, loss = np.empty((2, len(left_out), targets.shape[1]))
    for candidate, scores in enumerate(left_out):
        if np.isfinite(scores).all():
            ranking = Ranking(scores.T, targets.T == 1, len(scores))
            precision[candidate] = ranking.summarise()[0][:, 0]
            slope, offset = fit_class_calibration(scores, targets)
            logits = slope * scores + offset
            loss[candidate] = np.logaddexp(0, np.where(targets == 1, -logits, logits)).mean(axis=0)
        else:  # the penalty is too small for the precision of the features
            precision[candidate], loss[candidate] = -inf, inf
    return precision, loss


def _choose_groups(group_of: Tensor, seed: int) -> Tensor:
    """Return a mask (N,) of random whole groups with about `SUBSET_ROWS` rows."""
    groups, inverse, sizes = group_of.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).to(group_of.device)
    chosen = torch.empty_like(order, dtype=torch.bool)
    chosen[order] = sizes[order].cumsum(0) - sizes[order] < SUBSET_ROWS
    return chosen[inverse]


def _calibrate(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and offsets (C,), fitted on every n-th image, and on all images for rare classes."""
    step = -(-len(scores) // CALIBRATION_ROWS)
    slope, offset = fit_class_calibration(scores[::step], targets[::step])
    few = np.minimum(*[(targets[::step] == label).sum(axis=0) for label in (0, 1)]) < CALIBRATION_LABELS
    if step > 1 and few.any():  # they may even have no positive among these images
        slope[few], offset[few] = fit_class_calibration(scores[:, few], targets[:, few])
    return slope, offset


def _all_scores(system: RidgeSystem, penalty: float, group_of: Tensor) -> np.ndarray:
    """Return the scores (N, C) of all rows: left out where the labels are known, else predicted."""
    weight, bias = system.weights(penalty)
    places = torch.arange(len(system.rows), device=group_of.device)
    left_out = system.left_out_scores([penalty], group_of[system.rows], places)[0]
    scores = left_out.new_empty(len(group_of), len(bias))
    scores[system.rows] = left_out
    unknown = torch.ones_like(group_of, dtype=torch.bool)
    unknown[system.rows] = False
    for rows in unknown.nonzero().flatten().split(CHUNK_ROWS):
        features = system.gather(rows)
        scores[rows] = features @ weight.to(features).T + bias.to(features)
    return scores.float().cpu().numpy()

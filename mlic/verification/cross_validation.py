"""Cross-validated scores: every image is scored by a classifier that was not fitted on it."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mlic.features.dataset import FeatureRows
from mlic.models import Standardization, fit_standardization

BATCH_ROWS = 8192
MAX_STEPS = 100
TOLERANCE = 1e-3  # of the gradient of the mean loss; a lower one did not improve the ranks


class LogisticRegression:
    """Equivalent of scikit-learn's one-vs-rest `LogisticRegression(C=strength)` that fits all classes at once.

    The classes are independent, so that one minimization by L-BFGS over all classes, whose steps are a few matrix
    products, finds the same solution as one fit per class. On one core, with 79 classes and 1280 features, it takes as
    long as scikit-learn for 1,000 images and 0.6 of the time for 10,000. It also runs on a GPU, and reads features in
    batches, so that they need not fit in memory.
    """

    def __init__(
        self, rows: FeatureRows, labels: np.ndarray, *, strength: float, device: torch.device
    ) -> None:
        """Fit the standardisation of features, which does not use labels, on all images.

        Args:
            rows: features of N images, (*feature_shape) each.
            labels: (N, C) of 0 and 1.
            strength: `C` of scikit-learn, the weight of the data relative to the penalty.
            device: device to compute on.
        """
        self.rows, self.strength, self.device = rows, strength, device
        self.targets = torch.from_numpy(labels)
        everything = np.arange(len(labels))
        self.num_features = self._flat(everything[:1]).shape[1]
        self.standardization = Standardization(self.num_features).to(device)
        fit_standardization(self.standardization, (batch for _, batch in self._batches(everything, raw=True)))

    def fit(self, train: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return weights (F, C) and biases (C,) fitted on some rows."""
        num_classes = self.targets.shape[1]
        weight = torch.zeros(self.num_features, num_classes, device=self.device, requires_grad=True)
        share = self.targets[train].float().mean(dim=0).clamp(0.5 / len(train), 1 - 0.5 / len(train))
        bias = torch.logit(share).to(self.device).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=MAX_STEPS,
            tolerance_grad=TOLERANCE,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def objective() -> float:
            """Compute the objective of scikit-learn divided by `strength` and the number of rows, and its gradients."""
            optimizer.zero_grad()
            penalty = weight.square().sum() / (2 * self.strength * len(train))
            penalty.backward()
            total = penalty.item()
            for chosen, features in self._batches(train):
                targets = self.targets[chosen].float().to(self.device)
                logits = features @ weight + bias
                loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(
                    train
                )
                loss.backward()
                total += loss.item()
            return total

        optimizer.step(objective)
        return weight.detach(), bias.detach()

    def scores(self, weight: Tensor, bias: Tensor, rows: np.ndarray) -> np.ndarray:
        """Return the probabilities of some rows, float32 (M, C)."""
        parts = [torch.sigmoid(features @ weight + bias).cpu() for _, features in self._batches(rows)]
        return torch.cat(parts).numpy()

    def _batches(self, rows: np.ndarray, *, raw: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row numbers (B,) and their features (B, F), standardised unless `raw`."""
        for start in range(0, len(rows), BATCH_ROWS):
            chosen = rows[start : start + BATCH_ROWS]
            features = self._flat(chosen)
            yield torch.from_numpy(chosen), features if raw else self.standardization(features)

    def _flat(self, rows: np.ndarray) -> Tensor:
        return self.rows.gather(torch.from_numpy(rows)).to(self.device).flatten(1)


def cross_validated_scores(
    rows: FeatureRows,
    labels: np.ndarray,
    folds: Sequence[np.ndarray],
    *,
    strength: float,
    device: torch.device | None = None,
) -> np.ndarray:
    """Score each fold with a logistic regression fitted on the other folds.

    Args:
        rows: features of N images.
        labels: (N, C) of 0 and 1.
        folds: row numbers, each row in one fold.
        strength: see `LogisticRegression`.
        device: device to compute on. Default: the CPU.

    Returns:
        Probabilities, float32 (N, C).
    """
    regression = LogisticRegression(rows, labels, strength=strength, device=device or torch.device("cpu"))
    scores = np.empty(labels.shape, dtype=np.float32)
    for fold in folds:
        others = np.setdiff1d(np.arange(len(labels)), fold)
        scores[fold] = regression.scores(*regression.fit(others), fold)
    return scores

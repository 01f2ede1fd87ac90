import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from mlic.models import AsymmetricLoss, FocalLoss, WeightedBCE
from mlic.models.losses import WeightedLoss

WEIGHTS = (0.5, 1.0, 2.0, 0.1)
LOSSES = (WeightedBCE, FocalLoss, AsymmetricLoss)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits and targets (40, 4)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 4, generator=generator)
    return logits, torch.randint(0, 2, (40, 4), generator=generator).float()


def test_bce_is_the_mean_of_weighted_terms_and_the_others_without_gamma_and_clip_too(batch):
    logits, targets = batch
    scores = torch.sigmoid(logits)
    terms = -(targets * scores.log() + (1 - targets) * (1 - scores).log())
    expected = (torch.tensor(WEIGHTS) * terms).mean()
    torch.testing.assert_close(WeightedBCE(WEIGHTS)(*batch), expected)
    torch.testing.assert_close(FocalLoss(WEIGHTS, gamma=0)(*batch), expected)
    torch.testing.assert_close(AsymmetricLoss(WEIGHTS, gamma_neg=0, gamma_pos=0, clip=0)(*batch), expected)
    weighted = (torch.tensor(WEIGHTS) * torch.where(targets == 1, 3 * terms, terms)).mean()
    torch.testing.assert_close(WeightedBCE(WEIGHTS, pos_weight=3.0)(*batch), weighted)


def test_focal_is_torchvisions(batch: tuple[Tensor, Tensor]):
    gamma = 1.5
    reference = sigmoid_focal_loss(*batch, alpha=-1, gamma=gamma, reduction="none")
    expected = (torch.tensor(WEIGHTS) * reference).mean()
    torch.testing.assert_close(FocalLoss(WEIGHTS, gamma=gamma)(*batch), expected)


def test_asymmetric_is_the_formula_of_its_paper(batch: tuple[Tensor, Tensor]):
    logits, targets = (part.double() for part in batch)
    p = torch.sigmoid(logits)
    shifted = torch.maximum(p - 0.2, torch.zeros_like(p))
    present, absent = (1 - p) ** 1 * p.log(), shifted**3 * (1 - shifted).log()
    expected = -(torch.tensor(WEIGHTS) * torch.where(targets == 1, present, absent)).mean()
    loss = AsymmetricLoss(WEIGHTS, gamma_neg=3, gamma_pos=1, clip=0.2)
    torch.testing.assert_close(loss(*batch).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", LOSSES)
def test_smoothing_mixes_the_losses_of_both_answers(kind: type[WeightedLoss], batch: tuple[Tensor, Tensor]):
    logits, targets = batch
    plain = kind(WEIGHTS)
    expected = 0.9 * plain(logits, targets) + 0.1 * plain(logits, 1 - targets)
    torch.testing.assert_close(kind(WEIGHTS, label_smoothing=0.2)(logits, targets), expected)


@pytest.mark.parametrize(
    ("kind", "options"), [(WeightedBCE, {}), (FocalLoss, {"gamma": 0.5}), (AsymmetricLoss, {"clip": 0})]
)
def test_losses_and_gradients_are_finite_at_the_ends(kind: type[WeightedLoss], options: dict):
    logits = torch.tensor([[-200.0, 200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    loss = kind([1.0, 1.0, 1.0], **options)(logits, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


class Squared(WeightedLoss):
    """A loss of a user, who writes nothing about unknown labels."""

    def terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        assert (targets >= 0).all()
        return (logits - targets) ** 2


@pytest.mark.parametrize("kind", [*LOSSES, Squared])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_unknown_labels_cost_nothing_and_get_no_gradient(kind, smoothing, batch):
    logits, targets = batch
    loss = kind(WEIGHTS, label_smoothing=smoothing)
    unknown = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    unknown[:, 3] = True
    logits = logits.clone().requires_grad_()
    value = loss(logits, torch.where(unknown, -1, targets))
    value.backward()
    assert logits.grad is not None
    assert (logits.grad[unknown] == 0).all() and logits.grad[~unknown & (targets == 1)].all()

    # the mean over the known labels, as from a loss of each class on its own known images
    parts = [
        kind(WEIGHTS[column : column + 1], label_smoothing=smoothing)(
            logits[~unknown[:, column], column, None], targets[~unknown[:, column], column, None]
        )
        * (~unknown[:, column]).sum()
        for column in range(3)
    ]
    torch.testing.assert_close(value, torch.stack(parts).sum() / (~unknown).sum())

    nothing = loss(logits, torch.full_like(targets, -1))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing.item() == 0 and not gradient.any()

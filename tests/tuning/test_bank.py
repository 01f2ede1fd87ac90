"""A head in a bank trains as it would alone, but for the masks of dropout."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mlic.models import AsymmetricLoss, DenseHead, FocalLoss, WeightedBCE, cosine_with_warmup
from mlic.models.classifier import epoch_seed
from mlic.models.losses import WeightedLoss
from mlic.tuning.bank import Bank, Member, ready_to_score
from mlic.tuning.stacked_heads import StackedHeads

FEATURES, CLASSES, BATCH, SEED = 24, 5, 8, 3
EPOCHS, STEPS = 5, 10  # 50 steps

OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=1e-3, betas=(0.8, 0.99), fused=True),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.5, amsgrad=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
}

Batches = list[tuple[Tensor, Tensor, Tensor]]


def made_batches(seed: int, rows: int) -> list[Batches]:
    """Epochs of batches; the last of an epoch is short where `rows` asks for it."""
    generator = torch.Generator().manual_seed(seed)
    epochs = []
    for _ in range(EPOCHS):
        features = torch.randn(rows, FEATURES, generator=generator)
        targets = (torch.rand(rows, CLASSES, generator=generator) < 0.3).float()
        epochs.append([(features[own], targets[own], own) for own in torch.arange(rows).split(BATCH)])
    return epochs


def made_head(seed: int, **options: Any) -> DenseHead:
    torch.manual_seed(seed)
    return DenseHead((FEATURES,), CLASSES, **{"hidden": [16], "dropout": 0.0, **options})


def train_alone(
    head: DenseHead,
    loss: WeightedLoss,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    epochs: Sequence[Batches],
    *,
    scheduled: bool = False,
    after_step: Callable[[int], object] = lambda epoch: None,
) -> list[Tensor]:
    """As `MultiLabelClassifier` does it."""
    head.train()
    optimizer = make_optimizer(head.parameters())
    total = sum(map(len, epochs))
    scheduler = cosine_with_warmup(optimizer, total_steps=total) if scheduled else None
    for epoch, batches in enumerate(epochs):
        torch.manual_seed(epoch_seed(SEED, epoch))
        for features, targets, _ in batches:
            optimizer.zero_grad()
            loss(head(features), targets).backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            after_step(epoch)
    return [parameter.detach() for parameter in head.parameters()]


def assert_same_weights(head: DenseHead, expected: Sequence[Tensor]) -> None:
    for parameter, value in zip(head.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=1e-5)


def assert_trained_as_alone(
    heads: Sequence[DenseHead], losses: Sequence[WeightedLoss], make: Callable[..., torch.optim.Optimizer]
) -> None:
    """50 steps in one bank."""
    epochs = made_batches(0, BATCH * STEPS)
    before = next(heads[0].parameters()).detach().clone()
    expected = [
        train_alone(deepcopy(head), loss, make, epochs) for head, loss in zip(heads, losses, strict=True)
    ]
    assert not torch.allclose(expected[0][0], before, atol=1e-4)  # it did learn
    bank = Bank(
        [Member.build([head], [loss], make) for head, loss in zip(heads, losses, strict=True)], seed=SEED
    )
    for epoch, batches in enumerate(epochs):
        bank.train_epoch(epoch, [batches])
    for head, weights in zip(heads, expected, strict=True):
        assert_same_weights(head, weights)


def losses_of(seed: int) -> list[WeightedLoss]:
    weights = torch.rand(CLASSES, generator=torch.Generator().manual_seed(seed)).add(0.5).numpy()
    return [
        WeightedBCE(weights),
        FocalLoss(weights, gamma=2.0),
        AsymmetricLoss(weights, gamma_neg=3.0, gamma_pos=1.0, clip=0.05, label_smoothing=0.1),
        AsymmetricLoss(weights, gamma_neg=2.0, clip=0.0),
        WeightedBCE(weights, pos_weight=2.0, label_smoothing=0.2),
        FocalLoss(weights, gamma=0.7),
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_head_of_a_bank_equals_the_same_head_alone(name: str):
    """All losses in one bank. Without dropout, whose masks are drawn in another order than alone."""
    losses = losses_of(1)
    heads = [made_head(seed) for seed in range(len(losses))]
    assert_trained_as_alone(heads, losses, OPTIMIZERS[name])


@pytest.mark.parametrize(
    "options",
    [{"hidden": []}, {"hidden": [16, 8]}],
)
def test_of_every_structure(options: dict[str, Any]):
    heads = [made_head(seed, **options) for seed in range(3)]
    assert_trained_as_alone(heads, losses_of(1)[:1] * 3, OPTIMIZERS["adam"])


def test_folds_of_unequal_length_do_not_touch_each_other():
    """A fold with a short last batch, one with a batch less; schedules of their own lengths."""
    rows = (BATCH * STEPS, BATCH * STEPS - 3, BATCH * (STEPS - 1))
    epochs = [made_batches(fold, number) for fold, number in enumerate(rows)]
    losses = [losses_of(fold)[:2] for fold in range(3)]
    make = OPTIMIZERS["adamw"]
    heads = [[made_head(7) for _ in range(3)] for _ in range(2)]
    expected = {
        (trial, fold): train_alone(
            deepcopy(heads[trial][fold]), losses[fold][trial], make, epochs[fold], scheduled=True
        )
        for trial in range(2)
        for fold in range(3)
    }
    steps = [sum(map(len, own)) for own in epochs]
    members = [
        Member.build(heads[trial], [own[trial] for own in losses], make, cosine_with_warmup, steps)
        for trial in range(2)
    ]
    bank = Bank(members, seed=SEED)
    for epoch in range(EPOCHS):
        bank.train_epoch(epoch, [own[epoch] for own in epochs])
    for (trial, fold), weights in expected.items():
        assert_same_weights(heads[trial][fold], weights)


def test_each_trial_drops_its_own_share_of_the_same_random_numbers():
    """Identity layers show the values that are kept; fold by fold, whatever the other fold draws."""
    shares = (0.2, 0.7)
    heads = [[DenseHead((400,), 400, hidden=[], dropout=share) for _ in range(2)] for share in shares]
    for head in (head for folds in heads for head in folds):
        last: Any = head[-1]
        torch.nn.init.eye_(last.weight)
        torch.nn.init.zeros_(last.bias)
    stacked = StackedHeads(heads)
    generators = [torch.Generator().manual_seed(SEED) for _ in range(2)]
    draws = [torch.stack(own) for own in zip(*(stacked.draw(50, each) for each in generators), strict=True)]
    logits = stacked(torch.ones(2, 50, 400), draws)
    kept = logits > 0
    for trial, share in enumerate(shares):
        assert kept[trial].float().mean().item() == pytest.approx(1 - share, abs=0.02)
        torch.testing.assert_close(logits[trial][kept[trial]].unique(), torch.tensor([1 / (1 - share)]))
    assert not (kept[1] & ~kept[0]).any()
    assert torch.equal(kept[:, 0], kept[:, 1])


def test_a_head_goes_on_in_another_bank():
    """As after a rung: the others are gone, optimizer and schedule go on."""
    epochs, make = made_batches(0, BATCH * STEPS), OPTIMIZERS["adam"]
    heads, loss = [made_head(seed) for seed in range(4)], losses_of(1)[0]
    expected = train_alone(deepcopy(heads[2]), loss, make, epochs, scheduled=True)
    total = [EPOCHS * STEPS]
    members = [Member.build([head], [loss], make, cosine_with_warmup, total) for head in heads]
    bank = Bank(members, seed=SEED)
    for epoch, batches in enumerate(epochs):
        if epoch == 2:
            bank = Bank([members[2], members[0]], seed=SEED)
        bank.train_epoch(epoch, [batches])
    assert_same_weights(heads[2], expected)
    with pytest.raises(AssertionError):
        assert_same_weights(heads[1], expected)


def test_the_average_is_that_of_the_weights_after_each_step():
    epochs, make, loss = made_batches(0, BATCH * STEPS), OPTIMIZERS["sgd"], losses_of(1)[0]
    head, twin = made_head(0), made_head(0)
    kept: list[list[Tensor]] = []

    def keep(epoch: int) -> None:
        if epoch >= 3:
            kept.append([parameter.detach().clone() for parameter in twin.parameters()])

    last = train_alone(twin, loss, make, epochs, after_step=keep)
    member = Member.build([head], [loss], make)
    bank = Bank([member, Member.build([made_head(1)], [loss], make)], seed=SEED)
    for epoch, batches in enumerate(epochs):
        bank.train_epoch(epoch, [batches], average=epoch >= 3)
    assert member.averaged_steps == [2 * STEPS]
    with ready_to_score(member, 0) as scored:
        assert not scored.training
        assert_same_weights(scored, [torch.stack(own).mean(0) for own in zip(*kept, strict=True)])
    assert head.training
    assert_same_weights(head, last)

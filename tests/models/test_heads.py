"""Heads with weights that are trained by gradients, their standardisation, schedule and scores."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.models import (
    AttentionHead,
    CSRAHead,
    DenseHead,
    Standardization,
    cosine_with_warmup,
    fit_standardization,
)
from mlic.models.scores import ScoreCollector

SHAPE = (6, 3, 4)


@pytest.fixture
def maps() -> Tensor:
    """Feature maps (40, 6, 3, 4), channels of different mean and deviation; the last is constant."""
    values = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    values = values * torch.arange(1, 7).view(6, 1, 1) + 10
    values[:, 5] = 7.0
    return values


def test_dense_head_is_flatten_dropout_linear_relu_dropout_linear(maps: Tensor):
    head = DenseHead(SHAPE, 5, hidden=[8, 4], dropout=0.5, hidden_dropout=0.25).eval()
    first, second, last = (module for module in head if isinstance(module, nn.Linear))
    expected = last(functional.relu(second(functional.relu(first(maps.flatten(1))))))
    torch.testing.assert_close(head(maps), expected)
    assert [layer.out_features for layer in (first, second, last)] == [8, 4, 5]
    assert [module.p for module in head if isinstance(module, nn.Dropout)] == [0.5, 0.25, 0.25]


def test_csra_is_the_equations_of_its_paper(maps: Tensor):
    head = CSRAHead(SHAPE, 2, num_heads=3, weight=0.3)
    nn.init.normal_(head.bias)
    image, classifier = maps[0].flatten(1), head.scores.weight[:, :, 0, 0]
    for column in range(2):
        products = classifier[column] @ image
        strongest = functional.one_hot(products.argmax(), 12)
        expected = head.bias[column]
        for attention in (torch.softmax(products, 0), torch.softmax(2 * products, 0), strongest):
            feature = image.mean(1) + 0.3 * (attention * image).sum(1)
            expected = expected + classifier[column] @ feature
        torch.testing.assert_close(head(maps)[0, column], expected)


@pytest.mark.parametrize(("num_queries", "queries"), [(None, 5), (2, 2), (9, 5)])
def test_queries_of_groups_serve_all_classes_whatever_the_order_of_places(num_queries, queries, maps):
    head = AttentionHead(SHAPE, 5, width=8, num_heads=2, num_queries=num_queries, dropout=0.0)
    logits = head(maps)
    assert logits.shape == (40, 5) and len(head.queries) == queries
    shuffled = maps.flatten(2)[:, :, torch.randperm(12)].view_as(maps)
    torch.testing.assert_close(head(shuffled), logits, atol=1e-4, rtol=1e-4)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("kind", "options"),
    [(CSRAHead, {"weight": 1.0}), (AttentionHead, {"width": 16, "num_heads": 2, "dropout": 0.0})],
)
def test_a_head_learns_to_find_what_is_small(kind: type[nn.Module], options: dict):
    """A class is present where its channel is high at one of 12 places; the average hardly tells."""
    torch.manual_seed(0)
    maps, targets = torch.randn(256, *SHAPE), torch.randint(0, 2, (256, 2)).float()
    places = torch.randint(0, 12, (256, 2))
    for column in range(2):
        at = maps.flatten(2)[torch.arange(256), column, places[:, column]]
        maps.flatten(2)[torch.arange(256), column, places[:, column]] = at + 6 * targets[:, column]
    head = kind(SHAPE, 2, **options)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(head(maps), targets).backward()
        optimizer.step()
    assert ((head(maps) > 0) == targets.bool()).float().mean() > 0.9


@pytest.mark.parametrize(
    "head",
    [
        DenseHead(SHAPE, 4, hidden=[8], dropout=0.5, standardize=True),
        CSRAHead(SHAPE, 4, dropout=0.5, standardize=True),
        AttentionHead(SHAPE, 4, width=8, num_heads=2, standardize=True),
    ],
)
def test_batches_together_get_mean_0_and_deviation_1(head: nn.Module, maps: Tensor):
    fit_standardization(head.train(), maps.split(7))
    layer = next(module for module in head.modules() if isinstance(module, Standardization))
    rows = maps.flatten(1) if isinstance(head, DenseHead) else maps
    made = layer(rows).transpose(0, 1).flatten(1)
    varying = rows.transpose(0, 1).flatten(1).std(1) > 0
    assert 0 < varying.sum() < len(varying)
    torch.testing.assert_close(made.mean(1), torch.zeros(len(made)), rtol=0, atol=1e-3)
    torch.testing.assert_close(made[varying].std(1, unbiased=False), torch.ones(int(varying.sum())))
    assert head.training and not layer._forward_pre_hooks
    with pytest.raises(ValueError, match="features of the training images"):
        fit_standardization(head, [torch.full((2, *SHAPE), float("nan"))])


def test_the_schedule_rises_in_a_line_and_falls_as_half_a_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = cosine_with_warmup(optimizer, total_steps=100, warmup=0.2, final=0.1)
    values = []
    for _ in range(100):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert values[:20] == pytest.approx([2.0 * step / 20 for step in range(1, 21)])
    assert values[20] == 2.0 and values[60] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert all(later < earlier for earlier, later in pairwise(values[20:]))
    assert values[-1] == pytest.approx(0.2, abs=0.01)


def test_each_row_counts_once_and_rows_are_ordered():
    collector = ScoreCollector()
    collector.update(torch.tensor([4, 1]), torch.tensor([[4.0], [1.0]]), torch.tensor([[1.0], [0.0]]))
    collector.update(torch.tensor([2, 4]), torch.tensor([[2.0], [4.0]]), torch.tensor([[0.0], [1.0]]))
    collected = collector.collect()
    assert collected.rows.tolist() == [1, 2, 4]
    assert collected.logits.tolist() == [[1.0], [2.0], [4.0]]
    assert collected.targets.tolist() == [[0.0], [0.0], [1.0]]
    collector.update(torch.tensor([7]), torch.tensor([[7.0]]), torch.tensor([[0.0]]))
    assert collector.collect().logits.tolist() == [[7.0]]

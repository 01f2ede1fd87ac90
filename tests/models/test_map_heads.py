import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mlic.models import AttentionHead, CSRAHead

SHAPE = (6, 3, 4)


@pytest.fixture
def maps() -> Tensor:
    """Feature maps (5, 6, 3, 4)."""
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_csra_without_attention_is_linear_on_the_average(maps: Tensor):
    head = CSRAHead(SHAPE, 7, weight=0.0)
    torch.nn.init.normal_(head.bias)
    expected = functional.linear(maps.mean((2, 3)), head.scores.weight[:, :, 0, 0], head.bias)
    torch.testing.assert_close(head(maps), expected)


def test_csra_is_the_equations_of_its_paper(maps: Tensor):
    head = CSRAHead(SHAPE, 2, num_heads=3, weight=0.3)
    assert head.temperatures == [1.0, 2.0, float("inf")]
    image, classifier = maps[0].flatten(1), head.scores.weight[:, :, 0, 0]
    for column in range(2):
        products = classifier[column] @ image
        expected = torch.zeros(())
        for temperature in (1.0, 2.0):
            attention = torch.softmax(temperature * products, 0)
            feature = image.mean(1) + 0.3 * (attention * image).sum(1)
            expected = expected + classifier[column] @ feature
        expected = expected + classifier[column] @ (image.mean(1) + 0.3 * image[:, products.argmax()])
        torch.testing.assert_close(head(maps)[0, column], expected)


def test_attention_does_not_depend_on_the_order_of_places(maps: Tensor):
    head = AttentionHead(SHAPE, 5, width=8, num_heads=2).eval()
    shuffled = maps.flatten(2)[:, :, torch.randperm(12)].view_as(maps)
    torch.testing.assert_close(head(shuffled), head(maps))


@pytest.mark.parametrize(("num_queries", "queries"), [(None, 5), (2, 2), (9, 5)])
def test_queries_of_groups_serve_all_classes(num_queries: int | None, queries: int, maps: Tensor):
    head = AttentionHead(SHAPE, 5, width=8, num_heads=2, num_queries=num_queries, dropout=0.0)
    logits = head(maps)
    assert logits.shape == (5, 5)
    assert len(head.queries) == queries
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("kind", "options"),
    [(CSRAHead, {"weight": 1.0}), (AttentionHead, {"width": 16, "num_heads": 2, "dropout": 0.0})],
)
def test_a_head_learns_to_find_what_is_small(kind: type[torch.nn.Module], options: dict):
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
        loss = functional.binary_cross_entropy_with_logits(head(maps), targets)
        loss.backward()
        optimizer.step()
    assert ((head(maps) > 0) == targets.bool()).float().mean() > 0.9

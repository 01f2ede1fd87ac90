import pytest
import torch
from torch import Tensor, nn

from mlic.models import AttentionHead, CSRAHead, DenseHead, Standardization, fit_standardization


def found_in(head: nn.Module) -> Standardization:
    return next(module for module in head.modules() if isinstance(module, Standardization))


@pytest.fixture
def maps() -> Tensor:
    """(40, 6, 3, 3), channels of different mean and deviation; the last is constant."""
    torch.manual_seed(0)
    values = torch.randn(40, 6, 3, 3) * torch.arange(6).view(6, 1, 1) + 100
    values[:, 5] = 7.0
    return values


@pytest.mark.parametrize(
    "head",
    [
        DenseHead((6, 3, 3), 4, hidden=[8], dropout=0.5, standardize=True),
        CSRAHead((6, 3, 3), 4, dropout=0.5, standardize=True),
        AttentionHead((6, 3, 3), 4, width=8, num_heads=2, standardize=True),
    ],
)
def test_batches_together_get_mean_0_and_deviation_1(head: nn.Module, maps: Tensor):
    fit_standardization(head.train(), maps.split(7))
    rows = maps.flatten(1) if isinstance(head, DenseHead) else maps
    made = found_in(head)(rows).transpose(0, 1).flatten(1)
    varying = rows.transpose(0, 1).flatten(1).std(1) > 0
    assert 0 < varying.sum() < len(varying)
    torch.testing.assert_close(made.mean(1), torch.zeros(len(made)), rtol=0, atol=1e-3)
    torch.testing.assert_close(made[varying].std(1, unbiased=False), torch.ones(int(varying.sum())))
    assert head.training
    assert not found_in(head)._forward_pre_hooks


def test_a_head_without_it_reads_no_batch():
    def batches():
        raise AssertionError("read")
        yield

    fit_standardization(DenseHead((6,), 3), batches())
    assert not any(isinstance(module, Standardization) for module in DenseHead((6,), 3).modules())


@pytest.mark.parametrize("batches", [[], [torch.full((2, 6), float("nan"))]])
def test_no_or_broken_features_are_refused(batches: list[Tensor]):
    with pytest.raises(ValueError, match="features of the training images"):
        fit_standardization(DenseHead((6,), 3, standardize=True), batches)

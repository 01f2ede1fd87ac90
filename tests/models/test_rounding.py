"""Rounding is that of a store, and passes gradients."""

import pytest
import torch

from mlic.errors import InputError
from mlic.models.rounding import Rounding


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_are_those_of_the_format(dtype: str):
    features = torch.randn(4, 3)
    rounded = Rounding(dtype)(features)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, features.to(getattr(torch, dtype)).float())
    assert not torch.equal(rounded, features)


def test_a_row_that_overflows_stays_as_it_is():
    features = torch.tensor([[1.0001, 2.0], [70_000.1, 1.0001]], requires_grad=True)
    rounded = Rounding("float16")(features)
    assert rounded.tolist() == [[1.0, 2.0], features[1].tolist()]
    rounded.sum().backward()
    assert torch.equal(features.grad, torch.ones(2, 2))  # pyright: ignore[reportArgumentType]


def test_gradients_pass():
    features = torch.randn(4, requires_grad=True)
    Rounding("float16")(features).sum().backward()
    assert torch.equal(features.grad, torch.ones(4))  # pyright: ignore[reportArgumentType]


def test_without_a_format_nothing_changes_and_others_are_refused():
    features = torch.randn(4)
    assert Rounding(None)(features) is features and Rounding("float32")(features) is features
    with pytest.raises(InputError, match=r"features\.dtype: must be one of float32"):
        Rounding("int8")

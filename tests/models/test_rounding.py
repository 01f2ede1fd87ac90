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


def test_gradients_pass():
    features = torch.randn(4, requires_grad=True)
    Rounding("float16")(features).sum().backward()
    assert torch.equal(features.grad, torch.ones(4))  # pyright: ignore[reportArgumentType]


def test_without_a_format_nothing_changes_and_others_are_refused():
    features = torch.randn(4)
    assert Rounding(None)(features) is features and Rounding("float32")(features) is features
    with pytest.raises(InputError, match=r"features\.dtype: 'int8' is none of float32"):
        Rounding("int8")

"""Features of a live backbone in the number format of a store."""

import torch
from torch import Tensor, nn

from mlic.errors import check_choice
from mlic.models.precision import DTYPES


class Rounding(nn.Module):
    """Rounds to a number format and back to float32, so that live and cached features are the same numbers.

    A row that overflows the format stays as it is, as in a store.
    """

    def __init__(self, dtype: str | None) -> None:
        """`float16`, `bfloat16` or `float32`, which changes nothing as None does.

        Raises:
            InputError: another format.
        """
        super().__init__()
        if dtype is not None:
            check_choice("features.dtype", dtype, DTYPES)
        self.dtype = DTYPES[dtype or "float32"]

    def forward(self, features: Tensor) -> Tensor:
        """Rows (B, ...), float -> the same shape, float32 where it was rounded; gradients pass as they are."""
        if self.dtype == torch.float32:
            return features
        rounded = features.to(self.dtype).float()
        fits = torch.isfinite(rounded).reshape(len(rounded), -1).all(dim=1)
        return torch.where(fits.view(-1, *[1] * (features.dim() - 1)), rounded, features.float())

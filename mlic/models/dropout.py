"""Dropout that is fast on the processor."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

LEVELS = 2**16  # of a random number; a mask takes 2 bytes a value


class FastDropout(nn.Module):
    """Equivalent to `nn.Dropout`, with other random numbers.

    PyTorch draws a number of 53 bits for each value, one after the other: half of a training step of a head on
    1,280 features. Here one draw of 64 bits serves four values. They are set to 0 with probability
    `round(p * 2**16) / 2**16`, and the others are divided by the complement of just that. On other devices this is
    `nn.Dropout`. The masks follow from `torch.manual_seed`, whatever the number of threads.
    """

    def __init__(self, p: float) -> None:
        """Set a share `p` in [0, 1) of the values to 0 in training."""
        super().__init__()
        self.p = p
        self.level = min(round(p * LEVELS), LEVELS - 1)

    def forward(self, input: Tensor) -> Tensor:
        """Floating point, any shape -> the same shape."""
        if not self.training or self.level == 0:
            return input
        if input.device.type != "cpu":
            return functional.dropout(input, self.p, training=True)
        kept = random_int16(input.shape) >= self.limit
        return input * kept.to(input.dtype).mul_(self.scale)

    @property
    def limit(self) -> int:
        """What is drawn from `random_int16` at or above it is kept."""
        return self.level - LEVELS // 2

    @property
    def scale(self) -> float:
        """Of the values that are kept."""
        return LEVELS / (LEVELS - self.level)

    def extra_repr(self) -> str:
        """For `print`."""
        return f"p={self.p}"


def random_int16(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """int16 of that shape, all 65,536 values equally likely, from torch's global generator."""
    count = prod(shape)
    # without a lower bound the sign bit of each 64 would stay 0
    draws = torch.empty((count + 3) // 4, dtype=torch.int64, device=device).random_(-(2**63), None)
    return draws.view(torch.int16)[:count].view(*shape)

"""torch.compile for a backbone, with a missing compiler told as such."""

from collections.abc import Callable

import torch
from torch import Tensor

from mlic.errors import InputError


def compiled(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`torch.compile(function)`: code for this machine, made at the first call, and again for other shapes.

    Raises:
        InputError: by the function returned, where code cannot be made, as without a C++ compiler or Triton.
    """
    # takes a second to import
    from torch._dynamo.exc import TorchDynamoException

    fast = torch.compile(function)

    def call(batch: Tensor) -> Tensor:
        try:
            return fast(batch)
        except TorchDynamoException as error:
            raise InputError(
                f"model.backbone.compile: torch.compile cannot make code for this network here ({_first_line(error)}). "
                "On a processor it needs a C++ compiler (g++; the environment variable CXX names another one), on CUDA "
                "Triton. Leave it out with model.backbone.compile=false."
            ) from error

    return call


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "inner_exception", error)
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__

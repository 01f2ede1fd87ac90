"""Selection of the number format of the frozen backbone for a device."""

import torch

from mlic.errors import check_choice

# of pixels and features; with int8, only the layers in between compute in integers
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.float32,
}


def has_native_bfloat16(device: torch.device) -> bool:
    """Return True if the device supports bfloat16 in hardware; emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capability = torch.cpu.get_capabilities()
        return bool(capability.get("avx512_bf16") or capability.get("amx_bf16") or capability.get("bf16"))
    return False


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto` to the fastest native format of the device.

    Args:
        precision: `auto`, `float32`, `bfloat16`, `float16` or `int8`, which is never chosen by `auto`.
        device: device of the backbone.

    Raises:
        InputError: the name is unknown.
    """
    # a tuple, because a list from a modified checkpoint is not hashable
    check_choice("model.backbone.precision", precision, ("auto", *DTYPES))
    if precision != "auto":
        return precision
    if has_native_bfloat16(device):
        return "bfloat16"
    # GPUs before Ampere have tensor cores for float16 alone
    return "float16" if device.type == "cuda" else "float32"

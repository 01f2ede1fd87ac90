"""The name of the machine on which times were measured."""

import os
import platform
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def describe_machine(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with its number of cores, such as "AMD EPYC 7763, 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores" if device.type == "cpu" else f"{name}, {device.type}"

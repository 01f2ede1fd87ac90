"""The name of the machine on which times were measured."""

import os

import torch

from mlic.models.engines import processor


def describe_machine(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with its number of cores, such as "AMD EPYC 7763, 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores" if device.type == "cpu" else f"{processor()}, {device.type}"

"""Tensors made one after the other take the same memory."""

import platform

import pytest
import torch

from mlic.process_settings import configure_process


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_large_tensor_made_again_costs_no_page_faults():
    import resource

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(16_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    configure_process()
    faults()
    assert min(faults() for _ in range(3)) < 1000  # of 15,625 pages

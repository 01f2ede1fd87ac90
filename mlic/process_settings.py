"""Settings of the whole process that make work on a CPU fast; the commands make them, nothing else does."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
LARGEST_INT = 2**31 - 1


def configure_process() -> None:
    """Set how threads wait and how freed memory is kept; to be called before torch is imported."""
    # Threads that spin while they wait hold up the others where another program uses one of the cores: steps of a
    # small head then took 10 times as long as with threads that sleep. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let this process use freed memory for the next tensors, instead of giving it back to the system.

    glibc maps each large tensor anew, and the system fills it with zeros, page by page: 230,000 page faults and half
    of the time of a forward pass of 32 images through efficientnet_lite2 on 2 cores (0.63 s, and 0.33 s without). To
    measure it again, time `python -m mlic.extract` with and without this call. Other C libraries need no such setting.
    The peak of memory stays what it is, and is kept until the process ends.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_INT)

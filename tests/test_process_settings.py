"""Memory that was freed is used again, without new pages from the system."""

import platform
import subprocess
import sys

import pytest

# The page faults of 64 MB (15,625 pages) that are allocated, written and freed four times, in a process of its own.
PROGRAM = """
import ctypes
import resource
from mlic.process_settings import configure_process

configure_process()
library = ctypes.CDLL(None)
library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = library.malloc(64_000_000)
    library.memset(place, 1, 64_000_000)
    library.free(place)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, *again = map(int, done.stdout.split())
    assert first > 10_000 and max(again) < 1000

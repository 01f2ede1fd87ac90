"""Memory that this process may still allocate."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes available without swapping; on Linux within the limit of the control group of the job."""
    for line in _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []:
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024, _left_in_group(_CGROUP))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**32


def _left_in_group(root: Path) -> int:
    try:
        own = root / Path("/proc/self/cgroup").read_text().strip().rpartition("::/")[2]
        return int((own / "memory.max").read_text()) - int((own / "memory.current").read_text())
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return 2**62

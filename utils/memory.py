"""Memory of the machine, and memory usage of this process."""

import os
import sys
from pathlib import Path

CONTAINER_LIMIT = Path('/sys/fs/cgroup/memory.max')


def process_memory(kind: str) -> int:
    """Return the memory of this process in bytes: 'VmRSS' now (Linux only), or 'VmHWM', its peak (on all systems)."""
    status = Path('/proc/self/status')
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    import resource  # imported here because Windows does not have it

    # In KiB, but in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def total_memory() -> float:
    """Return the memory in bytes that the machine, or the container, has; infinity if it is not known."""
    try:
        machine = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, ValueError, OSError):  # Windows
        return float('inf')
    try:
        return min(machine, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or 'max'
        return machine

"""Memory usage of this process."""

import sys
from pathlib import Path


def process_memory(kind: str) -> int:
    """Return the memory of this process in bytes: 'VmRSS' now (Linux only), or 'VmHWM', its peak (on all systems)."""
    status = Path('/proc/self/status')
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    import resource  # imported here because Windows does not have it

    # In KiB, but in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)

"""Memory of this process."""

import sys
from pathlib import Path


def process_memory(kind: str) -> int:
    """Return the memory of the process, in bytes: 'VmRSS' now, 'VmHWM' at most so far (this one outside Linux too)."""
    status = Path('/proc/self/status')
    if not status.exists():
        import resource  # there is none on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(kind))

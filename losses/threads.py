"""Number of threads for small operations on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SERIAL_ENTRIES = 2 ** 19  # matrix entries; to compute with so few takes less time than to wake threads for it


@contextmanager
def suitable_threads(entries: int, device: torch.device) -> Iterator[None]:
    """Run operations in one thread if their matrices are small, and then restore torch's number of threads.

    Torch splits every operation on more than 32,768 entries between its threads. Next to another program, or if waiting
    threads sleep, a thread takes longer to start than its part of such an operation.

    Args:
        entries: of the largest matrices, in all.
        device: of the operations.
    """
    threads = torch.get_num_threads()
    if device.type != 'cpu' or threads == 1 or entries > SERIAL_ENTRIES:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

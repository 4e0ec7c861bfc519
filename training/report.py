"""Report at the end of a run: optimizer steps, recordings that were not used, and memory."""

import logging
from collections.abc import Callable, Mapping, Sequence

import torch

from recordings.batches import Batch
from training.step import StepResult
from utils.errors import name_some
from utils.logging import get_logger
from utils.memory import process_memory

LOGGER = get_logger(__name__)
NO_STEP = 'never used because every step with them was skipped'


class RunReport:
    """Tracks which recordings a run has used.

    Args:
        training: handles of the training recordings.
        unused: reason -> handles that training cannot use, or cannot fully use, because of the data.
    """

    def __init__(self, training: Sequence[str] = (), unused: Mapping[str, Sequence[str]] | None = None) -> None:
        self._training, self._unused = list(training), dict(unused or {})
        self._used: set[str] = set()
        self._begun = False

    def add(self, batch: Batch, result: StepResult) -> None:
        """Record an optimizer step; a step that was skipped or had no loss term does not use its recordings."""
        self._begun = True
        if result.taken and result.terms.present:
            self._used.update(times['name'] for times in batch.times)

    def log(self, steps: int, skipped: int, all_gather: Callable[[object], list] = lambda value: [value]) -> None:
        """Log the report.

        Args:
            steps: optimizer steps taken.
            skipped: steps skipped.
            all_gather: returns the values of all processes of the run as a list.
        """
        # Collectives, called by all processes, although only the first one logs.
        used, memory = set().union(*all_gather(self._used)), max(all_gather(max_memory()))
        LOGGER.log(logging.WARNING if skipped else logging.INFO,
                   '%d steps taken, %d skipped because loss or gradient was not finite', steps, skipped)
        for reason, handles in self._reasons(used).items():
            LOGGER.info('%d recording%s %s: %s', len(handles), 's' if len(handles) > 1 else '', reason,
                        name_some(handles))
        LOGGER.info('max memory: %.0f MiB of %s', memory / 2**20, 'the GPU' if torch.cuda.is_initialized() else
                    'the process')

    def _reasons(self, used: set[str]) -> dict[str, Sequence[str]]:
        """Return reason -> handles, with the training recordings that no step has used if there was a step."""
        # A recording with a known reason is not reported a second time for lack of steps.
        explained = {handle for handles in self._unused.values() for handle in handles}
        # A run that is resumed after its last epoch takes no step, but its recordings were used before.
        idle = [handle for handle in self._training if handle not in used | explained] if self._begun else []
        return {**self._unused, **({NO_STEP: idle} if idle else {})}


def max_memory() -> int:
    """Return the peak memory so far, in bytes: of the GPU if a GPU is used, otherwise of the process."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else process_memory('VmHWM')

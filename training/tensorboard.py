"""Curves of a run in TensorBoard: losses, lambda, learning rates, gradient norms."""

from collections.abc import Mapping
from pathlib import Path

from training.history import COMPONENTS
from utils.errors import UserError

FOLDER = 'tensorboard'


class TensorBoardCurves:
    """Writes a point per epoch to each curve: the values of losses.csv, and gradient norms.

    Args:
        folder: folder of the run; None to write nothing.
        epochs_done: epochs that the run has completed; points of later epochs from an interrupted run are hidden.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None, epochs_done: int = 0) -> None:
        self._writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only this class needs it

            try:
                self._writer = SummaryWriter(str(folder / FOLDER), purge_step=epochs_done + 1)
            except OSError as error:
                raise UserError(f'{folder / FOLDER}: cannot be written ({error}); make it writable, or set TENSORBOARD '
                                'to false') from error

    def add(self, row: Mapping[str, float | None], learning_rates: Mapping[str, float],
            gradient_norms: Mapping[str, float]) -> None:
        """Add an epoch.

        Args:
            row: row of losses.csv; values that are None have no point.
            learning_rates: parameter group -> learning rate in the epoch.
            gradient_norms: parameter group -> mean gradient norm before clipping.
        """
        if self._writer is None:
            return
        # TensorBoard sorts groups by name, so losses come first.
        losses = {f'loss {part}/{name}': row[f'{part}_{name}'] for part in ('train', 'val')
                  for name in COMPONENTS}
        values = losses | {'schedule/lambda': row['lambda'], 'time/seconds per epoch': row['seconds']}
        values |= {f'schedule/learning rate {name}': rate for name, rate in learning_rates.items()}
        values |= {f'optimizer/gradient norm {name}': norm for name, norm in gradient_norms.items()}
        values |= {f'progress head/{name}': value for name, value in row.get('chosen', {}).items()}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, row['epoch'])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

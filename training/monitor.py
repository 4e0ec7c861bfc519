"""Monitoring of a training run: progress bar, skipped steps, gradient norms, log, TensorBoard, and final report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from recordings.batches import Batch, read_ahead
from training.distributed import SINGLE_PROCESS, World
from training.report import RunReport
from training.resume import RunState
from training.step import StepResult
from training.tensorboard import TensorBoardCurves
from utils.errors import UserError
from utils.logging import get_logger
from utils.loss_entry import get_progress_lambda

LOGGER = get_logger(__name__)
NEGLIGIBLE_PART = 0.01  # of the total loss; a smaller progress term hardly influences the encoder
SHOWN_LOSSES = ('total', 'alignment', 'progress')  # logged after each epoch


def name_recordings(batch: Batch) -> str:
    """Return the names of a batch's recordings and of their task."""
    names = ', '.join(times['name'] for times in batch.times)
    return f'{names} of task {batch.task}' if names else 'no recording'


class MeanNorms:
    """Mean norm of each parameter group's gradient over the steps of an epoch."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0

    def add(self, norms: Mapping[str, float]) -> None:
        """Add the gradient norms of an optimizer step: name of the group -> norm before clipping."""
        self._steps += 1
        for name, norm in norms.items():
            self._sums[name] = self._sums.get(name, 0.0) + norm

    def means(self) -> dict[str, float]:
        """Return name of the group -> mean norm; empty if no optimizer step was taken."""
        return {name: total / self._steps for name, total in self._sums.items()}


class Monitor:
    """Records the optimizer steps and epochs of a run, and ends the run if too many optimizer steps are skipped.

    Args:
        config: CONFIG of the run.
        state: state of the run; the monitor updates its step counts.
        folder: folder of the run, for TensorBoard curves; None to write no curves.
        report: report on the recordings that the run should use; None to report only steps and memory.
        world: processes of the run; only the first process logs and writes.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, config: Mapping, state: RunState, *, folder: Path | None = None,
                 report: RunReport | None = None, world: World = SINGLE_PROCESS) -> None:
        self._config, self._state, self._world = config, state, world
        self._report = report or RunReport()
        self._norms = MeanNorms()
        self._bar: tqdm | None = None
        self._curves = TensorBoardCurves(folder if config.TENSORBOARD and world.first else None, state.epochs_done)

    @contextmanager
    def progress_bar(self, loader: DataLoader, epoch: int) -> Iterator[Iterator[Batch]]:
        """Start an epoch (counted from 0) and return its batches with a progress bar."""
        self._norms = MeanNorms()
        with tqdm(read_ahead(loader), total=len(loader), desc=f'epoch {epoch + 1}/{self._config.NUM_EPOCHS}',
                  unit='batch', leave=False, disable=None if self._world.first else True) as self._bar:
            yield self._bar

    def step(self, batch: Batch, result: StepResult, module: nn.Module) -> None:
        """Record an optimizer step.

        Args:
            batch: batch of the step.
            result: result of the step.
            module: module that holds the gradients.

        Raises:
            UserError: more steps were skipped than MAX_SKIPPED_STEPS.
        """
        self._state.steps += result.taken  # True counts as 1
        self._report.add(batch, result)
        if not result.taken:
            self._skipped(batch, result, module)
            return
        self._norms.add(result.norms)
        if self._bar is not None:
            loss = float(result.terms['total_loss'].detach())
            # tqdm redraws at its own rate; a refresh at each step would slow down fast steps.
            self._bar.set_postfix(task=batch.task, loss=f'{loss:.4f}', refresh=False)

    def require_a_step(self) -> None:
        """Check after an epoch that the run has trained at all.

        Raises:
            UserError: every step of the run so far was skipped.
        """
        if self._state.skipped_steps and not self._state.steps:
            raise UserError(f'all {self._state.skipped_steps} steps skipped because loss or gradient was not finite, '
                            'so nothing is trained, expected finite losses; check the scale of the features '
                            '(tools.check), lower LEARNING_RATE, or set DETECT_ANOMALY to locate it')

    def epoch(self, row: Mapping[str, float | None], optimizer: torch.optim.Optimizer) -> None:
        """Log an epoch in one line and add it to the TensorBoard curves.

        Args:
            row: row of losses.csv.
            optimizer: optimizer with the learning rates of the epoch.
        """
        losses = [f'{part} ' + ' '.join(f'{name}_loss {row[f"{part}_{name}"]:.5g}' for name in SHOWN_LOSSES
                                        if row[f'{part}_{name}'] is not None)
                  for part in ('train', 'val') if row[f'{part}_total'] is not None]
        weight = f' | lambda {row["lambda"]:.4f}' if row['lambda'] is not None else ''
        LOGGER.info('epoch %d/%d%s | %s | %.1f s', row['epoch'], self._config.NUM_EPOCHS, weight, ' | '.join(losses),
                    row['seconds'])
        self._warn_of_negligible_progress(row)
        if chosen := row.get('chosen'):
            LOGGER.info('chosen by the progress head: %s',
                        ', '.join(f'{name} {value:.4g}' for name, value in chosen.items()))
        self._curves.add(row, {group['name']: group['lr'] for group in optimizer.param_groups}, self._norms.means())

    def _warn_of_negligible_progress(self, row: Mapping[str, float | None]) -> None:
        """Warn after the first epoch if the progress term is too small to influence the encoder, at any lambda."""
        settings, last = self._config.PROGRESS_LOSS, self._config.NUM_EPOCHS - 1
        alignment, progress = row['train_alignment'], row['train_progress']
        # A head fitted in closed form has no loss, and with detached embeddings its loss does not reach the encoder.
        if row['epoch'] > 1 or not alignment or not progress or settings.detach_embeddings:
            return
        weight = max(get_progress_lambda(epoch, last + 1, settings) for epoch in (0, last))
        # Solved for a part of a tenth, lambda is alignment / (9 progress), which the message recommends.
        part = weight * progress / (abs(alignment) + weight * progress)
        if part < NEGLIGIBLE_PART:
            LOGGER.warning('lambda x progress is %.2g %% of the total loss at the largest lambda, %.3g: the encoder '
                           'hardly learns from progress; raise PROGRESS_LOSS.coefficient or its curriculum, to about '
                           '%.2g for a tenth', 100 * part, weight, abs(alignment) / (9 * progress))

    def close(self) -> None:
        """Close the curves and log the report of the run; all processes must call this."""
        self._curves.close()
        self._report.log(self._state.steps, self._state.skipped_steps, self._world.all_gather)

    def _skipped(self, batch: Batch, result: StepResult, module: nn.Module) -> None:
        """Count an optimizer step whose loss or gradient was not finite; raises as :meth:`step` does."""
        self._state.skipped_steps += 1
        values = ', '.join(f'{name} {float(value.detach()):g}' for name, value in result.terms.items())
        # A collective: either all processes skip a step or no process does.
        parts = self._world.all_gather((name_recordings(batch), values))
        names = ' and '.join(names for names, _ in parts)
        LOGGER.warning('step skipped, loss or gradient not finite on %s', '; '.join(': '.join(part) for part in parts))
        for name, weight in module.named_parameters():
            if weight.grad is not None and not torch.isfinite(weight.grad).all():
                LOGGER.debug('gradient not finite: %s', name)
        count, limit = self._state.skipped_steps, self._config.MAX_SKIPPED_STEPS
        if count > limit:
            raise UserError(f'{count} steps skipped because loss or gradient was not finite, last on {names}; '
                            f'MAX_SKIPPED_STEPS allows {limit}; lower LEARNING_RATE, or set DETECT_ANOMALY to '
                            'locate it')

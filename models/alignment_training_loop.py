"""The training loop: per epoch train, fit, calibrate, validate, record, save.

``run_validation_epoch`` and ``plot_dual_losses`` can also be imported from this module.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.distributed import SINGLE_PROCESS, World
from training.epoch import run_validation_epoch, train_epoch
from training.head_stages import calibrate_head, fit_head
from training.history import History, total_of
from training.interrupt import StopRequest
from training.report import RunReport
from training.resume import LAST_NAME, RunState, random_states
from training.trainer import Trainer
from utils.ckpt_save import BEST_NAMES, ckpt_save, to_plain
from utils.files import read_json, remove_leftovers, write_json
from utils.logging import get_logger
from utils.loss_entry import LossTerms, get_progress_lambda
from utils.plotter import plot_dual_losses, plot_epoch_losses
from utils.run_folder import RunFolder

__all__ = ['alignment_training_loop', 'plot_dual_losses', 'run_validation_epoch']

LOGGER = get_logger(__name__)
DRAWING_INTERVAL = 5  # epochs between two pictures: drawing takes longer than an epoch of a small dataset
FIRST_EPOCH_KEPT = 5
LAST_EPOCHS_KEPT = 3


def alignment_training_loop(model: nn.Module, train_dl_dict: Mapping[str, DataLoader],
                            loss_fn: Callable[..., LossTerms], foldername: Path | str, CONFIG: Mapping,
                            val_dl_dict: Mapping[str, DataLoader] | None = None, *,
                            device: torch.device | str = 'cpu', resume: bool = False,
                            stop: StopRequest | None = None, report: RunReport | None = None,
                            world: World = SINGLE_PROCESS) -> History:
    """Train a model, and keep the checkpoints with the lowest total loss and the lowest alignment loss.

    Args:
        model: network that takes a list of videos and returns a dict with 'outputs'.
        train_dl_dict: task -> loader; batches of all tasks are shuffled together.
        loss_fn: return value of ``get_loss_function``.
        foldername: run folder; ``ckpt/``, losses.csv and the pictures are written to it.
        CONFIG: configuration of the run.
        val_dl_dict: task -> validation loader; if it is empty, the mean training losses select the best checkpoints.
        device: device to compute on.
        resume: continue from ``ckpt/last.pt``.
        stop: checked after each optimizer step and before each epoch; a pending request ends training there.
        report: what to log at the end; None: only optimizer steps and memory.
        world: processes of the run; the first process writes the files.

    Returns:
        The losses of every epoch.

    Raises:
        UserError: the loss or gradient was not finite in too many steps, or a file cannot be written.
        StoppedError: a signal asked the run to stop; ``ckpt/last.pt`` holds the last complete epoch.
    """
    trainer = Trainer(model, loss_fn, CONFIG, RunFolder(Path(foldername)), train_dl_dict, val_dl_dict or {},
                      device=device, world=world, stop=stop or StopRequest(), resume=resume, report=report)
    _prepare_folder(trainer)
    if not val_dl_dict:
        LOGGER.info('no validation recordings: the training losses select the best checkpoints')
    for epoch in range(trainer.state.epochs_done, CONFIG.NUM_EPOCHS):
        # A signal that arrived during validation or saving: without this check, another step would be taken first.
        trainer.stop.check()
        started = time.monotonic()
        train = train_epoch(trainer, epoch)
        # Before validation, so that the losses are those of the head that the checkpoints store.
        fit_head(trainer)
        # After fitting, because it needs the errors of the fitted head on recordings that it was not fitted on.
        calibrate_head(trainer)
        val = run_validation_epoch(model, trainer.val_loaders, loss_fn, epoch, CONFIG, device=device,
                                   shared=trainer.shared_validation)
        _record(trainer, epoch, train, val, time.monotonic() - started)
        _save(trainer, _selection_losses(train, val, CONFIG))
    trainer.monitor.close()
    return trainer.state.history


def _prepare_folder(trainer: Trainer) -> None:
    """Create the checkpoint folder; if a run is resumed, remove partial files and write the losses saved so far."""
    folder, state = trainer.folder, trainer.state
    if not trainer.world.first:
        return
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    if state.epochs_done:
        # A killed run may have saved last.pt without writing the tables that go with it.
        remove_leftovers(folder.checkpoints)
        remove_leftovers(folder.path)
        _store_epochs(folder, trainer.config.NUM_EPOCHS)
        _write_history(state, folder, last=state.epochs_done == trainer.config.NUM_EPOCHS)


def _store_epochs(folder: RunFolder, epochs: int) -> None:
    """Write the number of epochs to the stored configuration, because --resume may raise it."""
    stored = read_json(folder.config, 'the configuration that training stores') if folder.config.exists() else None
    if stored and stored.get('NUM_EPOCHS') != epochs:
        write_json(folder.config, {**stored, 'NUM_EPOCHS': epochs})


def _record(trainer: Trainer, epoch: int, train: Mapping[str, Tensor], val: Mapping[str, Tensor],
            seconds: float) -> None:
    """Add the losses of an epoch (counted from 0) to the history, and log them."""
    config, state = trainer.config, trainer.state
    weight = (get_progress_lambda(epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS) if config.PROGRESS_LOSS.enabled
              else None)
    head = getattr(trainer.model, 'progress_head', None)
    row = state.history.add(epoch + 1, weight, train, val, seconds, head.chosen() if head is not None else None)
    state.epochs_done = epoch + 1
    trainer.monitor.epoch(row, trainer.optimizer)


def _selection_losses(train: Mapping[str, Tensor], val: Mapping[str, Tensor], config: Mapping) -> dict[str, float]:
    """Return the loss that selects each type of best checkpoint.

    If a validation loss is missing, the mean training loss replaces it. The total is computed at the final lambda: with
    a rising lambda, later epochs could not have the lowest total. If every step of an epoch was skipped, the losses are
    infinite, so the epoch is never the best.
    """
    # A mean over validation batches replaces that over training batches, term by term.
    means = {**train, **val}
    if not means:
        return dict.fromkeys(BEST_NAMES, math.inf)
    weight = get_progress_lambda(config.NUM_EPOCHS - 1, config.NUM_EPOCHS, config.PROGRESS_LOSS)
    return {'combined': float(total_of(means, weight)), 'alignment': float(means['alignment_loss'])}


def _save(trainer: Trainer, losses: Mapping[str, float]) -> None:
    """Write the checkpoints of an epoch and the table of losses; all processes must call it.

    Checkpoints are: each best checkpoint that the epoch improves, the epoch's own if it is due, and ``last.pt``. Only
    ``last.pt`` can be resumed, so only it has the state of the optimizer, which is twice as large as the weights.

    Args:
        trainer: trainer of the run.
        losses: losses that select the best checkpoints, from :func:`_selection_losses`.
    """
    config, state, folder = trainer.config, trainer.state, trainer.folder
    random = trainer.world.all_gather(random_states())  # a collective: before the other processes return
    if not trainer.world.first:
        return

    def save(name: str, loss: float, *, resumable: bool = False, **more: object) -> None:
        ckpt_save(trainer.model, trainer.optimizer, state.epochs_done, loss, folder.checkpoints / name,
                  to_plain(config), resumable=resumable, **more)

    for kind, name in BEST_NAMES.items():
        # Strictly lower: of epochs with equal losses the first is kept, and NaN never wins.
        if losses[kind] < state.best[kind]:
            state.best[kind], state.best_epochs[kind] = losses[kind], state.epochs_done
            # Exactly 0 without such a loss: no alignment, or a head in closed form and no validation recordings.
            LOGGER.info(*(('New best %s loss: %.5g', kind.upper(), losses[kind]) if losses[kind] else
                          ('%s is of epoch %d: this run has no %s loss to compare epochs by', name, state.epochs_done,
                           kind)))
            save(name, losses[kind])
    if _is_kept(state.epochs_done, config.NUM_EPOCHS):
        save(f'epoch-{state.epochs_done}.pt', losses['combined'])
    # Last: a run that is killed before this line resumes at the epoch before, and writes the files above again.
    save(LAST_NAME, losses['combined'], resumable=True, **state.as_entries(random))
    _write_history(state, folder, last=state.epochs_done == config.NUM_EPOCHS)


def _is_kept(epoch: int, num_epochs: int) -> bool:
    """Return True if an epoch (counted from 1) has its own checkpoint: 5, 10, 20, 40, ..., and the last three.

    Weights change less and less, so the distances grow; a run of hundreds of epochs keeps about ten of them.
    """
    doublings = math.log2(epoch / FIRST_EPOCH_KEPT)
    return (doublings >= 0 and doublings.is_integer()) or epoch > num_epochs - LAST_EPOCHS_KEPT


def _write_history(state: RunState, folder: RunFolder, *, last: bool) -> None:
    """Write losses.csv and what the head chose, and every few epochs the pictures."""
    history = state.history
    history.write_csv(folder.losses)
    history.write_chosen(folder.chosen_weights)
    if not last and len(history.rows) % DRAWING_INTERVAL:
        return
    train, val = history.curves('train'), history.curves('val')
    plot_dual_losses(train, val, folder.path,
                     marked={f'best {kind}': epoch for kind, epoch in state.best_epochs.items()})
    plot_epoch_losses(train, 'Training losses per epoch', folder.path / 'train_loss_epochlevel.png')
    plot_epoch_losses(val, 'Validation losses per epoch', folder.path / 'val_loss_epochlevel.png')

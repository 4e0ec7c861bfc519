"""The public face of training: the loop over epochs, and what it is made of.

``run_validation_epoch`` and ``plot_dual_losses`` can be imported from here.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recordings.json_dataset import merge_loaders
from training.distributed import SINGLE_PROCESS, SharedValidation, World
from training.epoch import SkippedSteps, run_training_epoch, run_validation_epoch
from training.history import History, total_of
from training.interrupt import StopRequest
from training.report import RunReport
from training.resume import LAST_NAME, RunState, random_states, resume_run
from training.step import LossModule, MeanNorms, build_optimizer
from training.tensorboard import TensorBoardCurves
from utils.ckpt_save import BEST_NAMES, ckpt_save, to_plain
from utils.files import remove_leftovers
from utils.logging import get_logger
from utils.loss_entry import LossTerms, get_progress_lambda
from utils.plotter import plot_dual_losses, plot_epoch_losses
from utils.run_folder import RunFolder

__all__ = ['alignment_training_loop', 'plot_dual_losses', 'run_validation_epoch']

LOGGER = get_logger(__name__)
EPOCH_INTERVAL = 5  # every 5th epoch keeps its checkpoint, and so do the last ones
LAST_EPOCHS_KEPT = 3


def alignment_training_loop(model: nn.Module, train_dl_dict: Mapping[str, DataLoader],
                            loss_fn: Callable[..., LossTerms], foldername: Path | str, CONFIG: Mapping,
                            val_dl_dict: Mapping[str, DataLoader] | None = None, *,
                            device: torch.device | str = 'cpu', resume: bool = False,
                            stop: StopRequest | None = None, report: RunReport | None = None,
                            world: World = SINGLE_PROCESS) -> History:
    """Train a model, and keep the checkpoints with the lowest total and the lowest alignment loss.

    Args:
        model: network; takes a list of videos, returns a dict with 'outputs'.
        train_dl_dict: task -> loader; batches of all tasks are shuffled together.
        loss_fn: what ``get_loss_function`` returned.
        foldername: run folder, which takes ``ckpt/``, losses.csv and the pictures.
        CONFIG: configuration of the run.
        val_dl_dict: task -> validation loader; without any, the training means select.
        device: where to compute.
        resume: go on from ``ckpt/last.pt``.
        stop: asked after each step, and before each epoch, whether to stop there.
        report: what is logged at the end; None: steps and memory alone.
        world: the processes of the run; the first of them writes the files.

    Returns:
        The losses of every epoch.

    Raises:
        UserError: too many steps were not finite, or a file cannot be written.
        StoppedError: a signal asked the run to stop; ``ckpt/last.pt`` holds the last whole epoch.
    """
    folder = RunFolder(Path(foldername))
    if world.first:
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
    model.to(device)
    optimizer = build_optimizer(model, CONFIG.LEARNING_RATE, CONFIG.PROGRESS_LOSS.head_learning_rate,
                                CONFIG.WEIGHT_DECAY)
    state = RunState()
    if resume:
        state = resume_run(folder.checkpoints / LAST_NAME, model, optimizer, CONFIG, device, world)
        if world.first:
            _tidy_up(folder, state.history, done=state.epochs_done == CONFIG.NUM_EPOCHS)
    else:
        world.seed(CONFIG.SEED)
    module = world.wrap(LossModule(model, loss_fn, amp=CONFIG.AMP))
    loader = merge_loaders(train_dl_dict, CONFIG.BATCH_SIZE, seed=CONFIG.SEED, workers=CONFIG.WORKERS,
                           rank=world.rank, processes=world.count)
    shared = SharedValidation(processes)
    skipped = SkippedSteps(CONFIG.MAX_SKIPPED_STEPS, state.skipped_steps, world.all_gather)
    report = report or RunReport()
    report.steps = state.steps
    if not val_dl_dict:
        LOGGER.info('no validation recordings: the training losses select the best checkpoints')
    curves = TensorBoardCurves(folder.path if CONFIG.TENSORBOARD and world.first else None, state.epochs_done)
    for epoch in range(state.epochs_done, CONFIG.NUM_EPOCHS):
        if stop:
            stop.check()
        started, norms = time.monotonic(), MeanNorms()
        train = run_training_epoch(module, optimizer, loader, epoch, CONFIG, device=device, skipped=skipped,
                                   stop=stop, report=report, world=world, gradient_norms=norms)
        val = run_validation_epoch(model, val_dl_dict or {}, loss_fn, epoch, CONFIG, device=device, shared=shared)
        row = _finish_epoch(state, epoch, train, val, time.monotonic() - started, CONFIG)
        curves.add(row, {group['name']: group['lr'] for group in optimizer.param_groups}, norms.means())
        state.skipped_steps, state.steps = skipped.count, report.steps
        random = world.all_gather(random_states())
        if world.first:
            _save_checkpoints(model, optimizer, state, random, _selection_losses(train, val, CONFIG), folder, CONFIG)
            _write_history(state.history, folder, last=state.epochs_done == CONFIG.NUM_EPOCHS)
    curves.close()
    report.log(skipped.count, world.all_gather)
    return state.history


def _tidy_up(folder: RunFolder, history: History, *, done: bool) -> None:
    """Remove half-written files of a killed run, and write the losses that it had saved but not written."""
    remove_leftovers(folder.checkpoints)
    remove_leftovers(folder.path)
    _write_history(history, folder, last=done)


def _finish_epoch(state: RunState, epoch: int, train: Mapping[str, Tensor], val: Mapping[str, Tensor],
                  seconds: float, config: Mapping) -> dict:
    """Enter an epoch into the history, log it in one line, and return its row."""
    enabled = config.PROGRESS_LOSS.enabled
    weight = get_progress_lambda(epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS) if enabled else None
    row = state.history.add(epoch + 1, weight, train, val, seconds)
    state.epochs_done = epoch + 1
    losses = [f'{part} ' + ' '.join(f'{name}_loss {row[f"{part}_{name}"]:.5g}'
                                    for name in ('total', 'alignment', 'progress')
                                    if row[f'{part}_{name}'] is not None)
              for part, means in (('train', train), ('val', val)) if means]
    shown_weight = f' | lambda {weight:.4f}' if enabled else ''
    LOGGER.info('epoch %d/%d%s | %s | %.1f s', epoch + 1, config.NUM_EPOCHS, shown_weight, ' | '.join(losses), seconds)
    return row


def _selection_losses(train: Mapping[str, Tensor], val: Mapping[str, Tensor], config: Mapping) -> dict[str, float]:
    """Return the loss that each type of best checkpoint is chosen by.

    Training means stand in for missing validation ones, at the final lambda: with a rising one no later epoch could
    have the lowest total. An epoch of which every step was skipped has none and is never the best.
    """
    means = {**train, **val}
    if not means:
        return dict.fromkeys(BEST_NAMES, math.inf)
    weight = get_progress_lambda(config.NUM_EPOCHS - 1, config.NUM_EPOCHS, config.PROGRESS_LOSS)
    return {'combined': float(total_of(means, weight)), 'alignment': float(means['alignment_loss'])}


def _save_checkpoints(model: nn.Module, optimizer: torch.optim.Optimizer, state: RunState,
                      random: Sequence[Mapping], losses: Mapping[str, float], folder: RunFolder,
                      config: Mapping) -> None:
    """Write the best checkpoints that this epoch improves, its own where it is due, and the one to go on from."""
    def save(name: str, loss: float, **more: object) -> None:
        ckpt_save(model, optimizer, state.epochs_done, loss, folder.checkpoints / name, to_plain(config), **more)

    for kind, name in BEST_NAMES.items():
        if losses[kind] < state.best[kind]:
            state.best[kind] = losses[kind]
            LOGGER.info('New best %s loss: %.5g', kind.upper(), losses[kind])
            save(name, losses[kind])
    if state.epochs_done % EPOCH_INTERVAL == 0 or state.epochs_done > config.NUM_EPOCHS - LAST_EPOCHS_KEPT:
        save(f'epoch-{state.epochs_done}.pt', losses['combined'])
    save(LAST_NAME, losses['combined'], **state.as_entries(random))


def _write_history(history: History, folder: RunFolder, *, last: bool) -> None:
    """Write losses.csv, and the pictures every few epochs: drawing takes longer than an epoch of a small dataset."""
    history.write_csv(folder.losses)
    if not last and len(history.rows) % EPOCH_INTERVAL:
        return
    train, val = history.curves('train'), history.curves('val')
    plot_dual_losses(train, val, folder.path)
    plot_epoch_losses(train, 'Training losses per epoch', folder.path / 'train_loss_epochlevel.png')
    plot_epoch_losses(val, 'Validation losses per epoch', folder.path / 'val_loss_epochlevel.png')

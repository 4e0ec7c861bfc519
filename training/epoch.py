"""A pass over the data: training epochs, and validation epochs that are comparable with each other."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recordings.batches import to_device
from training.augmentation import augment_batch
from training.distributed import SINGLE_PROCESS, SharedValidation
from training.history import ComponentMeans
from training.monitor import name_recordings
from training.step import anomaly_detection, clip_limits, schedule_learning_rate, training_step
from training.trainer import Trainer
from utils.logging import get_logger
from utils.loss_entry import LossTerms, get_progress_lambda
from utils.tensorops import seeded_draws

LOGGER = get_logger(__name__)
VALIDATION_SEED_OFFSET = 1_000_003  # separates the random draws of validation from those of training


def train_epoch(trainer: Trainer, epoch: int) -> dict[str, Tensor]:
    """Train on every batch once.

    Args:
        trainer: of the run.
        epoch: counted from 0.

    Returns:
        Means of the loss terms over the batches of all processes, the total formed with the epoch's lambda.

    Raises:
        StoppedError: a signal asked the run to stop.
        UserError: too many steps or all of them were not finite, or DETECT_ANOMALY located a value that is not finite.
    """
    config, module, world = trainer.config, trainer.module, trainer.world
    module.train()
    # The order of batches depends on seed and epoch alone, so a resumed run continues with the same batches.
    trainer.loader.batch_sampler.epoch = epoch
    schedule_learning_rate(trainer.optimizer, config.LEARNING_RATE_SCHEDULE, epoch, config.NUM_EPOCHS)
    limits, weigh = clip_limits(config), world.weigh_loss if world.count > 1 else None
    means = ComponentMeans()
    with trainer.monitor.progress_bar(trainer.loader, epoch) as batches:
        for batch in batches:
            videos, times = augment_batch(to_device(batch.videos, trainer.device), batch.times, config.AUGMENTATION)
            with anomaly_detection(module, name_recordings(batch)) if config.DETECT_ANOMALY else nullcontext():
                result = training_step(module, trainer.optimizer, videos, times, epoch, limits, weigh)
            # The terms of a skipped step may be NaN, which would spoil the means of the epoch.
            if result.taken:
                means.add(result.terms)
            trainer.monitor.step(batch, result, module)
            # Between two steps, so that all processes stop with the same weights.
            trainer.stop.check()
    trainer.monitor.require_a_step()
    # Every process has seen other batches; the means are over all of them.
    means.merge(world.all_gather)
    return means.means(get_progress_lambda(epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS))


@torch.no_grad()
def run_validation_epoch(model: nn.Module, val_dl_dict: Mapping[str, DataLoader], loss_fn: Callable[..., LossTerms],
                         epoch: int, config: Mapping, *, device: torch.device | str = 'cpu',
                         shared: SharedValidation | None = None) -> dict[str, Tensor]:
    """Compute the mean losses on the validation recordings, comparable from epoch to epoch.

    Every random draw is seeded, and losses are computed as in the final epoch: with its lambda, and with the final
    floor of GTCC's drop weights. The model is not changed.

    Args:
        model: network; its mode is restored.
        val_dl_dict: task -> loader in a fixed order, from ``make_validation_loaders``.
        loss_fn: from ``get_loss_function``.
        epoch: counted from 0; named in the debug log only.
        config: CONFIG of the run.
        device: device to compute on.
        shared: distributes the batches if the run has several processes.

    Returns:
        Name of the term -> mean () over the batches that have the term; 'total_loss' is computed from the means. Empty
        if there are no validation recordings.
    """
    shared = shared or SharedValidation(SINGLE_PROCESS)
    was_training = model.training
    # A head that is fitted in closed form computes its loss in evaluation mode only.
    model.eval()
    # The final epoch: losses with a schedule would otherwise fall or rise with it, and epochs could not be compared.
    final_epoch = config.NUM_EPOCHS - 1
    means = ComponentMeans()
    # The same draws in every epoch, so that luck does not select the best checkpoint.
    with seeded_draws(config.SEED + VALIDATION_SEED_OFFSET):
        for batch in shared.batches(val_dl_dict):
            means.add(loss_fn(model(to_device(batch.videos, device)), final_epoch, times=batch.times))
    model.train(was_training)
    means.merge(shared.world.all_gather)
    weight = get_progress_lambda(final_epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS)
    result = means.means(weight)
    LOGGER.debug('validation after epoch %d: %s', epoch + 1, {name: float(value) for name, value in result.items()})
    return result

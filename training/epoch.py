"""One pass over the data: a training epoch, and a validation epoch that can be compared with any other."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from models.heads.steps import CONTENT_WEIGHTS
from recordings.json_dataset import Batch, read_ahead, to_device
from training.anomaly import anomaly_detection
from training.augmentation import augment_batch
from training.distributed import ALONE, Processes, SharedValidation
from training.history import ComponentMeans, total_of
from training.interrupt import StopRequest
from training.report import RunReport
from training.step import LossModule, MeanNorms, clip_limits, schedule_learning_rate, training_step
from utils.errors import UserError
from utils.logging import get_logger
from utils.loss_entry import LossTerms, content_term, get_progress_lambda
from utils.tensorops import seeded_draws

LOGGER = get_logger(__name__)
VALIDATION_SEED_OFFSET = 1_000_003  # keeps the draws of validation apart from those of training


class SkippedSteps:
    """Counts steps whose loss or gradient was not finite, and ends the run past a limit.

    Args:
        limit: most steps that may be skipped.
        count: steps skipped so far.
        gather: brings together what the processes of the run hold, in a list.
    """

    def __init__(self, limit: int, count: int = 0, gather: Callable[[object], list] = lambda value: [value]) -> None:
        self.limit, self.count, self._gather = limit, count, gather

    def add(self, batch: Batch, terms: LossTerms, module: nn.Module) -> None:
        """Count one skipped step.

        Raises:
            UserError: more steps were skipped than the limit.
        """
        self.count += 1
        values = ', '.join(f'{name} {float(value.detach()):g}' for name, value in terms.items())
        steps = self._gather((name_recordings(batch), values))
        names = ' and '.join(names for names, _ in steps)
        LOGGER.warning('step skipped, loss or gradient not finite on %s', '; '.join(': '.join(step) for step in steps))
        for name, weight in module.named_parameters():
            if weight.grad is not None and not torch.isfinite(weight.grad).all():
                LOGGER.debug('gradient not finite: %s', name)
        if self.count > self.limit:
            raise UserError(f'{self.count} steps skipped because loss or gradient was not finite, last on {names}; '
                            f'MAX_SKIPPED_STEPS allows {self.limit}; lower LEARNING_RATE, or set '
                            'DETECT_ANOMALY to locate it')


def name_recordings(batch: Batch) -> str:
    """Name a batch's recordings and their task."""
    names = ', '.join(times['name'] for times in batch.times)
    return f'{names} of task {batch.task}' if names else 'no recording'


def run_training_epoch(module: LossModule, optimizer: torch.optim.Optimizer, loader: DataLoader, epoch: int,
                       config: Mapping, *, device: torch.device | str, skipped: SkippedSteps,
                       stop: StopRequest | None = None, report: RunReport | None = None,
                       processes: Processes = ALONE, gradient_norms: MeanNorms | None = None) -> dict[str, Tensor]:
    """Train on every batch once.

    Args:
        module: model and loss, wrapped where the run has several processes.
        optimizer: from ``build_optimizer``.
        loader: from ``merge_loaders``.
        epoch: counted from 0.
        config: a CONFIG.
        device: where to compute.
        skipped: counter of the run.
        stop: asked after each step whether to stop there.
        report: told of each step.
        processes: of the run.
        gradient_norms: takes the norms of each step.

    Returns:
        Means of the loss terms over the batches of all processes, the total formed with the epoch's lambda.

    Raises:
        StoppedError: a signal asked the run to stop.
        UserError: too many steps were not finite, or --detect_anomaly found the place.
    """
    module.train()
    loader.batch_sampler.epoch = epoch
    schedule_learning_rate(optimizer, config.LEARNING_RATE_SCHEDULE, epoch, config.NUM_EPOCHS)
    limits = clip_limits(config)
    share = processes.share_of_mean if processes.count > 1 else None
    means = ComponentMeans()
    with tqdm(read_ahead(loader), total=len(loader), desc=f'epoch {epoch + 1}/{config.NUM_EPOCHS}', unit='batch',
              leave=False, disable=None if processes.first else True) as batches:
        for batch in batches:
            videos, times = augment_batch(to_device(batch.videos, device), batch.times, config.AUGMENTATION)
            with (anomaly_detection(module, name_recordings(batch)) if config.DETECT_ANOMALY else nullcontext()):
                terms, taken = training_step(module, optimizer, videos, times, epoch, limits, share,
                                             gradient_norms)
            if taken:
                means.add(terms)
                batches.set_postfix(task=batch.task, loss=f'{float(terms["total_loss"].detach()):.4f}', refresh=False)
            else:
                skipped.add(batch, terms, module)
            if report:
                report.add(batch, terms, taken=taken)
            if stop:
                stop.check()
    means.merge(processes.gather)
    return means.means(get_progress_lambda(epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS))


@torch.no_grad()
def run_validation_epoch(model: nn.Module, val_dl_dict: Mapping[str, DataLoader], loss_fn: Callable[..., LossTerms],
                         epoch: int, config: Mapping, *, device: torch.device | str = 'cpu',
                         shared: SharedValidation | None = None) -> dict[str, Tensor]:
    """Compute the mean losses on the validation recordings, comparable from epoch to epoch.

    Every draw is seeded, and the losses get the final epoch: its lambda, and the final floor of GTCC's drop weights. A
    content head gets the weight at which the progress loss is lowest.

    Args:
        model: network; its mode is given back.
        val_dl_dict: task -> loader in a fixed order, from ``make_validation_loaders``.
        loss_fn: what ``get_loss_function`` returned.
        epoch: counted from 0; named in the debug log only.
        config: a CONFIG.
        device: where to compute.
        shared: deals the batches out where the run has several processes.

    Returns:
        Name of the term -> mean over the batches that have it, 0-d; 'total_loss' is formed from the means. Empty
        where there is nothing to validate on.
    """
    shared = shared or SharedValidation(ALONE)
    was_training = model.training
    model.eval()
    final_epoch = config.NUM_EPOCHS - 1
    means = ComponentMeans()
    with seeded_draws(config.SEED + VALIDATION_SEED_OFFSET):
        for batch in shared.batches(val_dl_dict):
            means.add(loss_fn(model(to_device(batch.videos, device)), final_epoch, times=batch.times))
    model.train(was_training)
    means.merge(shared.processes.gather)
    weight = get_progress_lambda(final_epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS)
    result = choose_content_weight(model, means.means(weight), weight)
    LOGGER.debug('validation after epoch %d: %s', epoch + 1, {name: float(value) for name, value in result.items()})
    return result


def choose_content_weight(model: nn.Module, means: Mapping[str, Tensor], progress_weight: float) -> dict[str, Tensor]:
    """Set the weight of the model's content head to the one of the lowest progress loss, the smallest of equal ones.

    Args:
        model: network; one without a content head is left alone.
        means: of the loss terms, as validation computes them.
        progress_weight: lambda.

    Returns:
        The means with the progress loss and the total at that weight, without those at others.
    """
    at_weights = {weight: means[content_term(weight)] for weight in CONTENT_WEIGHTS if content_term(weight) in means}
    result = {name: mean for name, mean in means.items() if name not in map(content_term, at_weights)}
    if at_weights:
        best = min(at_weights, key=lambda weight: float(at_weights[weight]))
        model.progress_head.content_weight.fill_(best)
        result['progress_loss'] = at_weights[best]
        result['total_loss'] = total_of(result, progress_weight)
    return result

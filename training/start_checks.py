"""Say at the start of a run what cannot work: nothing to align, too few steps, a progress loss that does not count."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.utils.data import DataLoader

from recordings.batches import collate, to_device
from utils.logging import get_logger
from utils.loss_entry import LossTerms, get_progress_lambda
from utils.tensorops import seeded_draws

LOGGER = get_logger(__name__)
FEW_STEPS = 300  # an encoder hardly leaves its initial weights in fewer steps at the default learning rate
LEAST_SHARE = 0.01  # of the total loss; below it the encoder does not listen to progress
GOOD_SHARE = 0.1
MOST_FRAMES = 2000  # of the two recordings of the probe
PROBE_SEED_OFFSET = 3_000_017  # separates the draws of the probe from those of training


def warn_of_start(model: nn.Module, loss_fn: Callable[..., LossTerms], train: Mapping[str, DataLoader],
                  val: Mapping[str, DataLoader], config: Mapping, device: torch.device | str) -> None:
    """Log a warning, with the option that fixes it, for each reason why a run cannot learn what it should.

    A model without trainable weights (features as embeddings, and a head that is fitted in closed form) needs neither
    steps nor validation recordings. A head with neither weights nor a ``fit`` cannot learn.

    Args:
        model: network of the run, not yet trained.
        loss_fn: from ``get_loss_function``.
        train: task -> loader, from ``make_train_loaders``.
        val: task -> loader, from ``make_validation_loaders``; empty without validation recordings.
        config: CONFIG of the run.
        device: device to compute on.
    """
    head = getattr(model, 'progress_head', None)
    if head is not None and not head.fits_embeddings and not any(True for _ in head.parameters()):
        LOGGER.warning('the progress head %s has no weights and no method fit, so it learns nothing from the training '
                       'recordings: give it one of them, see docs/extending.md', type(head).__name__)
    if not any(weight.requires_grad for weight in model.parameters()):
        return
    sizes = [len(loader.dataset) for loader in train.values()]
    steps = config.NUM_EPOCHS * sum(-(-size // config.BATCH_SIZE) for size in sizes)
    found = [_few_steps(steps, config), None if val else (
        'there are no validation recordings, so the training losses select the best checkpoints: name some with '
        '--splits, or raise the second fraction of TRAIN_SPLIT')]
    if config.ALIGNMENT_WEIGHT and not config.FREEZE_ENCODER:
        found.append(_nothing_to_align(sizes, config) or (
            _unheard_progress(_probe(model, loss_fn, train, config, device), config)
            if config.PROGRESS_LOSS.enabled and not config.PROGRESS_LOSS.detach_embeddings else None))
    if config.PROGRESS_LOSS.enabled and not any(one.actions for loader in train.values()
                                                for one in loader.dataset.recordings):
        found.append('the training recordings contain no action, so there is no progress to learn: check the '
                     'annotations and BACKGROUND_LABELS, or leave --progress out')
    for warning in filter(None, found):
        LOGGER.warning('%s', warning)


def _nothing_to_align(sizes: list[int], config: Mapping) -> str | None:
    """Return a warning if no batch has two recordings, although there is an alignment loss."""
    if config.BATCH_SIZE > 1 and max(sizes) > 1:
        return None
    consequence = 'only the progress loss trains' if config.PROGRESS_LOSS.enabled else 'nothing is trained'
    if config.BATCH_SIZE == 1:
        return (f'BATCH_SIZE is 1: the alignment loss compares recordings of a batch and is always 0, so {consequence};'
                ' give --batch_size 2 or more')
    return ('no task has two training recordings: the alignment loss compares recordings of a task and is always 0, so '
            f'{consequence}; add recordings, or move some to "train" in --splits')


def _few_steps(steps: int, config: Mapping) -> str | None:
    if steps >= FEW_STEPS:
        return None
    needed = -(-FEW_STEPS * config.NUM_EPOCHS // steps)
    return (f'the run takes only {steps} optimizer steps in all ({config.NUM_EPOCHS} epochs), and an encoder needs '
            f'some hundred: give --epochs {needed} or more')


def _probe(model: nn.Module, loss_fn: Callable[..., LossTerms], train: Mapping[str, DataLoader], config: Mapping,
           device: torch.device | str) -> LossTerms | None:
    """Return the loss terms of the shortest two recordings of a task, before training; changes no state.

    None if the two are long: the probe must neither take long nor exceed the memory.
    """
    task = max(train, key=lambda name: len(train[name].dataset))
    dataset = train[task].dataset
    # The shortest ones, because the probe is to take no noticeable time.
    order = sorted(range(len(dataset)), key=lambda index: dataset.recordings[index].num_frames)
    frames = sum(dataset.recordings[index].num_frames for index in order[:2])
    if model.base_model.input_axes != 'TD' or frames > MOST_FRAMES:
        return None
    batch = collate([dataset[index] for index in order[:2]])
    was_training = model.training
    model.to(device).eval()
    # Seeded, so that a run draws the same numbers with and without the probe.
    with torch.no_grad(), seeded_draws(config.SEED + PROBE_SEED_OFFSET):
        terms = loss_fn(model(to_device(batch.videos, device)), config.NUM_EPOCHS - 1, times=batch.times)
    model.train(was_training)
    return terms


def _unheard_progress(terms: LossTerms | None, config: Mapping) -> str | None:
    """Return a warning if lambda times the progress loss is a negligible part of the total loss."""
    if terms is None:
        return None
    weight = get_progress_lambda(config.NUM_EPOCHS - 1, config.NUM_EPOCHS, config.PROGRESS_LOSS)
    alignment, progress = (float(terms[f'{name}_loss']) for name in ('alignment', 'progress'))
    if not progress > 0 or not alignment > 0:  # no action, or not finite
        return None
    share = weight * progress / (alignment + weight * progress)
    if share >= LEAST_SHARE:
        return None
    # The lambda at which lambda progress / (alignment + lambda progress) is GOOD_SHARE.
    needed = GOOD_SHARE * alignment / ((1 - GOOD_SHARE) * progress)
    return (f'lambda times the progress loss is {share:.1%} of the total loss on a first batch, so the encoder will '
            f'not learn from progress; give --progress_lambda {needed:.2g} for a tenth')

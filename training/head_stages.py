"""Stages of an epoch that fit and calibrate the progress head on whole recordings."""

from collections.abc import Mapping, Sequence

import torch
from torch.utils.data import ConcatDataset, DataLoader

from models.heads.base import EmbeddedRecording, ProgressHeadBase
from recordings.batches import make_loader, read_ahead, to_device
from training.trainer import Trainer
from utils.loss_entry import PENALTIES
from utils.tensorops import seeded_draws

STAGE_SEED_OFFSET = 2_000_003  # separates the random draws of a head from those of training and validation


def fit_head(trainer: Trainer) -> None:
    """Fit the progress head to the training recordings in closed form if the head supports it."""
    head = _head_of(trainer)
    if head is not None and head.fits_embeddings:
        recordings = embed_recordings(trainer, trainer.train_loaders)
        # Draws of the head are the same in every epoch, and do not shift the draws of training.
        with seeded_draws(trainer.config.SEED + STAGE_SEED_OFFSET):
            head.fit(recordings)
        # All processes fit to the same recordings, but may differ by rounding.
        trainer.world.copy_from_first(head)


def calibrate_head(trainer: Trainer) -> None:
    """Calibrate the progress head on the validation recordings if the head supports it."""
    head = _head_of(trainer)
    if head is not None and head.calibrates:
        recordings = embed_recordings(trainer, trainer.val_loaders)
        with seeded_draws(trainer.config.SEED + STAGE_SEED_OFFSET):
            head.calibrate(recordings, PENALTIES[trainer.config.PROGRESS_LOSS.loss_type])
        trainer.world.copy_from_first(head)


def _head_of(trainer: Trainer) -> ProgressHeadBase | None:
    """Return the progress head; None if the model has none."""
    return getattr(trainer.model, 'progress_head', None)


@torch.no_grad()
def embed_recordings(trainer: Trainer, loaders: Mapping[str, DataLoader]) -> list[EmbeddedRecording]:
    """Embed all annotated recordings of the loaders, each on its own; the processes of the run divide the work.

    Args:
        trainer: state of the run; its model is left in evaluation mode.
        loaders: task -> loader; only its dataset is used.

    Returns:
        The recordings in the order of the datasets, the same in every process, with embeddings on the run's device.
    """
    world, device = trainer.world, trainer.device
    dataset = ConcatDataset([loader.dataset for loader in loaders.values()]) if loaders else []
    members = [recording for loader in loaders.values() for recording in loader.dataset.recordings]
    # A recording that fills up a validation batch has no annotation.
    annotated = [index for index, recording in enumerate(members) if recording.segments]
    trainer.model.eval()
    own = []
    indices = annotated[world.rank::world.count]  # every count-th recording
    for index, batch in zip(indices, read_ahead(make_loader(dataset, [[index] for index in indices])), strict=True):
        # on the CPU: sent to other processes
        embeddings = trainer.model(to_device(batch.videos, device))['outputs'][0].float().cpu()  # (T, E)
        recording = members[index]
        own.append(EmbeddedRecording(recording.task, recording.handle, embeddings, list(recording.actions),
                                     recording.group))
    return [recording._replace(embeddings=recording.embeddings.to(device))
            for recording in _in_order(world.all_gather(own))]


def _in_order(parts: Sequence[Sequence[EmbeddedRecording]]) -> list[EmbeddedRecording]:
    """Interleave the recordings of the processes: the first of each process, then the second of each, and so on."""
    return [part[position] for position in range(len(parts[0])) for part in parts if position < len(part)]

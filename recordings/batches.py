"""Batches of recordings of one task, and the loaders that read them."""

import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from recordings.json_dataset import Recording, RecordingDataset
from utils.errors import UserError


class Batch(NamedTuple):
    """Recordings of one task: features (T_i, D) or frames (T_i, C, H, W) in files, and ``times``."""

    videos: list
    times: list[dict]
    task: str


def to_device(videos: list, device: torch.device | str) -> list:
    """Move features to a device; frames in files are not moved, because the encoder reads them in chunks."""
    return [video.to(device, non_blocking=True) if isinstance(video, Tensor) else video for video in videos]


def collate(samples: Sequence[tuple]) -> Batch:
    """Collate recordings of one task into a batch without padding. No recordings give an empty batch of task ''."""
    return Batch([features for features, _, _ in samples], [times for _, times, _ in samples],
                 samples[0][2] if samples else '')


class TaskBatchSampler(Sampler[list[int]]):
    """Yield batches of one task each; batches of all tasks are shuffled together, in a new order each epoch.

    The last batch of a task is filled up with other recordings of the task; if a task has only one recording, its
    batches have one recording. Batches are distributed over the processes, the same number to each: if they do not
    divide evenly, the last batch of some processes is empty.

    Args:
        tasks: indices of each task's recordings.
        batch_size: number of recordings in a batch.
        seed: seed of the order; the same seed and epoch give the same batches.
        rank: index of this process.
        processes: number of processes.
    """

    def __init__(self, tasks: Sequence[Sequence[int]], batch_size: int, *, seed: int, rank: int = 0,
                 processes: int = 1) -> None:
        self._tasks, self._batch_size, self._seed = [list(task) for task in tasks], batch_size, seed
        self._rank, self._processes = rank, processes
        self.epoch = 0

    def __len__(self) -> int:
        # -(-a // b) is a / b, rounded up: batches per task, then batches per process.
        return -(-sum(-(-len(task) // self._batch_size) for task in self._tasks) // self._processes)

    def __iter__(self) -> Iterator[list[int]]:
        # A generator of its own: other draws must not change the order, so that a resumed run gets the same batches.
        draw = random.Random(f'{self._seed}/{self.epoch}')
        # First batches of one task each, then their order: losses align recordings of the same task only.
        batches = [batch for task in self._tasks for batch in self._batches_of(task, draw)]
        draw.shuffle(batches)
        # All processes must take the same number of optimizer steps: an empty batch replaces a missing one.
        own = batches[self._rank::self._processes]
        yield from own + [[]] * (len(self) - len(own))

    def _batches_of(self, task: list[int], draw: random.Random) -> list[list[int]]:
        order = draw.sample(task, len(task))
        batches = [order[start:start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        missing = self._batch_size - len(batches[-1])
        # Fill up with other recordings of the task, as a batch of one could not be aligned.
        others = order[:-len(batches[-1])]
        batches[-1] += draw.sample(others, min(missing, len(others)))
        return batches


def make_loader(dataset: Dataset, batches: Sampler[list[int]] | list[list[int]], workers: int = 0) -> DataLoader:
    """Return a loader of the given batches that does not use torch's global random generator."""
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=workers,
                      persistent_workers=workers > 0, generator=torch.Generator().manual_seed(0),
                      worker_init_fn=_ignore_interrupts)


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C in a worker: the terminal sends it to every process, but only the training process handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_train_loaders(recordings: Mapping[str, Sequence[Recording]], batch_size: int, *, seed: int,
                       **reading: bool | int) -> dict[str, DataLoader]:
    """Return one shuffled loader per task.

    Args:
        recordings: task -> its training recordings.
        batch_size: number of recordings in a batch.
        seed: seed of the order.
        **reading: passed to :class:`RecordingDataset`.
    """
    loaders = {}
    for task, members in recordings.items():
        sampler = TaskBatchSampler([range(len(members))], batch_size, seed=seed)
        loaders[task] = make_loader(RecordingDataset(members, **reading), sampler)
    return loaders


def make_validation_loaders(val: Mapping[str, Sequence[Recording]], train: Mapping[str, Sequence[Recording]],
                            batch_size: int, **reading: bool | int) -> dict[str, DataLoader]:
    """Return one loader per task that has validation recordings, in a fixed order.

    The last batch of a task is filled up with the task's first recordings; if there is only one validation recording,
    it is paired with the task's first training recording. Recordings that fill up a batch have no segments: they are
    used for alignment but do not count in the progress loss.

    Args:
        val: task -> its validation recordings.
        train: task -> its training recordings.
        batch_size: number of recordings in a batch.
        **reading: passed to :class:`RecordingDataset`.
    """
    size = max(batch_size, 2)  # a single recording cannot be aligned
    loaders = {}
    for task, members in val.items():
        if not members:
            continue
        fillers = [replace(recording, segments=(), actions=()) for recording in [*members, *train[task]][:size]]
        batches = [list(range(start, min(start + size, len(members)))) for start in range(0, len(members), size)]
        present = {members[index].handle for index in batches[-1]}
        spare = [len(members) + position for position, filler in enumerate(fillers) if filler.handle not in present]
        batches[-1] += spare[:size - len(batches[-1])]
        loaders[task] = make_loader(RecordingDataset([*members, *fillers], **reading), batches)
    return loaders


def merge_loaders(loaders: Mapping[str, DataLoader], batch_size: int, *, seed: int, workers: int = 0, rank: int = 0,
                  processes: int = 1) -> DataLoader:
    """Return one loader over the recordings of all tasks; set ``loader.batch_sampler.epoch`` before each epoch.

    Args:
        loaders: task -> loader; only its dataset is used.
        batch_size: number of recordings in a batch.
        seed: seed of the order.
        workers: number of loader processes.
        rank: index of this process of the run.
        processes: number of processes that the batches are distributed over.
    """
    datasets = [loader.dataset for loader in loaders.values()]
    # Positions in the concatenated dataset: a task has those from the previous task's end to its own.
    ends = np.cumsum([len(dataset) for dataset in datasets]).tolist()
    tasks = [range(end - len(dataset), end) for end, dataset in zip(ends, datasets, strict=True)]
    sampler = TaskBatchSampler(tasks, batch_size, seed=seed, rank=rank, processes=processes)
    return make_loader(ConcatDataset(datasets), sampler, workers)


def read_ahead(loader: DataLoader) -> Iterator[Batch]:
    """Yield the loader's batches; a thread reads the next batch while the caller computes."""
    if loader.num_workers:
        try:
            yield from loader
        except UserError as error:
            # An error of a worker arrives wrapped in the worker's traceback; its message is the last line.
            raise UserError(str(error).rpartition('UserError: ')[2].strip()) from error
        return
    iterator = iter(loader)
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = reader.submit(next, iterator, None)
        while (batch := upcoming.result()) is not None:
            upcoming = reader.submit(next, iterator, None)
            yield batch

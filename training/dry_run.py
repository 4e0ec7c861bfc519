"""Estimate time and memory of a run from training steps on its smallest and its largest batch."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from recordings.batches import Batch, collate, to_device
from recordings.json_dataset import RecordingDataset
from training.augmentation import augment_batch
from training.step import LossModule, build_optimizer, clip_limits, training_step
from utils.command_line import is_out_of_memory
from utils.errors import UserError
from utils.loss_entry import LossTerms
from utils.memory import process_memory

MIB = 2 ** 20
Loaders = Mapping[str, DataLoader]
ChosenBatch = tuple[str, list[int]]  # a task, and positions in its dataset


class Step(NamedTuple):
    """A training step: its loss terms, True if it was taken, seconds to read the batch, and seconds to compute."""

    terms: LossTerms
    taken: bool
    reading: float
    seconds: float


class Forward(NamedTuple):
    """A validation step: the output of the model, and the seconds to compute model and loss."""

    output: Mapping
    seconds: float


def dry_run(model: nn.Module, loss_fn: Callable[..., LossTerms], train: Loaders, val: Loaders, config: Mapping,
            device: torch.device) -> str:
    """Run training steps on the largest batch of a run, and describe the time and memory that the run would take.

    Steps on the smallest batch run first: the first of them triggers lazy compilation, the others show how time grows
    with frames. The faster of two steps counts. Nothing is written; the weights of the given model are changed.

    Args:
        model: network of the run.
        loss_fn: from ``get_loss_function``.
        train: task -> loader, from ``make_train_loaders``.
        val: task -> loader, from ``make_validation_loaders``.
        config: CONFIG of the run.
        device: device to compute on.

    Returns:
        Lines for the user: the batch, shapes, parameters, losses, time and memory.

    Raises:
        UserError: the largest batch does not fit into memory.
    """
    datasets = {task: loader.dataset for task, loader in train.items()}
    # The largest batch that could ever be drawn: it bounds the memory of the whole run.
    smallest, largest = extreme_batches(datasets, config.BATCH_SIZE)
    module = LossModule(model.to(device), loss_fn, amp=config.AMP)
    # A real optimizer and real steps, because the moments of Adam take memory, too.
    optimizer = build_optimizer(model, config.LEARNING_RATE, config.PROGRESS_LOSS.head_learning_rate,
                                config.WEIGHT_DECAY)
    with _in_memory(datasets, largest):
        _train_step(module, optimizer, datasets, smallest, config, device)
        small, large = (min((_train_step(module, optimizer, datasets, batch, config, device) for _ in range(2)),
                            key=lambda step: step.seconds) for batch in (smallest, largest))
        validation = _validation_step(module, _read(datasets, largest), config, device)
    few, many = count_frames(datasets, smallest), count_frames(datasets, largest)
    # A step costs a constant, such as launching kernels, plus a time per frame.
    start, slope = fit_seconds((few, many), (small.seconds, large.seconds))
    # Training by the fitted line; validation in proportion to frames, from the measured batch.
    epoch = (sum(start + slope * frames for frames in frames_of_batches(train))
             + sum(frames_of_batches(val)) * validation.seconds / many)
    return '\n'.join([
        f'dry run of {config.EXPERIMENTNAME} on {device}; nothing is written',
        f'largest batch    {_describe_batch(datasets, largest)}',
        *_describe_shapes(validation.output),
        *describe_parameters(model),
        f'losses           {_describe_losses(large)}',
        f'reading          {large.reading:.3g} s for the largest batch; the next one is read while one is computed',
        f'step             {large.seconds:.3g} s on the largest batch ({many:,} frames), {small.seconds:.3g} s on the '
        f'smallest ({few:,})',
        f'epoch            about {format_duration(epoch)}, validation included',
        f'run              about {format_duration(epoch * config.NUM_EPOCHS)} for {config.NUM_EPOCHS} epochs, '
        'checkpoints and pictures not included',
        f'memory           {describe_memory(device)}',
    ])


@contextmanager
def _in_memory(datasets: Mapping[str, RecordingDataset], batch: ChosenBatch) -> Iterator[None]:
    """Turn running out of memory into a message that names the batch."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch raises a RuntimeError, without a subclass on the CPU
        if not is_out_of_memory(error):
            raise
        task, indices = batch
        handles = ', '.join(datasets[task].recordings[index].handle for index in indices)
        raise UserError(f'the largest batch ({handles} of task {task}, {count_frames(datasets, batch):,} frames) does '
                        'not fit into memory; lower BATCH_SIZE or MAX_FRAMES') from error


def extreme_batches(datasets: Mapping[str, RecordingDataset], batch_size: int) -> tuple[ChosenBatch, ChosenBatch]:
    """Return the smallest and the largest possible training batch by frames: each a task and dataset indices."""
    by_length = {task: sorted(range(len(dataset)), key=lambda index: dataset.recordings[index].num_frames)
                 for task, dataset in datasets.items()}
    shortest = [(task, order[:batch_size]) for task, order in by_length.items()]
    longest = [(task, order[::-1][:batch_size]) for task, order in by_length.items()]
    return (min(shortest, key=lambda batch: count_frames(datasets, batch)),
            max(longest, key=lambda batch: count_frames(datasets, batch)))


def count_frames(datasets: Mapping[str, RecordingDataset], batch: ChosenBatch) -> int:
    """Return the number of frames of a batch, without reading the batch."""
    task, indices = batch
    return sum(datasets[task].recordings[index].num_frames for index in indices)


def frames_of_batches(loaders: Loaders) -> list[int]:
    """Return the number of frames of each batch of an epoch, recordings that fill up a batch included."""
    return [sum(loader.dataset.recordings[index].num_frames for index in batch)
            for loader in loaders.values() for batch in loader.batch_sampler]


def fit_seconds(frames: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return a, b >= 0 of ``seconds = a + b * frames``, fitted to two batches, the smaller batch first."""
    (few, many), (fast, slow) = frames, seconds
    if many == few or slow <= fast:
        # No growth can be measured, so the larger time counts for every batch.
        return max(seconds), 0.0
    slope = (slow - fast) / (many - few)
    # A negative constant is a measurement error: then time is proportional to frames.
    return (fast - slope * few, slope) if slope * few <= fast else (0.0, slow / many)


def _read(datasets: Mapping[str, RecordingDataset], batch: ChosenBatch) -> Batch:
    task, indices = batch
    return collate([datasets[task][index] for index in indices])


def _train_step(module: LossModule, optimizer: torch.optim.Optimizer, datasets: Mapping[str, RecordingDataset],
                chosen: ChosenBatch, config: Mapping, device: torch.device) -> Step:
    """Read a batch and run a training step of the first epoch on it."""
    started = time.perf_counter()
    batch = _read(datasets, chosen)
    read = time.perf_counter()
    module.train()
    videos, times = augment_batch(to_device(batch.videos, device), batch.times, config.AUGMENTATION)
    result = training_step(module, optimizer, videos, times, 0, clip_limits(config))
    _wait_for(device)
    return Step(result.terms, result.taken, read - started, time.perf_counter() - read)


@torch.no_grad()
def _validation_step(module: LossModule, batch: Batch, config: Mapping, device: torch.device) -> Forward:
    """Run model and loss on a batch in evaluation mode."""
    module.eval()
    started = time.perf_counter()
    output = module.model(to_device(batch.videos, device))
    module.loss_fn(output, config.NUM_EPOCHS - 1, times=batch.times)  # losses as in validation: final epoch
    _wait_for(device)
    return Forward(output, time.perf_counter() - started)


def _wait_for(device: torch.device) -> None:
    # Kernels run asynchronously: without waiting, only their launch would be timed.
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def _describe_batch(datasets: Mapping[str, RecordingDataset], chosen: ChosenBatch) -> str:
    """Return the task of a batch and its recordings with their shapes."""
    task, _ = chosen
    batch = _read(datasets, chosen)
    recordings = zip(batch.times, batch.videos, strict=True)
    return f'task {task}: ' + ', '.join(f'{times["name"]} {tuple(video.shape)}' for times, video in recordings)


def _describe_shapes(output: Mapping) -> Iterator[str]:
    """Yield a line of shapes per list of tensors in the model's output."""
    for name, tensors in output.items():
        if isinstance(tensors, list):
            yield f'{name:17}{", ".join(str(tuple(tensor.shape)) for tensor in tensors)}'


def _describe_losses(step: Step) -> str:
    values = ', '.join(f'{name} {float(value.detach()):.4g}' for name, value in step.terms.items())
    return values if step.taken else f'{values}; not finite: this step would be skipped'


def describe_parameters(model: nn.Module) -> Iterator[str]:
    """Yield a line with the number of a model's parameters, and a line for each child module."""
    parts = {'parameters': model, **{f'  {name}': part for name, part in model.named_children()}}
    for label, part in parts.items():
        count = sum(weight.numel() for weight in part.parameters())
        trained = sum(weight.numel() for weight in part.parameters() if weight.requires_grad)
        yield f'{label:17}{count:>11,}' + (f', {trained:,} of them trained' if trained != count else '')


def describe_memory(device: torch.device) -> str:
    """Return the peak memory of the process and, if a GPU is used, of the GPU."""
    process = f'{process_memory("VmHWM") / MIB:,.0f} MiB at most, the whole process'
    if device.type != 'cuda':
        return process
    return f'{torch.cuda.max_memory_allocated(device) / MIB:,.0f} MiB at most on {device}; {process}'


def format_duration(seconds: float) -> str:
    """Format seconds as '3.2 s', '4 min 10 s' or '5 h 7 min'."""
    if seconds < 60:
        return f'{seconds:.2g} s' if seconds < 10 else f'{seconds:.0f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest} s' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'

"""Thousands of recordings, and long ones: index, waiting for input, memory of a step: python -m benchmarks.speed.scale.

The feature files are hard links to a few real ones, so that a large dataset takes little disk. They come from the disk
cache: what is measured is the work of the program, not the speed of a disk.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.speed.measure import MIB, describe_command, describe_machine, format_table, in_fresh_process, positive
from benchmarks.speed.training_step import StepBenchmark
from configs.choices import LOSSES
from configs.generic_config import CONFIG
from recordings.json_dataset import RecordingsByTask, load_recordings, make_train_loaders, merge_loaders, read_ahead
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.memory import process_memory

REAL_FILES = 8
TASKS = 10
ACTIONS = 20  # per recording
PAIR = 2  # recordings in a batch
HEADS = 16  # of the network


class Reading(NamedTuple):
    """What reading batches beside computing takes: share of the time spent waiting, and memory in MiB."""

    waiting: float
    growth: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: measure(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.speed.scale', description='Many recordings, and long ones.')
    parser.add_argument('--recordings', type=positive, nargs='+', default=[500, 5000], help='default 500 5000')
    parser.add_argument('--frames', type=positive, default=2000, help='T of each of them, default 2000')
    parser.add_argument('--width', type=positive, default=2048, help='D of the features, default 2048')
    parser.add_argument('--steps', type=positive, default=40, help='batches that are read, default 40')
    parser.add_argument('--step_seconds', type=float, default=0.5,
                        help='pause that stands for computing a step, default 0.5')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='loader processes, default 0 2')
    parser.add_argument('--lengths', type=positive, nargs='+', default=[1000, 2000, 4000, 8000],
                        help='frames of the pairs that training steps are run on, default 1000 2000 4000 8000')
    return parser.parse_args(argv)


def measure(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Index and read the datasets, run the training steps, and print what they took."""
    print(f'{describe_command("benchmarks.speed.scale", argv)}\n\n{describe_machine(torch.get_num_threads())}.\n\n'
          f'Recordings of ({arguments.frames}, {arguments.width}); each batch of two is '
          f'{PAIR * arguments.frames * arguments.width * 4 / MIB:.0f} MiB.\n', flush=True)
    print(format_table([index_and_read(count, arguments) for count in arguments.recordings]))
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    print(f'\nLargest loader process: {largest / MIB:.0f} MiB.\n\nA training step on a pair of recordings, '
          f'StackingEncoder, {HEADS} heads, progress head; most memory of its process, MiB:\n', flush=True)
    print(format_table([{'frames': length, **{loss.upper(): step_memory(loss, length, arguments.width)
                                              for loss in LOSSES}} for length in arguments.lengths]))


def index_and_read(count: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Write a dataset of ``count`` recordings, index and read it, and return the row of the table."""
    with tempfile.TemporaryDirectory(prefix='scale_') as folder:
        write_dataset(Path(folder), count, arguments.frames, arguments.width)
        before, started = process_memory('VmRSS'), time.perf_counter()
        recordings = load_recordings(Path(folder) / 'many.json', Path(folder),
                                     background_labels=CONFIG.BACKGROUND_LABELS)
        seconds, growth = time.perf_counter() - started, (process_memory('VmRSS') - before) / MIB
        row = {'recordings': count, 'features': f'{count * arguments.frames * arguments.width * 4 / 2**30:.1f} GiB',
               'index': f'{seconds:.2f} s', 'memory of the index': f'{growth:.0f} MiB'}
        for workers in arguments.workers:
            reading = read_beside_steps(recordings, workers, arguments.steps, arguments.step_seconds)
            row[f'waiting, {workers} workers'] = f'{reading.waiting:.1%}'
            row[f'memory, {workers} workers'] = f'{reading.growth:.0f} MiB'
    return row


def step_memory(loss: str, length: int, width: int) -> str:
    """Return the most memory of a process that takes one training step, MiB, or what became of it."""
    peak = in_fresh_process(_peak_of_step, loss, length, width)
    return 'killed' if peak is None else f'{peak:.0f}'


def _peak_of_step(loss: str, length: int, width: int) -> float:
    """Take a training step, and return the most memory of this process, MiB."""
    StepBenchmark(loss, length, PAIR, HEADS, width).run_whole()
    return process_memory('VmHWM') / MIB


def write_dataset(folder: Path, count: int, frames: int, width: int) -> None:
    """Write ``many.json`` and the feature files of ``count`` recordings in equal tasks."""
    draw = np.random.default_rng(0)
    for number in range(min(REAL_FILES, count)):
        np.save(folder / f'real{number}.npy', draw.standard_normal((frames, width), dtype=np.float32))
    bounds = np.linspace(0, frames, ACTIONS + 1).astype(int).tolist()
    content = {}
    for task in range(min(TASKS, count)):
        handles = [f'rec{number}' for number in range(task, count, TASKS)]
        for handle in handles:
            os.link(folder / f'real{int(handle[3:]) % REAL_FILES}.npy', folder / f'{handle}.npy')
        content[f'task{task}'] = {
            'handles': handles, 'hdl_actions': [[f'step{step}' for step in range(ACTIONS)]] * len(handles),
            'hdl_start_times': [bounds[:-1]] * len(handles), 'hdl_end_times': [bounds[1:]] * len(handles)}
    (folder / 'many.json').write_text(json.dumps(content))


def read_beside_steps(recordings: RecordingsByTask, workers: int, steps: int, step_seconds: float) -> Reading:
    """Read batches of two while a pause stands for each step; the first batch, for which all wait, does not count."""
    loaders = make_train_loaders(recordings, PAIR, seed=0, values_checked=False)
    batches = read_ahead(merge_loaders(loaders, PAIR, seed=0, workers=workers))
    before = process_memory('VmRSS')
    next(batches)
    waits = []
    for _ in range(steps):
        time.sleep(step_seconds)
        started = time.perf_counter()
        if next(batches, None) is None:
            break
        waits.append(time.perf_counter() - started)
    growth = (process_memory('VmRSS') - before) / MIB
    batches.close()
    if not waits:
        raise UserError('--recordings: a single batch, and nothing to wait for; expected 4 or more')
    return Reading(sum(waits) / (sum(waits) + len(waits) * step_seconds), growth)


if __name__ == '__main__':
    sys.exit(main())

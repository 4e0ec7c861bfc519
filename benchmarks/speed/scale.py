"""Measure training and evaluation with many or long recordings: python -m benchmarks.speed.scale.

It measures the time of indexing, the time spent waiting for input, the memory of a training step, and on request the
memory of an evaluation. The feature files are hard links to a few real files, so that a large dataset needs little disk
space. They come from the disk cache, so the benchmark measures the program, not the disk.
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

from benchmarks.speed.evaluation_memory import NAME, evaluation_rows
from benchmarks.speed.hours import PRESET
from benchmarks.speed.measure import (
    MIB,
    describe_command,
    describe_machine,
    format_table,
    in_fresh_process,
    positive,
    short,
)
from benchmarks.speed.training_step import StepBenchmark
from configs.choices import LOSSES
from configs.generic_config import CONFIG
from recordings.batches import make_train_loaders, merge_loaders, read_ahead
from recordings.json_dataset import RecordingsByTask, load_recordings
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.memory import process_memory

REAL_FILES = 8
LINKS = 50_000  # to a file; ext4 allows 65,000
TASKS = 10
ACTIONS = 20  # actions per recording
FEW_ACTIONS = 2  # of recordings to evaluate, which takes time in proportion to their actions
PAIR = 2  # recordings per batch
HEADS = 16  # heads of the network


class Reading(NamedTuple):
    """Cost of reading batches during training: fraction of the time spent waiting, and memory in MiB."""

    waiting: float
    growth: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: measure(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.speed.scale', description='Cost of many or long recordings.')
    parser.add_argument('--recordings', type=positive, nargs='*', default=[500, 5000],
                        help='recordings to index and to read, default 500 5000')
    parser.add_argument('--frames', type=positive, default=2000, help='T of each recording, default 2000')
    parser.add_argument('--width', type=positive, default=2048, help='D of the features, default 2048')
    parser.add_argument('--steps', type=positive, default=40, help='number of batches to read, default 40')
    parser.add_argument('--step_seconds', type=float, default=0.5,
                        help='pause that simulates computing a step, default 0.5')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='loader processes, default 0 2')
    parser.add_argument('--lengths', type=positive, nargs='*', default=[1000, 2000, 4000, 8000],
                        help='frames of the pairs for training steps, default 1000 2000 4000 8000')
    parser.add_argument('--evaluate', type=positive, nargs='+', default=[],
                        help='recordings of one task, half of them to test, to evaluate; default: none')
    return parser.parse_args(argv)


def measure(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Index and read the datasets, run the training steps, and print time and memory."""
    print(f'{describe_command("benchmarks.speed.scale", argv)}\n\n{describe_machine(torch.get_num_threads())}.\n\n'
          f'Recordings of ({arguments.frames}, {arguments.width}); a pair is '
          f'{short(PAIR * arguments.frames * arguments.width * 4 / MIB)} MiB.\n', flush=True)
    if arguments.recordings:
        print(format_table([index_and_read(count, arguments) for count in arguments.recordings]))
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
        print(f'\nLargest loader process: {largest / MIB:.0f} MiB.')
    if arguments.lengths:
        print('\nA training step on a pair of recordings, '
              f'StackingEncoder, {HEADS} heads, progress head; peak memory of its process, MiB:\n', flush=True)
        print(format_table([{'frames': length, **{loss.upper(): step_memory(loss, length, arguments.width)
                                                  for loss in LOSSES}} for length in arguments.lengths]))
    if arguments.evaluate:
        print(f'\nAn evaluation of {PRESET}, half of the recordings of a task to train and half to test; processor '
              'time and peak memory of the command:\n', flush=True)
        print(format_table(evaluation_rows(
            arguments.evaluate, arguments.frames * arguments.width,
            lambda folder, count: write_dataset(folder, count, arguments.frames, arguments.width, 1, FEW_ACTIONS))))


def index_and_read(count: int, arguments: argparse.Namespace) -> dict[str, object]:
    """Write a dataset of ``count`` recordings, index and read it, and return a row of the table."""
    with tempfile.TemporaryDirectory(prefix='scale_') as folder:
        write_dataset(Path(folder), count, arguments.frames, arguments.width)
        before, started, processor = process_memory('VmRSS'), time.perf_counter(), time.process_time()
        recordings = load_recordings(Path(folder) / f'{NAME}.json', Path(folder),
                                     background_labels=CONFIG.BACKGROUND_LABELS)
        seconds, growth = time.perf_counter() - started, (process_memory('VmRSS') - before) / MIB
        processor = time.process_time() - processor
        row = {'recordings': count, 'features': f'{count * arguments.frames * arguments.width * 4 / 2**30:.1f} GiB',
               'index': f'{seconds:.2f} s', 'processor': f'{processor:.2f} s',
               'memory of the index': f'{growth:.0f} MiB'}
        for workers in arguments.workers:
            reading = read_during_steps(recordings, workers, arguments.steps, arguments.step_seconds)
            row[f'waiting, {workers} workers'] = f'{reading.waiting:.1%}'
            row[f'memory, {workers} workers'] = f'{reading.growth:.0f} MiB'
    return row


def step_memory(loss: str, length: int, feature_dim: int) -> str:
    """Return the peak memory, in MiB, of a process that runs one training step, or 'killed'."""
    peak = in_fresh_process(_peak_of_step, loss, length, feature_dim)
    return 'killed' if peak is None else f'{peak:.0f}'


def _peak_of_step(loss: str, length: int, feature_dim: int) -> float:
    """Run a training step and return the peak memory of this process in MiB."""
    StepBenchmark(loss, length, PAIR, HEADS, feature_dim).run_whole()
    return process_memory('VmHWM') / MIB


def write_dataset(folder: Path, count: int, frames: int, feature_dim: int, tasks: int = TASKS,
                  actions: int = ACTIONS) -> None:
    """Write ``NAME.json`` and the feature files of ``count`` recordings, evenly divided into tasks."""
    draw = np.random.default_rng(0)
    real_files = max(REAL_FILES, -(-count // LINKS))
    for number in range(min(real_files, count)):
        np.save(folder / f'real{number}.npy', draw.standard_normal((frames, feature_dim), dtype=np.float32))
    bounds = np.linspace(0, frames, actions + 1).astype(int).tolist()
    content = {}
    for task in range(min(tasks, count)):
        handles = [f'rec{number}' for number in range(task, count, tasks)]
        for handle in handles:
            os.link(folder / f'real{int(handle[3:]) % real_files}.npy', folder / f'{handle}.npy')
        content[f'task{task}'] = {
            'handles': handles, 'hdl_actions': [[f'step{step}' for step in range(actions)]] * len(handles),
            'hdl_start_times': [bounds[:-1]] * len(handles), 'hdl_end_times': [bounds[1:]] * len(handles)}
    (folder / f'{NAME}.json').write_text(json.dumps(content))


def read_during_steps(recordings: RecordingsByTask, workers: int, steps: int, step_seconds: float) -> Reading:
    """Read batches while a pause simulates each step. The first batch is not counted: it cannot be read ahead."""
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
        raise UserError('--recordings: there is only one batch, so no waiting to measure; expected at least 4')
    return Reading(sum(waits) / (sum(waits) + len(waits) * step_seconds), growth)


if __name__ == '__main__':
    sys.exit(main())

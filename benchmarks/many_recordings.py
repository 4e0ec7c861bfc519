"""Thousands of recordings: seconds to index, memory, waiting for input: python -m benchmarks.many_recordings.

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

from benchmarks.measure import MIB, describe_command, describe_machine, format_table, positive
from configs.entry_config import OneLineParser
from configs.generic_config import CONFIG
from datasets.json_dataset import RecordingsByTask, load_recordings, make_train_loaders, merge_loaders, read_ahead
from utils.command_line import run_command
from utils.memory import process_memory

REAL_FILES = 8
TASKS = 10
ACTIONS = 20  # per recording


class Reading(NamedTuple):
    """What reading batches beside computing takes: share of the time spent waiting, and memory in MiB."""

    waiting: float
    growth: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: measure(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.many_recordings', description='Index and read many recordings.')
    parser.add_argument('--recordings', type=positive, nargs='+', default=[500, 5000])
    parser.add_argument('--frames', type=positive, default=2000, help='T of each recording')
    parser.add_argument('--width', type=positive, default=2048, help='D of the features')
    parser.add_argument('--steps', type=positive, default=40, help='batches that are read')
    parser.add_argument('--step_seconds', type=float, default=0.5, help='pause that stands for computing a step')
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2], help='loader processes')
    return parser.parse_args(argv)


def measure(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Write the datasets, index and read them, and print what it took."""
    rows = []
    for count in arguments.recordings:
        with tempfile.TemporaryDirectory(prefix='many_recordings_') as folder:
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
            rows.append(row)
    print(f'{describe_command("benchmarks.many_recordings", argv)}\n{describe_machine(torch.get_num_threads())}\n\n'
          f'{format_table(rows)}')
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    print(f'\nlargest loader process: {worker / MIB:.0f} MiB; a batch of two recordings is '
          f'{2 * arguments.frames * arguments.width * 4 / MIB:.0f} MiB')


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
    loaders = make_train_loaders(recordings, 2, seed=0, values_checked=False)
    batches = read_ahead(merge_loaders(loaders, 2, seed=0, workers=workers))
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
    return Reading(sum(waits) / (sum(waits) + len(waits) * step_seconds), growth)


if __name__ == '__main__':
    sys.exit(main())

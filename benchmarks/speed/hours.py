"""Measure training, evaluation and prediction per hour of video: python -m benchmarks.speed.hours.

The recommended preset is trained on demo datasets of several sizes by the commands that users type, each a process of
its own. Their processor time and peak memory show how the cost grows with the hours of video.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.speed.measure import MIB, describe_command, describe_machine, format_table, positive, short
from tools.demo import DemoSettings, write_demo
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError, first_line

ROOT = Path(__file__).resolve().parents[2]
NAME, FPS = 'demo', 4  # features of 4 frames per second, as tools.extract writes them
PRESET = 'configs/progress_recommended.json'


class Cost(NamedTuple):
    """Cost of a command: processor seconds, and peak memory in MiB, at least that of the process that started it."""

    seconds: float
    peak_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.hours', description='Cost per hour of video.')
        parser.add_argument('--people', type=positive, nargs='+', default=[10, 20, 40],
                            help='people of the demo datasets, 6 recordings each; default 10 20 40')
        parser.add_argument('--width', type=positive, default=DemoSettings().width, help='D of the features')
        arguments = parser.parse_args(argv)
        print(f'{describe_command("benchmarks.speed.hours", argv)}\n\n{describe_machine(1)}.\n\nDemo datasets with '
              f'features of dimension {arguments.width}, as hours of video at {FPS} feature frames per second; '
              f'processor seconds and peak memory of the commands with {PRESET}.\n', flush=True)
        print(format_table([measure(people, arguments.width) for people in arguments.people]))

    return run_command(command)


def measure(people: int, width: int) -> dict[str, str]:
    """Write a demo dataset, train, evaluate, and predict, and return a row of the table."""
    with tempfile.TemporaryDirectory(prefix='hours_') as name:
        folder = Path(name)
        paths = write_demo(folder, NAME, settings=DemoSettings(people=people, width=width))
        output = folder / 'output'
        environment = {**{variable: str(path) for variable, path in paths.items()}, 'OUTPUT_PATH': str(output),
                       'OMP_NUM_THREADS': '1'}
        features = Path(paths['DATASET_PATH']) / NAME / 'features'
        files = sorted(features.glob('*.npy'))
        hours = sum(len(np.load(file, mmap_mode='r')) for file in files) / FPS / 3600
        run = output / 'multi-task-setting' / f'V1___GTCC_{NAME}'
        splits = str(Path(paths['JSON_DPATH']) / f'{NAME}.splits.json')
        costs = {
            'training': cost_of(['multitask_train.py', '1', '--dataset', NAME, '--config', PRESET, '--splits', splits],
                                environment),
            'evaluation': cost_of(['eval.py', '-f', str(run)], environment),
            'prediction': cost_of(['predict.py', '-f', str(run), '--features', str(features), '--task', 'make_tea',
                                   '-o', str(folder / 'predictions')], environment)}
        row = {'recordings': str(len(files)), 'hours': f'{hours:.2f}',
               'features: MiB / h': short(sum(file.stat().st_size for file in files) / MIB / hours)}
        for command, cost in costs.items():
            row |= {f'{command}: s': f'{cost.seconds:.1f}', f'{command}: s / h': short(cost.seconds / hours),
                    f'{command}: MiB': f'{cost.peak_mib:.0f}'}
        return row


def cost_of(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run a command of the project and return its cost.

    Raises:
        UserError: the command failed.
    """
    with tempfile.TemporaryFile('w+') as log:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env={**os.environ, **environment}, stdout=log,
                                   stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            raise UserError(f'{command[0]} ended with status {process.returncode}: '
                            f'{first_line(ValueError(log.read().strip()[-300:]))}; run it by hand')
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (MIB if sys.platform == 'darwin' else 1024))


if __name__ == '__main__':
    sys.exit(main())

"""Run every part that computes on a device on a GPU, and compare it with the CPU: python -m benchmarks.speed.gpu.

A part that fails is a row with its error, and the others still run. Exit status: 0 if all parts worked, 1 if one
failed, 2 if there is no such device.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.losses import LOSSES, random_inputs, value_and_gradient
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive, short
from benchmarks.speed.stream import CONFIGURATIONS, TASK, UNKNOWN, random_run
from benchmarks.speed.training_step import StepBenchmark
from prediction import ActionMarker, predict, stream
from utils.command_line import OneLineParser, choose_device, run_command
from utils.errors import first_line

ROOT = Path(__file__).resolve().parents[2]
HEADS, FEATURE_DIM = 16, 2048
TOLERANCE = 1e-3  # largest relative difference between the device and the CPU, in float32
AMP_TOLERANCE = 0.1  # the network's outputs are rounded to 8 bits
Values = Callable[[], Tensor]
Prepare = Callable[..., Values]  # sets a part up on a device, and returns what it computes, call by call
OUTPUT_LINES = 3  # of a command that failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    failed: list[str] = []

    def command() -> None:
        arguments = parse_arguments(argv)
        device = choose_device(arguments.device)
        name = torch.cuda.get_device_name(device) if device.type == 'cuda' else str(device)
        machine = describe_machine(torch.get_num_threads())
        print(f'{describe_command("benchmarks.speed.gpu", argv)}\n\n{name}; {machine}.\n\n'
              '"Difference": largest difference from the CPU, as a fraction of the largest value, at most '
              f'{TOLERANCE} ({AMP_TOLERANCE} with --amp).\n', flush=True)
        rows = [compare(part, prepare, device, arguments.repeats, tolerance)
                for part, prepare, tolerance in parts_of(arguments)]
        rows += [] if arguments.no_commands else run_commands(str(device), arguments.kills)
        print(format_table(rows))
        failed.extend(row['part'] for row in rows if row['result'] != 'ok')

    return run_command(command) or int(bool(failed))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.speed.gpu', description='Everything that can run on a GPU.')
    parser.add_argument('--device', default='cuda', help='cpu checks the benchmark itself; default cuda')
    parser.add_argument('--length', type=positive, default=1024, help='frames of each recording, default 1024')
    parser.add_argument('--heads', type=positive, default=HEADS, help=f'heads of the network, default {HEADS}')
    parser.add_argument('--width', type=positive, default=FEATURE_DIM, help=f'D, default {FEATURE_DIM}')
    parser.add_argument('--repeats', type=positive, default=5, help='timed runs of each part, default 5')
    parser.add_argument('--kills', type=positive, default=18, help='kills of the crash test, default 18')
    parser.add_argument('--no_commands', action='store_true',
                        help='leave out training, evaluation, and the crash test as processes of their own')
    return parser.parse_args(argv)


def parts_of(arguments: argparse.Namespace) -> list[tuple[str, Prepare, float]]:
    """Return name, function, and tolerance of every part that runs in this process."""
    length, heads, width = arguments.length, arguments.heads, arguments.width
    parts = [(f'{loss}, value and gradient', lambda device, loss=loss: prepare_loss(loss, length, device), TOLERANCE)
             for loss in LOSSES]
    for loss in ('GTCC', 'LAV'):
        for amp in (False, True):
            parts.append((f'training step, {loss}{", --amp" if amp else ""}',
                          lambda device, loss=loss, amp=amp:
                          prepare_step(loss, length, heads, width, device, amp=amp),
                          AMP_TOLERANCE if amp else TOLERANCE))
    for name in (UNKNOWN, 'recommended', 'stacking, causal'):
        parts.append((f'recording, {name}', lambda device, name=name: prepare_recording(name, length, width, device),
                      TOLERANCE))
        parts.append((f'stream, {name}', lambda device, name=name: prepare_stream(name, length, width, device),
                      TOLERANCE))
    return parts


def compare(part: str, prepare: Prepare, device: torch.device, repeats: int, tolerance: float) -> dict[str, str]:
    """Run a part on the device and on the CPU, and return its row."""
    try:
        seconds, found = _timed(prepare, device, repeats)
        cpu_seconds, expected = _timed(prepare, torch.device('cpu'), repeats)
    except Exception as error:  # the other parts still run, so that one run shows all that is broken
        return _row(part, result=f'{type(error).__name__}: {first_line(error)[:100]}')
    difference = float((found - expected).abs().max() / expected.abs().max())
    # `not <=`, because NaN is a failure, too.
    return _row(part, seconds, cpu_seconds, difference, 'differs' if not difference <= tolerance else 'ok')


def _row(part: str, seconds: float | None = None, cpu_seconds: float | None = None, difference: float | None = None,
         result: str = 'ok') -> dict[str, str]:
    faster = cpu_seconds / seconds if seconds and cpu_seconds else None
    return {'part': part, 'device: ms': short(seconds and 1e3 * seconds),
            'CPU: ms': short(cpu_seconds and 1e3 * cpu_seconds), 'CPU / device': short(faster),
            'difference': short(difference), 'result': result}


def _timed(prepare: Prepare, device: torch.device, repeats: int) -> tuple[float, Tensor]:
    """Return the seconds of the fastest call after one to warm up, and what all calls computed, as a flat tensor."""
    compute, found, seconds = prepare(device), [], []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        values = compute()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)  # kernels run after their call has returned
        seconds.append(time.perf_counter() - started)
        found.append(values.double().cpu().flatten())
    return min(seconds[1:]), torch.cat(found)


def prepare_loss(loss: str, length: int, device: torch.device) -> Values:
    """Return a function that computes a loss and its gradient with respect to two random sequences."""
    torch.manual_seed(0)
    sequences, dropouts = ([part.detach().to(device).requires_grad_() for part in parts]
                           for parts in random_inputs(length))

    def compute() -> Tensor:
        torch.manual_seed(0)  # GTCC draws on the CPU, so the frames are the same on every device
        value_and_gradient(LOSSES[loss][0], loss, sequences, dropouts)
        return torch.cat([sequence.grad.flatten() for sequence in sequences])

    return compute


def prepare_step(loss: str, length: int, heads: int, width: int, device: torch.device, *, amp: bool) -> Values:
    """Return a function that takes a training step and returns its loss; later steps show how the weights moved."""
    benchmark = StepBenchmark(loss, length, 2, heads, width, device)
    return lambda: benchmark.step(amp=amp).terms['total_loss'].detach().float()


def prepare_recording(name: str, length: int, width: int, device: torch.device) -> Values:
    """Return a function that predicts the progress of a whole recording of random features."""
    run, features = random_run(CONFIGURATIONS[name], width, device), _features(length, width)
    segments = None if name == UNKNOWN else [(0, length, 'step 0')]
    return lambda: torch.from_numpy(predict(run, features, segments, TASK).progress).nan_to_num()


def prepare_stream(name: str, length: int, width: int, device: torch.device) -> Values:
    """Return a function that predicts the progress of the same recording, frame by frame."""
    run, features = random_run(CONFIGURATIONS[name], width, device), _features(length, width)
    markers = [] if name == UNKNOWN else [ActionMarker('step 0')]
    return lambda: torch.tensor([row.progress or 0.0 for row in stream(run, [*markers, *features], TASK)])


def _features(length: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((length, width)).astype(np.float32)


def run_commands(device: str, kills: int) -> list[dict[str, str]]:
    """Train with and without --amp, evaluate, and run the crash test, each as a process; return their rows."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {'DATASET_PATH': f'{folder}/data', 'JSON_DPATH': f'{folder}/dset_jsons', 'OUTPUT_PATH': f'{folder}/out'}
        runs = f'{folder}/out/multi-task-setting'
        training = ['multitask_train.py', '1', '--dataset', 'demo', '--gtcc', '--tstack', '--mcn', '--progress', '-ep',
                    '2', '--device', device, '--splits', f'{folder}/dset_jsons/demo.splits.json']
        commands = {
            'demo dataset': ['-m', 'tools.demo', folder, '--name', 'demo', '--seed', '0', '--overwrite'],
            'training': training, 'training, --amp': [*training, '--amp', '-m', 'amp'],
            'evaluation': ['eval.py', '-f', f'{runs}/V1___GTCC_demo', '--device', device],
            'evaluation, --amp': ['eval.py', '-f', f'{runs}/V1___GTCC_demo.amp', '--device', device],
            'preset': ['multitask_train.py', '1', '--dataset', 'demo', '--config', 'configs/progress_recommended.json',
                       '-m', 'preset', '--device', device],
            f'crash test, {kills} kills': ['-m', 'benchmarks.reliability.crash_safety', '--kills', str(kills)]}
        return [_run_process(part, command, paths) for part, command in commands.items()]


def _run_process(part: str, command: Sequence[str], paths: dict[str, str]) -> dict[str, str]:
    started = time.perf_counter()
    process = subprocess.run([sys.executable, *command], cwd=ROOT, env={**os.environ, **paths}, capture_output=True,
                             text=True, check=False)
    seconds = time.perf_counter() - started
    last = ' '.join(process.stderr.strip().splitlines()[-OUTPUT_LINES:])[-200:]
    return _row(f'{part} (whole command)', seconds,
                result='ok' if process.returncode == 0 else f'exit status {process.returncode}: {last}')


if __name__ == '__main__':
    sys.exit(main())

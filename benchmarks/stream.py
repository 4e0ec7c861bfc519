"""Progress of whole recordings and frame by frame: python -m benchmarks.stream.

Networks of the recommended preset with random weights read random features in actions of equal length. Speed does not
depend on the values.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import numpy as np
import torch

from benchmarks.measure import describe_command, describe_machine, format_table, positive, time_and_memory
from benchmarks.progress_study import RECOMMENDED
from configs.entry_config import OneLineParser, parse_training_arguments
from models.build import build_model, fill_in_sizes
from prediction import ActionMarker, ProgressStream, TrainedRun, predict
from utils.command_line import run_command, seed_everything

TASK, STEPS, HEADS = 'random', 6, 3  # of the demo dataset: steps of a task, and tasks
ACTION_LENGTH = 100  # frames
DIFFERENT_FRAMES = 1000  # read over and over
BATCH_FRAMES, BATCH_REPEATS = 5000, 5
WARM_UP = 200  # frames
TENTHS = 10
LARGEST_SPREAD = 1.25  # of the medians of the tenths, slowest over fastest
CONFIGURATIONS = {
    'naive': RECOMMENDED,
    'stacking, causal': [*RECOMMENDED, '--tstack'],
    'stacking, sees ahead': [*RECOMMENDED, '--tstack', '--set', 'CAUSAL=false'],
    "naive, plan's head": [*RECOMMENDED, '--set', 'PROGRESS_LOSS.step_durations=false'],
}


def random_run(options: Sequence[str], width: int) -> TrainedRun:
    """Return a run that was never trained.

    Args:
        options: of ``multitask_train.py``, beside version and dataset.
        width: D of the features.
    """
    config, _ = parse_training_arguments(['1', *options, '--dataset', TASK], 'benchmarks.stream')
    fill_in_sizes(config, width, HEADS)
    config.PROGRESS_LOSS.steps = [[TASK, f'step {step}'] for step in range(STEPS)]
    seed_everything(config.SEED)
    return TrainedRun(TASK, TASK, 0, build_model(config).eval(), config, torch.device('cpu'), [TASK])


def label_of(frame: int) -> str:
    """Return the step at a frame."""
    return f'step {frame // ACTION_LENGTH % STEPS}'


def frame_seconds(run: TrainedRun, features: np.ndarray, num_frames: int) -> Iterator[tuple[float, float]]:
    """Push frames into a stream, and yield the seconds by the clock and of the processor that each took."""
    progress = ProgressStream(run, TASK)
    for frame in range(num_frames):
        started = time.perf_counter(), time.process_time()
        if frame % ACTION_LENGTH == 0:
            progress.mark(ActionMarker(label_of(frame)))
        progress.push(features[frame % len(features)])
        yield time.perf_counter() - started[0], time.process_time() - started[1]


def batch_rate(run: TrainedRun, features: np.ndarray) -> float:
    """Return the frames per second of a whole recording, the median of a few."""
    recording = np.resize(features, (BATCH_FRAMES, features.shape[1]))
    segments = [(start, start + ACTION_LENGTH, label_of(start)) for start in range(0, BATCH_FRAMES, ACTION_LENGTH)]
    return BATCH_FRAMES / time_and_memory(lambda: predict(run, recording, segments, TASK), BATCH_REPEATS).seconds


def measure(name: str, width: int, num_frames: int) -> tuple[dict[str, str], np.ndarray]:
    """Return a row of the table of speeds, and what a frame costs in each tenth of the stream, ms.

    The cost is the processor's median time: that of the clock grows where other processes disturb the stream.
    """
    run = random_run(CONFIGURATIONS[name], width)
    features = np.random.default_rng(0).standard_normal((DIFFERENT_FRAMES, width)).astype(np.float32)
    batch = batch_rate(run, features)
    seconds, costs = np.array(list(islice(frame_seconds(run, features, WARM_UP + num_frames), WARM_UP, None))).T
    bounds = np.linspace(0, num_frames, TENTHS + 1).round().astype(int)
    tenths = np.array([1e3 * np.median(costs[start:end]) for start, end in pairwise(bounds)])
    row = {'configuration': name, 'delay, frames': str(run.delay), 'batch, frames/s': f'{batch:.0f}',
           'stream, frames/s': f'{num_frames / seconds.sum():.0f}',
           'ms a frame, median': f'{1e3 * np.median(seconds):.3f}',
           '99 %': f'{1e3 * np.quantile(seconds, 0.99):.3f}'}
    return row, tenths


def verdict(tenths: dict[str, np.ndarray]) -> str:
    """Say whether the cost of a frame stays the same."""
    spread = max(float(values.max() / values.min()) for values in tenths.values())
    return (f'Rule: the slowest tenth of a stream takes at most {LARGEST_SPREAD} times as long as its fastest: '
            f'{spread:.2f}, {"kept" if spread <= LARGEST_SPREAD else "broken"}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.stream', description='Speed of prediction.')
        parser.add_argument('--configurations', nargs='+', choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
        parser.add_argument('--frames', type=positive, default=100_000, help='of each stream, default 100000')
        parser.add_argument('--width', type=positive, default=2048, help='of the features, default 2048')
        parser.add_argument('--threads', type=positive, default=1, help='default 1')
        arguments = parser.parse_args(argv)
        if arguments.frames < TENTHS:
            parser.error(f'argument --frames: {arguments.frames}, expected at least {TENTHS}')
        torch.set_num_threads(arguments.threads)
        print(f'{describe_command("benchmarks.stream", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
              f'Features of width {arguments.width}, actions of {ACTION_LENGTH} frames, {HEADS} heads; batch: a '
              f'recording of {BATCH_FRAMES} frames, stream: {arguments.frames} frames.\n', flush=True)
        rows, tenths = [], {}
        for name in arguments.configurations:
            row, tenths[name] = measure(name, arguments.width, arguments.frames)
            rows.append(row)
        print(f'{format_table(rows)}\n\nMilliseconds of the processor for a frame, median of each tenth of the stream:'
              '\n')
        print(format_table([{'configuration': name, **{str(tenth): f'{value:.3f}' for tenth, value
                                                       in enumerate(values, 1)}} for name, values in tenths.items()]))
        print(f'\n{verdict(tenths)}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

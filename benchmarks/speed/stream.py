"""Progress of whole recordings and frame by frame: python -m benchmarks.speed.stream.

Networks of the recommended preset with random weights read random features in actions of equal length. Speed does not
depend on the values.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive, time_and_memory
from benchmarks.studies.progress_study import HEADS as STUDIED
from configs.entry_config import parse_training_arguments
from models.build import build_model, fill_in_sizes
from prediction import ActionMarker, ProgressStream, TrainedRun, predict
from utils.command_line import OneLineParser, run_command, seed_everything

TASK, STEPS, HEADS = 'random', 6, 3  # of the demo dataset: steps of a task, and tasks
ACTION_LENGTH = 100  # frames
DIFFERENT_FRAMES = 1000  # read over and over
BATCH_FRAMES, BATCH_REPEATS = 5000, 5
WARM_UP = 200  # frames
TENTHS = 10
COMPARED_EVERY = 10  # frames: so often a fresh stream takes one, too
LARGEST_RATIO = 1.1  # of a frame's cost, long stream over fresh one
CONFIGURATIONS = {
    'naive': STUDIED['steps'],
    'stacking, causal': STUDIED['stacking encoder'],
    'stacking, sees ahead': STUDIED['stacking, sees ahead'],
    "naive, plan's head": STUDIED['gru'],
}


def random_run(options: Sequence[str], width: int) -> TrainedRun:
    """Return a run that was never trained.

    Args:
        options: of ``multitask_train.py``, beside version and dataset.
        width: D of the features.
    """
    config, _ = parse_training_arguments(['1', *options, '--dataset', TASK], 'benchmarks.speed.stream')
    fill_in_sizes(config, width, HEADS)
    config.PROGRESS_LOSS.steps = [[TASK, f'step {step}'] for step in range(STEPS)]
    seed_everything(config.SEED)
    return TrainedRun(TASK, TASK, 0, build_model(config).eval(), config, torch.device('cpu'), [TASK])


def label_of(frame: int) -> str:
    """Return the step at a frame."""
    return f'step {frame // ACTION_LENGTH % STEPS}'


def frame_seconds(run: TrainedRun, features: np.ndarray, num_frames: int) -> Iterator[tuple[float, float, float]]:
    """Push frames into a long stream, and now and then into one that has begun with the current action.

    Yields:
        The seconds of the frame in the long stream by the clock, those of the processor, and those of the processor in
        the fresh stream; NaN where the frame was not pushed into it.
    """
    long = ProgressStream(run, TASK)
    for frame in range(num_frames):
        if frame % ACTION_LENGTH == 0:
            fresh = ProgressStream(run, TASK)
            for ahead in range(run.delay):  # until these have arrived, nothing is predicted
                fresh.push(features[ahead])
        clock, cost = _timed_push(long, features, frame, begins=frame % ACTION_LENGTH == 0)
        compared = frame % COMPARED_EVERY == 0
        yield clock, cost, _timed_push(fresh, features, frame, begins=False)[1] if compared else np.nan


def _timed_push(stream: ProgressStream, features: np.ndarray, frame: int, *, begins: bool) -> tuple[float, float]:
    """Push a frame, after a marker where an action begins, and return its seconds by the clock and of the processor."""
    started = time.perf_counter(), time.process_time()
    if begins:
        stream.mark(ActionMarker(label_of(frame)))
    stream.push(features[frame % len(features)])
    return time.perf_counter() - started[0], time.process_time() - started[1]


def batch_rate(run: TrainedRun, features: np.ndarray) -> float:
    """Return the frames per second of a whole recording, the median of a few."""
    recording = np.resize(features, (BATCH_FRAMES, features.shape[1]))
    segments = [(start, start + ACTION_LENGTH, label_of(start)) for start in range(0, BATCH_FRAMES, ACTION_LENGTH)]
    return BATCH_FRAMES / time_and_memory(lambda: predict(run, recording, segments, TASK), BATCH_REPEATS).seconds


def measure(name: str, width: int, num_frames: int) -> tuple[dict[str, str], np.ndarray, np.ndarray]:
    """Measure one configuration.

    Args:
        name: key of ``CONFIGURATIONS``.
        width: D of the features.
        num_frames: of the stream.

    Returns:
        A row of the table of speeds; what a frame costs in each tenth of the stream, median ms of the processor; and
        that as a multiple of what it costs in a fresh stream meanwhile, which other processes disturb as much.
    """
    run = random_run(CONFIGURATIONS[name], width)
    features = np.random.default_rng(0).standard_normal((DIFFERENT_FRAMES, width)).astype(np.float32)
    batch = batch_rate(run, features)
    seconds = np.array(list(islice(frame_seconds(run, features, WARM_UP + num_frames), WARM_UP, None)))
    row = {'configuration': name, 'delay, frames': str(run.delay), 'batch, frames/s': f'{batch:.0f}',
           'stream, frames/s': f'{num_frames / seconds[:, 0].sum():.0f}',
           'ms a frame, median': f'{1e3 * np.median(seconds[:, 0]):.3f}',
           '99 %': f'{1e3 * np.quantile(seconds[:, 0], 0.99):.3f}'}
    # Frames that went into both streams: the medians of both are then over the same moments.
    compared = [part[~np.isnan(part[:, 2]), 1:] for part in np.array_split(seconds, TENTHS)]
    tenths = np.array([np.median(part, axis=0) for part in compared])
    return row, 1e3 * tenths[:, 0], tenths[:, 0] / tenths[:, 1]


def verdict(ratios: Sequence[np.ndarray]) -> str:
    """Say whether a frame of a long stream costs what one of a fresh stream does, in every tenth."""
    largest = max(float(values.max()) for values in ratios)
    return (f'Rule: in no tenth a frame costs more than {LARGEST_RATIO} times what it costs in a fresh stream: '
            f'{largest:.2f}, {"kept" if largest <= LARGEST_RATIO else "broken"}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.stream', description='Speed of prediction.')
        parser.add_argument('--configurations', nargs='+', choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
        parser.add_argument('--frames', type=positive, default=100_000, help='of each stream, default 100000')
        parser.add_argument('--width', type=positive, default=2048, help='of the features, default 2048')
        parser.add_argument('--threads', type=positive, default=1, help='default 1')
        arguments = parser.parse_args(argv)
        if arguments.frames < COMPARED_EVERY * TENTHS:
            parser.error(f'argument --frames: {arguments.frames}, expected at least {COMPARED_EVERY * TENTHS}')
        torch.set_num_threads(arguments.threads)
        print(f'{describe_command("benchmarks.speed.stream", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
              f'Features of width {arguments.width}, actions of {ACTION_LENGTH} frames, {HEADS} heads; batch: a '
              f'recording of {BATCH_FRAMES} frames, stream: {arguments.frames} frames.\n', flush=True)
        rows, tenths, ratios = [], [], []
        for name in arguments.configurations:
            row, costs, relative = measure(name, arguments.width, arguments.frames)
            rows.append(row)
            ratios.append(relative)
            tenths += [{'tenth of the stream': f'{name}: {what}',
                        **{str(tenth): f'{value:.2f}' for tenth, value in enumerate(values, 1)}}
                       for what, values in (('ms', costs), ('/ fresh stream', relative))]
        print(f'{format_table(rows)}\n\nWhat a frame costs, median milliseconds of the processor, and as a multiple of '
              f'what it costs meanwhile in a stream that\nbegan with the current action:\n\n{format_table(tenths)}\n\n'
              f'{verdict(ratios)}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

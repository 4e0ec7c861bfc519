"""Measure prediction of whole recordings and of streams, frame by frame: python -m benchmarks.speed.stream.

Runs that have learned nothing predict from random features, in actions of equal length: networks have random weights,
and the filter of the recommended preset is fitted to a random recording. The speed does not depend on the values.
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
from models.heads.base import EmbeddedRecording
from prediction import ActionMarker, ProgressStream, TrainedRun, predict
from utils.action import Action
from utils.command_line import OneLineParser, run_command, seed_everything

TASK, STEPS, HEADS = 'random', 10, 3  # HEADS: number of tasks as in the demo dataset
ACTION_LENGTH = 100  # frames
DIFFERENT_FRAMES = 1000  # repeated to fill a stream
BATCH_FRAMES, BATCH_REPEATS = 5000, 5
WARM_UP = 200  # frames
TENTHS = 10
FIRST_FRAMES = 4  # of a fresh stream, not timed: it sets up its state
COMPARED_EVERY = 10  # every n-th frame is also pushed into a fresh stream
LARGEST_RATIO = 1.1  # of the cost of a frame in a long stream to that in a fresh stream
UNKNOWN = 'recommended, boundaries unknown'  # its stream has no markers
CONFIGURATIONS = {
    'recommended': STUDIED['recommended'],
    UNKNOWN: STUDIED['recommended'],
    'stacking, causal': STUDIED['stacking encoder'],
    'stacking, sees ahead': STUDIED['stacking, sees ahead'],
    "naive, plan's head": STUDIED['gru'],
}


def random_run(options: Sequence[str], feature_dim: int, device: torch.device | str = 'cpu') -> TrainedRun:
    """Return a run that has learned nothing.

    Args:
        options: options of ``multitask_train.py``, besides version and dataset.
        feature_dim: D of the features.
        device: where it predicts.
    """
    config, _ = parse_training_arguments(['1', *options, '--dataset', TASK], 'benchmarks.speed.stream')
    fill_in_sizes(config, feature_dim, HEADS)
    config.PROGRESS_LOSS.steps = [[TASK, f'step {step}'] for step in range(STEPS)]
    seed_everything(config.SEED)
    model = build_model(config).eval()
    if model.progress_head.fits_embeddings:
        # Of a single recording nothing can be left out to choose weights, which would take long.
        actions = [Action(label_of(start), start, start + ACTION_LENGTH - 1)
                   for start in range(0, STEPS * ACTION_LENGTH, ACTION_LENGTH)]
        embeddings = torch.randn(STEPS * ACTION_LENGTH, model.progress_head.input_dim)
        model.progress_head.fit([EmbeddedRecording(TASK, TASK, embeddings, actions)])
    device = torch.device(device)
    return TrainedRun(TASK, TASK, 0, model.to(device), config, device, [TASK])


def label_of(frame: int) -> str:
    """Return the label of the action at a frame."""
    return f'step {frame // ACTION_LENGTH % STEPS}'


def frame_seconds(run: TrainedRun, features: np.ndarray, num_frames: int, *,
                  given: bool) -> Iterator[tuple[float, float, float]]:
    """Push frames into a long stream and, at intervals, into a fresh stream that began with the current action.

    Args:
        run: predicts the streams.
        features: (n, D), repeated.
        num_frames: of the long stream.
        given: put a marker before each action; otherwise boundaries are inferred.

    Yields:
        Wall-clock seconds and processor seconds of the frame in the long stream, and its processor seconds in the fresh
        stream, or NaN if it was not pushed into the fresh stream.
    """
    long = ProgressStream(run, TASK)
    for frame in range(num_frames):
        if frame % ACTION_LENGTH == 0:
            fresh = ProgressStream(run, TASK)
            if given:
                fresh.mark(ActionMarker(label_of(frame)))
            # Nothing is predicted before the first `delay` frames have arrived.
            for ahead in range(run.delay + FIRST_FRAMES):
                fresh.push(features[ahead])
        clock, cost = _timed_push(long, features, frame, begins=given and frame % ACTION_LENGTH == 0)
        compared = frame % COMPARED_EVERY == 0
        yield clock, cost, _timed_push(fresh, features, frame, begins=False)[1] if compared else np.nan


def _timed_push(stream: ProgressStream, features: np.ndarray, frame: int, *, begins: bool) -> tuple[float, float]:
    """Push a frame, after a marker if an action begins; return wall-clock seconds and processor seconds."""
    started = time.perf_counter(), time.process_time()
    if begins:
        stream.mark(ActionMarker(label_of(frame)))
    stream.push(features[frame % len(features)])
    return time.perf_counter() - started[0], time.process_time() - started[1]


def batch_rate(run: TrainedRun, features: np.ndarray, *, given: bool) -> float:
    """Return the frames per second of prediction on a whole recording, the median of several runs."""
    recording = np.resize(features, (BATCH_FRAMES, features.shape[1]))
    segments = [(start, start + ACTION_LENGTH, label_of(start)) for start in range(0, BATCH_FRAMES, ACTION_LENGTH)]
    seconds = time_and_memory(lambda: predict(run, recording, segments if given else None, TASK), BATCH_REPEATS).seconds
    return BATCH_FRAMES / seconds


def measure(name: str, feature_dim: int, num_frames: int) -> tuple[dict[str, str], np.ndarray, np.ndarray]:
    """Measure one configuration.

    Args:
        name: key of ``CONFIGURATIONS``.
        feature_dim: D of the features.
        num_frames: length of the stream.

    Returns:
        A row of the table of speeds; the median processor time of a frame in each tenth of the stream, in ms; and its
        ratio to that in a fresh stream at the same time, which other processes disturb equally.
    """
    run = random_run(CONFIGURATIONS[name], feature_dim)
    features = np.random.default_rng(0).standard_normal((DIFFERENT_FRAMES, feature_dim)).astype(np.float32)
    given = name != UNKNOWN
    batch = batch_rate(run, features, given=given)
    costs = frame_seconds(run, features, WARM_UP + num_frames, given=given)
    seconds = np.array(list(islice(costs, WARM_UP, None)))
    row = {'configuration': name, 'delay, frames': str(run.delay), 'batch, frames/s': f'{batch:.0f}',
           'stream, frames/s': f'{num_frames / seconds[:, 0].sum():.0f}',
           'ms a frame, median': f'{1e3 * np.median(seconds[:, 0]):.3f}',
           '99 %': f'{1e3 * np.quantile(seconds[:, 0], 0.99):.3f}'}
    # Use only frames pushed into both streams, so that both medians are over the same times.
    compared = [part[~np.isnan(part[:, 2]), 1:] for part in np.array_split(seconds, TENTHS)]
    tenths = np.array([np.median(part, axis=0) for part in compared])
    return row, 1e3 * tenths[:, 0], tenths[:, 0] / tenths[:, 1]


def verdict(ratios: Sequence[np.ndarray]) -> str:
    """Describe whether a frame costs the same in a long stream as in a fresh stream, in every tenth."""
    largest = max(float(values.max()) for values in ratios)
    return (f'Rule: in no tenth a frame costs more than {LARGEST_RATIO} times its cost in a fresh stream: '
            f'{largest:.2f}, {"kept" if largest <= LARGEST_RATIO else "broken"}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.stream', description='Speed of prediction.')
        parser.add_argument('--configurations', nargs='+', choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
        parser.add_argument('--frames', type=positive, default=100_000, help='length of each stream, default 100000')
        parser.add_argument('--width', type=positive, default=2048, help='D of the features, default 2048')
        parser.add_argument('--threads', type=positive, default=1, help='default 1')
        arguments = parser.parse_args(argv)
        if arguments.frames < COMPARED_EVERY * TENTHS:
            parser.error(f'argument --frames: {arguments.frames}, expected at least {COMPARED_EVERY * TENTHS}')
        torch.set_num_threads(arguments.threads)
        print(f'{describe_command("benchmarks.speed.stream", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
              f'Features of dimension {arguments.width}, actions of {ACTION_LENGTH} frames, {HEADS} heads; batch: a '
              f'recording of {BATCH_FRAMES} frames, stream: {arguments.frames} frames.\n', flush=True)
        rows, tenths, ratios = [], [], []
        for name in arguments.configurations:
            row, costs, relative = measure(name, arguments.width, arguments.frames)
            rows.append(row)
            ratios.append(relative)
            tenths += [{'tenth of the stream': f'{name}: {what}',
                        **{str(tenth): f'{value:.2f}' for tenth, value in enumerate(values, 1)}}
                       for what, values in (('ms', costs), ('/ fresh stream', relative))]
        print(f'{format_table(rows)}\n\nMedian processor time of a frame in milliseconds, and its ratio to that in a '
              f'fresh stream that\nbegan with the current action:\n\n{format_table(tenths)}\n\n'
              f'{verdict(ratios)}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

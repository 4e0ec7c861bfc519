"""Measure how well labels carry over from one recording: python -m benchmarks.studies.label_transfer.

Each training recording of a task gives its labels to the test recordings of the task, by alignment, by nearest
neighbors of single frames, by dynamic time warping, and by copying the label at the same relative time.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alignment.labels import Labels, carry_labels, frame_labels
from alignment.matching import match_frames
from alignment.reference import choose_reference
from benchmarks.speed.measure import describe_command, format_table, positive
from benchmarks.studies.progress_study import add_data_options, data_of
from configs.entry_config import parse_training_arguments
from configs.generic_config import CONFIG
from evaluation.alignment_metrics import nearest_frames
from losses.distances import euclidean_distances
from prediction import TrainedRun, load_run
from prediction.recording import embed_recording
from recordings.feature_files import open_recording
from recordings.from_config import choose_splits, load_dataset, split_recordings
from recordings.json_dataset import Recording
from utils.command_line import OneLineParser, option, run_command

RAW = 'raw features'
BINS = (0, 0.5, 0.7, 0.9, 0.99, 1.01)  # edges of the step's probability
NO_PART = 'unmatched'  # what a frame without a match is given


class Labeled(NamedTuple):
    """A recording with its labels: name, label of each frame, embedding (T, E)."""

    name: str
    labels: Labels
    embedding: Tensor


class Transferred(NamedTuple):
    """Labels given to the T frames of a recording: given, true, True if the reference has the true one, probability."""

    given: np.ndarray
    true: np.ndarray
    known: np.ndarray
    probability: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: run_study(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.label_transfer', description='Labels carried over.')
    add_data_options(parser)
    parser.add_argument('-f', '--folders', nargs='+', type=Path, default=[], metavar='RUN',
                        help='runs whose embeddings are aligned besides raw features')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined')
    parser.add_argument('--tune', action='store_true', help='carry over to the other training recordings instead')
    parser.add_argument('--pairs', type=positive, default=100, help='pairs per task at most, drawn at random; '
                                                                    'default 100')
    parser.add_argument('--seed', type=int, default=0, help='of the drawn pairs; default 0')
    arguments = parser.parse_args(argv)
    if arguments.splits and not arguments.dataset:
        parser.error('argument --splits: requires a dataset; also give --dataset')
    return arguments


def run_study(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Carry the labels over in every way, and print the tables."""
    logging.disable(logging.WARNING)
    print(f'{describe_command("benchmarks.studies.label_transfer", argv)}\n', flush=True)
    found: dict[str, list[list[Transferred]]] = {}  # method -> task -> pairs
    with data_of(arguments) as dataset:
        for name, tasks in _embedded_tasks(arguments, dataset):
            for references, others in tasks:
                for method, transferred in transfer(name, references, others, arguments).items():
                    found.setdefault(method, []).append(transferred)
    print(format_table([{'labels carried over by': method, **_row(tasks)} for method, tasks in found.items()]))
    print('\nFraction of frames with the right label, by the probability of the label that was carried over:\n')
    print(format_table([{'alignment of': method, **calibration([one for task in tasks for one in task])}
                        for method, tasks in found.items() if not np.isnan(tasks[0][0].probability).any()]))


def _embedded_tasks(arguments: argparse.Namespace, dataset: Sequence[str],
                    ) -> Iterator[tuple[str, list[tuple[list[Labeled], list[Labeled]]]]]:
    """Yield each embedding's name and, per task, the recordings that give labels and those that receive them."""
    config, parsed = parse_training_arguments(['1', '--tcc', '--tstack', *dataset], 'label_transfer')
    recordings = load_dataset(config)
    parts = split_recordings(recordings, choose_splits(config, recordings, parsed.splits))
    receiving = parts['train' if arguments.tune else 'test']
    runs: dict[str, TrainedRun | None] = {RAW: None}
    with option('-f'):
        for folder in arguments.folders:
            run = load_run(folder, arguments.checkpoint_type, 'cpu', needs_head=False)
            runs[run.name] = run
    for name, run in runs.items():
        yield name, [([_labeled(one, run) for one in members], [_labeled(one, run) for one in receiving[task]])
                     for task, members in parts['train'].items() if receiving[task]]


def _labeled(recording: Recording, run: TrainedRun | None) -> Labeled:
    features = open_recording(recording.path, 2)
    frames = range(len(features))
    if run:
        run.check_shape(features.shape, str(recording.path))
        embedding = embed_recording(run, features, frames)
    else:
        embedding = torch.from_numpy(np.array(features, dtype=np.float32))
    return Labeled(recording.handle, frame_labels(recording.segments, frames), embedding)


def transfer(name: str, references: Sequence[Labeled], others: Sequence[Labeled],
             arguments: argparse.Namespace) -> dict[str, list[Transferred]]:
    """Return method -> results of all pairs of a task.

    Args:
        name: name of the embedding.
        references: recordings that give their labels.
        others: recordings that receive them; may be the same.
        arguments: arguments of the command line.
    """
    pairs = [(reference, other) for reference in references for other in others if reference.name != other.name]
    if len(pairs) > arguments.pairs:
        chosen = np.random.default_rng(arguments.seed).choice(len(pairs), arguments.pairs, replace=False)
        pairs = [pairs[index] for index in sorted(chosen)]
    found = {}
    if name == RAW:  # controls that do not depend on the embedding
        found = {'most frequent label': [by_most_frequent(*pair) for pair in pairs],
                 'relative time': [by_relative_time(*pair) for pair in pairs]}
    found[f'nearest neighbor, {name}'] = [by_nearest_neighbor(*pair) for pair in pairs]
    found[f'time warping, {name}'] = [by_time_warping(*pair) for pair in pairs]
    found[f'alignment, {name}'] = [by_alignment(*pair) for pair in pairs]
    found[f'alignment, {name}, order kept'] = [by_alignment(*pair, keep_order=True) for pair in pairs]
    names = [one.name for one in references]
    reference = references[choose_reference(names, [one.embedding for one in references], None, names)]
    found[f'alignment, {name}, reference chosen'] = [by_alignment(reference, other) for other in others
                                                    if other.name != reference.name]
    return found


def _transferred(reference: Labeled, other: Labeled, given: Labels, probability: np.ndarray | None = None,
                 ) -> Transferred:
    known = set(reference.labels)
    unknown = np.full(len(given), np.nan)
    return Transferred(np.array(given, object), np.array(other.labels, object),
                       np.array([label in known for label in other.labels]),
                       unknown if probability is None else probability)


def by_most_frequent(reference: Labeled, other: Labeled) -> Transferred:
    """Give all frames the label that the reference has most often."""
    return _transferred(reference, other, [Counter(reference.labels).most_common(1)[0][0]] * len(other.labels))


def by_relative_time(reference: Labeled, other: Labeled) -> Transferred:
    """Copy the label at the same fraction of the reference's length."""
    count, size = len(other.labels), len(reference.labels)
    return _transferred(reference, other, [reference.labels[frame * size // count] for frame in range(count)])


def by_nearest_neighbor(reference: Labeled, other: Labeled) -> Transferred:
    """Copy the label of each frame's nearest neighbor."""
    nearest = nearest_frames(other.embedding, reference.embedding)
    return _transferred(reference, other, [reference.labels[frame] for frame in nearest])


def by_time_warping(reference: Labeled, other: Labeled) -> Transferred:
    """Copy the label of the first reference frame that dynamic time warping gives to a frame; it keeps the order."""
    costs = euclidean_distances(other.embedding, reference.embedding).double().numpy()
    return _transferred(reference, other, [reference.labels[frame] for frame in warp(costs)])


def warp(costs: np.ndarray) -> list[int]:
    """Return the first column (T,) that the cheapest warping path from corner to corner visits in each row.

    Args:
        costs: (T, S); a path steps down, right, or both.
    """
    totals = np.empty_like(costs)
    totals[0] = costs[0].cumsum()
    for row in range(1, len(costs)):
        above = totals[row - 1].copy()
        above[1:] = np.minimum(above[1:], totals[row - 1][:-1])
        along = costs[row].cumsum()  # entering at column k and going right to j costs along[j] - along[k - 1]
        totals[row] = along + np.minimum.accumulate(above - along + costs[row])
    row, column = costs.shape[0] - 1, costs.shape[1] - 1
    first = [0] * len(costs)
    while row > 0:
        first[row] = column
        steps = {(row - 1, column): totals[row - 1, column]}
        if column:
            steps |= {(row - 1, column - 1): totals[row - 1, column - 1], (row, column - 1): totals[row, column - 1]}
        row, column = min(steps, key=steps.get)
    return first


def by_alignment(reference: Labeled, other: Labeled, *, keep_order: bool = False) -> Transferred:
    """Carry the labels over as ``align.py`` does."""
    matches = match_frames(other.embedding, reference.embedding, keep_order=keep_order)
    carried = carry_labels(matches, reference.labels)
    given = [label if matched else NO_PART for label, matched in zip(carried.labels, matches.matched, strict=True)]
    return _transferred(reference, other, given, carried.probability)


def right(result: Transferred) -> np.ndarray:
    """Return which frames (T,) are right; one whose label the reference lacks is right if it is unmatched."""
    return np.where(result.known, result.given == result.true, result.given == NO_PART)


def measures(result: Transferred) -> dict[str, float]:
    """Return the measures of one pair, NaN for those without frames."""
    correct, unmatched = right(result), result.given == NO_PART
    steps = np.array([label is not None and label not in CONFIG.BACKGROUND_LABELS for label in result.true])

    def mean(values: np.ndarray, where: np.ndarray) -> float:
        return float(values[where].mean()) if where.any() else float('nan')

    everywhere = np.ones(len(correct), bool)
    return {'all frames': mean(correct, everywhere), 'frames of steps': mean(correct, steps),
            'frames of known labels': mean(correct, result.known), 'unmatched': mean(unmatched, everywhere),
            'right if matched': mean(correct, ~unmatched), 'unseen found': mean(unmatched, ~result.known)}


def _row(tasks: Sequence[Sequence[Transferred]]) -> dict[str, str]:
    """Return the mean of each measure over pairs, then tasks, `-` if there is no value."""
    means = []
    for pairs in tasks:
        rows = [measures(pair) for pair in pairs]
        means.append({name: np.array([row[name] for row in rows]) for name in rows[0]})
    table = {}
    for name in means[0]:
        values = [task[name][~np.isnan(task[name])].mean() for task in means if not np.isnan(task[name]).all()]
        table[name] = f'{np.mean(values):.3f}' if values else '-'
    return {'pairs': sum(map(len, tasks)), **table}


def calibration(results: Sequence[Transferred]) -> dict[str, str]:
    """Return the fraction of frames that are right, by the probability of what they were given."""
    probability = np.concatenate([result.probability for result in results])
    correct = np.concatenate([right(result) for result in results])
    cells = {}
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        inside = (probability >= low) & (probability < high)
        shown = f'{correct[inside].mean():.2f} of {inside.sum()}' if inside.any() else '-'
        cells[f'{low:g} to {min(high, 1):g}'] = shown
    return cells


if __name__ == '__main__':
    sys.exit(main())

"""Measure how many training recordings the filter needs: python -m benchmarks.studies.few_recordings.

Each person in turn is the new person. The filter with given boundaries, on the features themselves, is fitted to a few
recordings of other people, with and without a recording of the new person, and tested on the new person's other
recordings. Without --dataset it uses the demo dataset; others are found by DATASET_PATH and JSON_DPATH.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.speed.demo_data import demo_environment
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from benchmarks.studies.progress_study import RECOMMENDED
from configs.entry_config import parse_training_arguments
from evaluation.counters import FrameCounters
from models.heads.base import EmbeddedRecording
from models.heads.filter.selection import fit_filters
from models.heads.filter.task_filter import TaskFilter
from recordings.from_config import load_dataset, reading_options
from recordings.groups import groups_by_regex
from recordings.json_dataset import RecordingDataset
from utils.action import actions_before
from utils.command_line import OneLineParser, option, run_command
from utils.errors import UserError

SIZES = (1, 2, 5, 10, 20)
DEMO_PEOPLE = '^(p[0-9]+)_'


class Trial(NamedTuple):
    """Training recordings and test recordings; no recording is in both."""

    training: list[EmbeddedRecording]
    test: list[EmbeddedRecording]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: run_study(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.few_recordings', description='Few training recordings.')
    parser.add_argument('--dataset', metavar='NAME', help='default: the demo dataset')
    parser.add_argument('--group_regex', metavar='REGEX', help='with --dataset: its first group, found in the name of '
                                                               'a recording, is who performs it')
    parser.add_argument('--sizes', nargs='+', type=positive, default=list(SIZES), help='numbers of training recordings '
                                                                                       'of other people')
    parser.add_argument('--draws', type=positive, default=3, help='random choices of training recordings for each '
                                                                  'person, default 3')
    parser.add_argument('--threads', type=positive, default=1, help='default 1')
    arguments = parser.parse_args(argv)
    if bool(arguments.dataset) != bool(arguments.group_regex):
        parser.error('arguments --dataset and --group_regex: give both or none')
    return arguments


def run_study(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Fit and test with every number of training recordings, and print the table."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    print(f'{describe_command("benchmarks.studies.few_recordings", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
          f'Boundaries given, label not given; mean over tasks, people and {arguments.draws} draws.\n', flush=True)
    environment = nullcontext(['--dataset', arguments.dataset]) if arguments.dataset else demo_environment()
    with environment as dataset:
        by_task = read_recordings(dataset[:2], arguments.group_regex or DEMO_PEOPLE)
        rows = [summarize(size, by_task, arguments.draws) for size in arguments.sizes]
    print(format_table(rows))


def read_recordings(dataset: Sequence[str], group_regex: str) -> dict[str, list[EmbeddedRecording]]:
    """Return task -> all recordings of a dataset, with their features as embeddings and their groups.

    Raises:
        UserError: a task has recordings of one person only, or a part of the dataset is invalid.
    """
    config, _ = parse_training_arguments(['1', *RECOMMENDED, *dataset], 'few_recordings')
    recordings = load_dataset(config)
    with option('--group_regex'):
        groups = groups_by_regex((recording.handle for members in recordings.values() for recording in members),
                                 group_regex)
    by_task = {}
    for task, members in recordings.items():
        if len(people := {groups[recording.handle] for recording in members}) < 2:
            raise UserError(f'--group_regex: task {task}: all recordings are by {", ".join(people)}, expected at least '
                            'two people; the first group of the expression is who performs a recording')
        read = RecordingDataset(members, **reading_options(config, recordings))
        by_task[task] = [EmbeddedRecording(task, recording.handle, read[index][0], recording.actions,
                                           groups[recording.handle]) for index, recording in enumerate(members)]
    return by_task


def draw_trials(recordings: Sequence[EmbeddedRecording], size: int, draws: int) -> Iterator[tuple[Trial, Trial]]:
    """Draw training recordings for each person of a task who has at least two recordings.

    Args:
        recordings: all recordings of the task.
        size: number of training recordings of other people.
        draws: number of draws for each person.

    Yields:
        A trial with other people's recordings alone, and one with a recording of the person added. Both have the same
        test recordings, which are the person's other ones. Nothing if the other people have too few recordings.
    """
    for person in sorted({recording.group for recording in recordings}):
        own = [recording for recording in recordings if recording.group == person and recording.actions]
        others = [recording for recording in recordings if recording.group != person and recording.actions]
        if len(own) < 2 or len(others) < size:
            continue
        for draw in range(draws):
            generator = np.random.default_rng(draw)  # smaller sizes are subsets of larger sizes
            chosen = [others[index] for index in generator.permutation(len(others))[:size]]
            added = own[draw % len(own)]
            test = [recording for recording in own if recording is not added]
            yield Trial(chosen, test), Trial([*chosen, added], test)


def rate(trial: Trial) -> tuple[float, float]:
    """Return the mean absolute error of the filter and of the counter of frames, over the test recordings."""
    labels = sorted({action.name for recording in trial.training for action in recording.actions})
    known = TaskFilter(labels, trial.training[0].embeddings.shape[1])
    known.segmented = fit_filters({'task': [known.code(recording) for recording in trial.training]},
                                  {'task': len(labels)}, known.embedding_dim)['task']
    counter = FrameCounters([recording.actions for recording in trial.training])
    errors = []
    for recording in trial.test:
        segments = known.code(recording).segments()
        starts = [known.start(actions_before(recording.actions, action), None) for action in recording.actions]
        progress = torch.cat([curve[:, 0] for curve in known.segmented.forward_dense(segments, starts)]).numpy()
        truth = np.concatenate([np.arange(1, len(segment) + 1) / action.length
                                for segment, action in zip(segments, recording.actions, strict=True)])
        counted = np.concatenate([counter.average_index(len(segment)) for segment in segments])
        errors.append((np.abs(progress - truth).mean(), np.abs(counted - truth).mean()))
    return tuple(np.mean(errors, axis=0).tolist())


def summarize(size: int, by_task: dict[str, list[EmbeddedRecording]], draws: int) -> dict[str, str]:
    """Return the row of the table for a number of training recordings."""
    errors = np.array([[rate(trial) for trial in pair] for recordings in by_task.values()
                       for pair in draw_trials(recordings, size, draws)])  # (trials, other people or added, 2)
    row = {'training recordings of other people': str(size), 'trials': str(len(errors))}
    for index, name in enumerate(('', ', one of the person added')):
        head, counter = errors[:, index].mean(0) if len(errors) else (np.nan, np.nan)
        row |= {f'{column}{name}': '-' if np.isnan(value) else f'{value:.3f}'
                for column, value in (('MAE', head), ('counter', counter), ('ratio', head / counter))}
    return row


if __name__ == '__main__':
    sys.exit(main())

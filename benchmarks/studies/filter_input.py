"""Measure whether the filter gains from aligned embeddings: python -m benchmarks.studies.filter_input.

The head of configs/progress_recommended.json is fitted to the features, to the embeddings of an encoder that
configs/alignment_recommended.json trains, or to both side by side, and tested on groups of the training recordings that
encoder and head have not seen. Test recordings are not read. Without --dataset it uses the demo dataset; others are
found by DATASET_PATH and JSON_DPATH.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from benchmarks.studies.alignment_quality import PRESET
from benchmarks.studies.few_recordings import DEMO_PEOPLE
from benchmarks.studies.progress_study import RECOMMENDED, add_data_options, data_of
from configs.entry_config import parse_training_arguments
from configs.paths import environment_path
from evaluation.counters import FrameCounters
from evaluation.embedded_task import EmbeddedTask
from evaluation.evaluate import embed
from evaluation.progress_metrics import ActionCurves, mean_absolute_error
from evaluation.running_means import RunningMeans
from models.action_progress import predict_actions
from models.build import build_model, fill_in_head, fill_in_sizes
from models.heads.base import EmbeddedRecording
from models.heads.filter.left_out import fold_indices
from multitask_train import run_folder_of, train
from recordings.from_config import choose_splits, load_dataset, reading_options, split_recordings
from recordings.splits import Splits
from utils.ckpt_save import find_checkpoint, load_model
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.files import write_json
from utils.tensorops import action_progress, seeded_draws

RAW, ALIGNED, BOTH = 'features', 'embeddings', 'features and embeddings'
ALL = 'all'
SEED = 0
Parts = dict[str, dict[str, EmbeddedTask]]  # part -> task -> its recordings
PREDICTORS = ('given', 'unknown', 'counter')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: run_study(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.filter_input', description='What the filter reads.')
    add_data_options(parser)
    parser.add_argument('--group_regex', metavar='REGEX', help='with --dataset: its first group, found in the name of '
                                                               'a recording, is who performs it; default: every '
                                                               'recording is by another person')
    parser.add_argument('--sizes', nargs='+', type=size, default=[5, ALL], help='numbers of training recordings of a '
                                                                                "task, or 'all'; default 5 all")
    parser.add_argument('--most', type=positive, help='use only this many training recordings of a task, evenly spaced')
    parser.add_argument('--tasks', type=positive, help='use only this many tasks, the first ones by name')
    parser.add_argument('--folds', type=positive, default=3, help='parts that the groups of the training recordings '
                                                                  'are left out in, default 3')
    parser.add_argument('--epochs', type=positive, default=10, help='of the encoder, default 10')
    parser.add_argument('--threads', type=positive, default=1, help='default 1')
    parser.add_argument('--options', nargs=argparse.REMAINDER, default=[], help='more options of multitask_train.py '
                                                                                'for the encoder; must be last')
    return parser.parse_args(argv)


def size(text: str) -> int | str:
    """Parse a number of training recordings, or 'all'."""
    return text if text == ALL else positive(text)


def run_study(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train the encoders, fit the filters, and print the table."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    errors: dict[tuple[str, str], list[np.ndarray]] = {}
    with data_of(arguments) as dataset:
        groups = arguments.group_regex or (None if arguments.dataset else DEMO_PEOPLE)
        dataset = [*dataset, *(['--set', f'GROUP_REGEX={groups}'] if groups else [])]
        folds = fold_splits_by_group(dataset, arguments.folds, arguments.most, arguments.tasks)
        used = sum(len(parts['train']) + len(parts['test']) for parts in folds[0].values())
        print(f'{describe_command("benchmarks.studies.filter_input", argv)}\n\n{describe_machine(arguments.threads)}.'
              f'\n\n{used} training recordings of {len(folds[0])} tasks, {len(folds)} folds of their groups; mean over '
              f'folds and tasks. Encoder: {arguments.epochs} epochs.\n', flush=True)
        for fold, splits in enumerate(folds):
            for count in arguments.sizes:
                chosen = choose_training(splits, count)
                for name, parts in inputs(chosen, dataset, f'{count}_{fold}', arguments).items():
                    # By what the table shows: the rows of a number of training recordings follow one another.
                    errors.setdefault((str(count), name), []).append(rate(parts))
                    print(fold, count, name, errors[str(count), name][-1].tolist(), file=sys.stderr, flush=True)
    print(format_table([{'training recordings': key[0], 'filter reads': key[1], **summarize(found, errors[key[0], RAW])}
                        for key, found in sorted(errors.items(), key=lambda item: order(item[0][0]))]))


def order(count: str) -> float:
    """Return a number to sort numbers of training recordings by."""
    return np.inf if count == ALL else int(count)


def fold_splits_by_group(dataset: Sequence[str], folds: int, most: int | None = None,
                         tasks: int | None = None) -> list[Splits]:
    """Return splits of the training recordings alone: each tests on a part of their groups and trains on the others.

    Raises:
        UserError: there is a single fold, or a task has a single training recording.
    """
    config, parsed = parse_training_arguments(['1', *RECOMMENDED, *dataset], 'filter_input')
    splits = choose_splits(config, load_dataset(config), parsed.splits)
    handles = {task: sorted(parts['train']) for task, parts in sorted(splits.items())[:tasks]}
    if most is not None:
        handles = {task: [names[index] for index in np.unique(np.linspace(0, len(names) - 1, most).round().astype(int))]
                   for task, names in handles.items()}
    # fold_indices leaves out whole groups; a recording without a group is one of its own.
    parts = {task: fold_indices([splits.groups.get(handle, handle) for handle in names], folds)
             for task, names in handles.items()}
    if (fewest := min(map(len, parts.values()))) < 2:
        raise UserError(f'--folds {folds}: leaves {fewest} parts of the training recordings, expected at least 2; give '
                        'at least 2 folds, and tasks with at least 2 training recordings')
    return [Splits({task: {'train': [name for index, name in enumerate(names) if index not in parts[task][fold]],
                           'val': [], 'test': [names[index] for index in parts[task][fold]]}
                    for task, names in handles.items()}, splits.groups)
            for fold in range(fewest)]


def choose_training(splits: Splits, count: int | str) -> Splits:
    """Return a split with ``count`` random training recordings of each task; 'all' keeps them all."""
    chosen = {}
    for task, parts in splits.items():
        shuffled = np.random.default_rng(SEED).permutation(parts['train']).tolist()
        chosen[task] = {**parts, 'train': sorted(shuffled[:None if count == ALL else count])}
    return Splits(chosen, splits.groups)


def inputs(splits: Splits, dataset: Sequence[str], message: str, arguments: argparse.Namespace) -> dict[str, Parts]:
    """Return what the filter reads -> embedded recordings; trains the encoder on the split's training recordings."""
    path = environment_path('OUTPUT_PATH') / f'{message}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, splits.as_json())
    command = [str(SEED), *PRESET, *dataset, '--splits', str(path), '-ep', str(arguments.epochs), '--seed', str(SEED),
               '-m', message, *arguments.options]
    config, _ = parse_training_arguments(command, 'filter_input')
    train(*parse_training_arguments(command, 'filter_input'))
    encoder = load_model(find_checkpoint(run_folder_of(config), 'alignment'), torch.device('cpu'))[0]
    recordings = load_dataset(config)
    parts = split_recordings(recordings, splits)
    reading = reading_options(config, recordings)

    def embedded(embedder: Callable[[Sequence[Tensor]], Mapping[str, object]]) -> Parts:
        return {part: {task: embed(embedder, members, reading, torch.device('cpu'))
                       for task, members in parts[part].items()} for part in ('train', 'test')}

    return {RAW: embedded(lambda videos: {'outputs': [video.float() for video in videos]}),
            ALIGNED: embedded(encoder),
            BOTH: embedded(lambda videos: {'outputs': [torch.cat([video.float(), output], dim=1) for video, output
                                                       in zip(videos, encoder(videos)['outputs'], strict=True)]})}


def rate(parts: Parts) -> np.ndarray:
    """Fit the head to the training recordings and return the errors (3,) of ``PREDICTORS``, means over tasks."""
    model = fit_head(parts['train'])
    scores = []
    for task, test in parts['test'].items():
        counter = FrameCounters(parts['train'][task].actions)
        unknown = model.progress_head.filter_all(test.embeddings, task)
        errors = RunningMeans()
        for index, (embedding, actions) in enumerate(zip(test.embeddings, test.actions, strict=True)):
            # In background, which the head may take an action for, it predicts no progress: NaN counts as 0.
            free = np.nan_to_num(unknown[index].progress.numpy())
            curves = []
            for action, given in zip(actions, predict_actions(model, embedding, actions, task), strict=True):
                predicted = (given.numpy(), free[action.start:action.end + 1], counter.average_index(len(given)))
                curves.append(ActionCurves(action.name, action.length, action_progress(action, len(embedding)).numpy(),
                                           dict(zip(PREDICTORS, predicted, strict=True))))
            errors.add({predictor: mean_absolute_error(curves, predictor) for predictor in PREDICTORS})
        scores.append(list(errors.row().values()))
    return np.mean(scores, axis=0)


def fit_head(tasks: Mapping[str, EmbeddedTask]) -> nn.Module:
    """Return the model of the recommended preset with its head fitted to embedded recordings."""
    config: EasyDict = parse_training_arguments(['1', *RECOMMENDED, '--dataset', 'given'], 'filter_input')[0]
    fill_in_sizes(config, next(iter(tasks.values())).embeddings[0].shape[1], len(tasks))
    fill_in_head(config, {task: part.actions for task, part in tasks.items()})
    model = build_model(config).eval()
    with seeded_draws(SEED):
        model.progress_head.fit([
            EmbeddedRecording(task, recording.handle, embedding, list(recording.actions), recording.group)
            for task, part in tasks.items()
            for recording, embedding in zip(part.recordings, part.embeddings, strict=True)])
    return model


def summarize(errors: Sequence[np.ndarray], raw: Sequence[np.ndarray]) -> dict[str, str]:
    """Return the columns of a row: errors (3,) in each fold, and those of the filter that reads the features."""
    given, unknown, counter = np.mean(errors, axis=0)
    better = np.array(errors)[:, :2] < np.array(raw)[:, :2]  # (folds, 2)
    return {'MAE': f'{given:.4f}', 'ratio to counter': f'{given / counter:.3f}',
            'folds better than features': '-' if errors is raw else f'{better[:, 0].sum()} of {len(errors)}',
            'MAE, boundaries unknown': f'{unknown:.4f}', 'its ratio': f'{unknown / counter:.3f}',
            'folds better': '-' if errors is raw else f'{better[:, 1].sum()} of {len(errors)}'}


if __name__ == '__main__':
    sys.exit(main())

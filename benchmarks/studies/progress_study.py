"""What makes a progress head good, and what alignment has to do with it: python -m benchmarks.studies.progress_study.

Trains named configurations over several seeds, evaluates their test recordings, and prints (and with -o writes) a table
of means and spreads. Without --dataset it takes the demo dataset; any other is found by DATASET_PATH and JSON_DPATH.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.demo_data import demo_environment, loss_flag
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from configs.paths import environment_path
from evaluation.evaluate import evaluate_checkpoint
from multitask_train import train
from recordings.from_config import load_dataset
from recordings.splits import read_splits
from utils.command_line import OneLineParser, run_command
from utils.files import atomic_path, write_json
from utils.run_folder import MULTI_TASK, open_run_folder

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RECOMMENDED = ['--config', str(CONFIGS / 'progress_recommended.json')]
# Name -> options of multitask_train.py beside dataset, split, seed and epochs.
HEADS = {
    'plan': ['--gtcc', '--tstack', '--mcn', '--config', str(CONFIGS / 'progress_plan.json')],
    'dense': ['--gtcc', '--tstack', '--mcn', '--progress', '--progress_sampling', 'dense'],
    'recommended': RECOMMENDED,
    'label given': [*RECOMMENDED, '--condition_on_step'],
}
ALIGNED = ['--naive', '--mcn', '--set', 'CAUSAL=true', '--set', 'LEARNING_RATE=0.001']
PROGRESS = [*ALIGNED, '--progress', '--progress_sampling', 'dense']
FROZEN, PRETRAINED = ', then frozen', ', no progress'  # the first starts from the run of the second
ALIGNMENT = {
    'raw features': RECOMMENDED,
    'progress, no alignment': ['--gtcc', *PROGRESS, '--set', 'ALIGNMENT_WEIGHT=0'],
    'joint': ['--gtcc', *PROGRESS],
    'joint, detached': ['--gtcc', *PROGRESS, '--set', 'PROGRESS_LOSS.detach_embeddings=true'],
    'filter on GTCC': ['--gtcc', *PROGRESS, '--set', 'PROGRESS_LOSS.head=hsmm'],
    **{loss + PRETRAINED: [loss_flag(loss), *ALIGNED] for loss in LOSSES},
    **{loss + FROZEN: [loss_flag(loss), *PROGRESS, '--freeze_encoder'] for loss in LOSSES},
}
STUDIES = {'heads': HEADS, 'alignment': ALIGNMENT}
# Column of the study -> table and column of the evaluation.
MEASURES = {
    'MAE': ('action_progress', 'mae'), 'Spearman': ('action_progress', 'spearman'),
    'skill': ('action_progress', 'skill'), 'average index': ('action_progress', 'baseline_average_index'),
    'paced per step': ('action_progress', 'baseline_paced_per_step'),
    "Kendall's tau": ('kendalls_tau', 'kendalls_tau'),
    'area error': ('enclosed_area_error', 'enclosed_area_error'), 'OGPE': ('ogpe', 'ogpe'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: run_study(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.progress_study', description='Progress heads compared.')
    parser.add_argument('--study', choices=STUDIES, default='heads')
    parser.add_argument('--configurations', nargs='+', metavar='NAME', help='of the study; default all')
    parser.add_argument('--dataset', metavar='NAME', help='default: the demo dataset, with its split of people')
    parser.add_argument('--splits', type=Path, metavar='FILE', help='default with --dataset: the last 25 %% of the '
                                                                    'sorted handles test, the others train')
    parser.add_argument('--folds', type=positive, help='leave the test recordings out, and test seed s on the s-th '
                                                       'of so many parts of the training recordings, for tuning')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=50)
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    parser.add_argument('--options', nargs=argparse.REMAINDER, default=[], help='further options of multitask_train.py '
                                                                                'for all configurations; last')
    parser.add_argument('-o', '--output', type=Path, help='also write the table to this file')
    arguments = parser.parse_args(argv)
    study = STUDIES[arguments.study]
    if unknown := [name for name in arguments.configurations or [] if name not in study]:
        parser.error(f'argument --configurations: {unknown[0]!r} is not of the study, expected some of {list(study)}')
    if arguments.splits and not arguments.dataset:
        parser.error('argument --splits: of no dataset; give --dataset, too')
    return arguments


def run_study(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train and evaluate every configuration with every seed, and print the table."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    study = STUDIES[arguments.study]
    names = arguments.configurations or list(study)
    heading = (f'{describe_command("benchmarks.studies.progress_study", argv)}\n\n'
               f'{describe_machine(arguments.threads)}.\n\n'
               f'Test recordings, mean over tasks, {arguments.checkpoint_type} checkpoint, {arguments.epochs} epochs; '
               f'mean and standard deviation over the seeds {arguments.seeds}.')
    print(f'{heading}\n', flush=True)
    rows = []
    with data_of(arguments) as dataset:
        for name in names:
            results = [train_and_evaluate(study, name, dataset, seed, arguments) for seed in arguments.seeds]
            rows.append({'configuration': name, **summarise(results)})
            print(rows[-1], file=sys.stderr, flush=True)
    table = format_table(rows)
    print(table)
    if arguments.output:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(f'{heading}\n\n{table}\n', encoding='utf-8')


@contextmanager
def data_of(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Point the environment to the dataset, and yield the options that choose it; runs go to a temporary folder."""
    if not arguments.dataset:
        with demo_environment() as options:
            yield options
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ['OUTPUT_PATH'] = folder
        if arguments.splits:
            yield ['--dataset', arguments.dataset, '--splits', str(arguments.splits)]
            return
        splits = Path(folder) / 'splits.json'
        write_json(splits, {'splits': last_quarter_splits(arguments.dataset)})
        yield ['--dataset', arguments.dataset, '--splits', str(splits)]


def last_quarter_splits(dataset: str) -> dict[str, dict[str, list[str]]]:
    """Return a split of each task: the last 25 % of the sorted handles test, the others train, none validate."""
    config, _ = parse_training_arguments(['1', '--tcc', '--tstack', '--dataset', dataset], 'progress_study')
    splits = {}
    for task, recordings in load_dataset(config).items():
        handles = sorted(recording.handle for recording in recordings)
        kept = len(handles) - round(len(handles) / 4)
        splits[task] = {'train': handles[:kept], 'val': [], 'test': handles[kept:]}
    return splits


def fold_splits(path: Path, fold: int, folds: int) -> Path:
    """Write a split like another one, in which a part of its training recordings tests and its test ones are left."""
    splits = read_splits(path)
    for parts in splits.values():
        train = parts['train']
        tests = train[fold * len(train) // folds:(fold + 1) * len(train) // folds]
        parts.update(train=[handle for handle in train if handle not in tests], test=tests)
    written = environment_path('OUTPUT_PATH') / f'fold{fold}.json'
    written.parent.mkdir(parents=True, exist_ok=True)
    write_json(written, {'splits': splits})
    return written


def train_and_evaluate(study: Mapping[str, Sequence[str]], name: str, dataset: Sequence[str], seed: int,
                       arguments: argparse.Namespace) -> dict[str, float]:
    """Train a configuration, and return the measures of its test recordings; NaN for those it does not have."""
    run = train_once(study, name, dataset, seed, arguments)
    tables = evaluate_checkpoint(open_run_folder(run), arguments.checkpoint_type, torch.device('cpu')).tables
    return {measure: tables[table][-1][column] if table in tables else float('nan')
            for measure, (table, column) in MEASURES.items()}


def train_once(study: Mapping[str, Sequence[str]], name: str, dataset: Sequence[str], seed: int,
               arguments: argparse.Namespace) -> Path:
    """Return the run of a configuration, trained unless it has been; a frozen encoder's own training comes first."""
    message = ''.join(character if character.isalnum() else '_' for character in name)
    command = [str(seed), *study[name], *dataset, '-ep', str(arguments.epochs), '--seed', str(seed), '-m',
               message, *arguments.options]
    if arguments.folds:
        place = command.index('--splits') + 1
        command[place] = str(fold_splits(Path(command[place]), seed % arguments.folds, arguments.folds))
    if name.endswith(FROZEN):
        command += ['--init_from', str(train_once(study, name.removesuffix(FROZEN) + PRETRAINED, dataset, seed,
                                                  arguments))]
    config, parsed = parse_training_arguments(command, 'progress_study')
    run = environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME
    if not run.exists():
        train(config, parsed)
    return run


def summarise(results: Sequence[dict[str, float]]) -> dict[str, str]:
    """Return mean and standard deviation of each measure over the seeds."""
    summary = {}
    for measure in MEASURES:
        values = np.array([result[measure] for result in results])
        spread = f' ± {values.std(ddof=1):.3f}' if len(values) > 1 else ''
        summary[measure] = '-' if np.isnan(values).any() else f'{values.mean():.3f}{spread}'
    return summary


if __name__ == '__main__':
    sys.exit(main())

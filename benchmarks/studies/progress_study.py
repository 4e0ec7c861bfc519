"""Compare progress heads, and measure the effect of alignment on progress: python -m benchmarks.studies.progress_study.

It trains named configurations with several seeds, evaluates the test recordings, and prints (with -o, also writes) a
table of means and stds. Without --dataset it uses the demo dataset; others are found by DATASET_PATH and JSON_DPATH.
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
from evaluation.baselines import BASELINES, LABEL_FREE
from evaluation.evaluate import evaluate_checkpoint
from multitask_train import train
from recordings.from_config import load_dataset
from recordings.splits import read_split_file
from utils.command_line import OneLineParser, option, run_command
from utils.files import atomic_path, write_json
from utils.run_folder import MULTI_TASK, open_run_folder

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
RECOMMENDED = ['--config', str(CONFIGS / 'progress_recommended.json')]
# A network that learns from both losses, and the plan's head on it.
LEARNED = ['--config', str(Path(__file__).with_name('learned.json'))]
NO_ALIGNMENT = ['--set', 'ALIGNMENT_WEIGHT=0']
# Name -> options of multitask_train.py besides dataset, split, seed and epochs. The controls are in every study: what a
# row of it gains by alignment, by learning, or by a network at all is its difference from these.
CONTROLS = {
    'raw features': [*LEARNED, *NO_ALIGNMENT, '--identity', '--set', 'ARCHITECTURE.MCN=false'],
    'untrained network': [*LEARNED, '--freeze_encoder'],
    'progress, no alignment': [*LEARNED, *NO_ALIGNMENT],
    'alignment, no progress': [*LEARNED, '--set', 'PROGRESS_LOSS.detach_embeddings=true'],
}
HEADS = {
    'plan': ['--gtcc', '--tstack', '--mcn', '--config', str(CONFIGS / 'progress_plan.json')],
    'recommended': RECOMMENDED,
    'recommended, label given': [*RECOMMENDED, '--condition_on_step'],
    'gru': LEARNED,
    'gru, bf16': [*LEARNED, '--amp'],
    'no augmentation': [*LEARNED, *(option for key in ('scale', 'shift', 'noise')
                                    for option in ('--set', f'AUGMENTATION.{key}=0'))],
    'time warp': [*LEARNED, '--set', 'AUGMENTATION.time_warp=0.2'],
    'no weight decay': [*LEARNED, '--set', 'WEIGHT_DECAY=0'],
    'constant rate': [*LEARNED, '--set', 'LEARNING_RATE_SCHEDULE=constant'],
    'stacking encoder': [*LEARNED, '--tstack'],
    'stacking, sees ahead': [*LEARNED, '--tstack', '--set', 'CAUSAL=false'],
}
FROZEN, PRETRAINED = ', then frozen', ', no progress'  # the first starts from the run of the second
ALIGNMENT = {
    'joint': LEARNED,
    'filter on GTCC': [*LEARNED, '--set', 'PROGRESS_LOSS.head=hsmm'],
    **{loss + PRETRAINED: [*LEARNED, loss_flag(loss), '--set', 'PROGRESS_LOSS.enabled=false'] for loss in LOSSES},
    **{loss + FROZEN: [*LEARNED, loss_flag(loss), '--freeze_encoder'] for loss in LOSSES},
}
STUDIES = {'heads': {**HEADS, **CONTROLS}, 'alignment': {**ALIGNMENT, **CONTROLS}}
GIVEN_LABEL = tuple(name for name in BASELINES if name not in LABEL_FREE)
# Column of the study -> table of the evaluation, and its columns: the smallest value counts.
MEASURES = {
    'MAE': ('action_progress', ['mae']), 'Spearman': ('action_progress', ['spearman']),
    'skill': ('action_progress', ['skill']),
    'best baseline': ('action_progress', [f'baseline_{name}' for name in LABEL_FREE]),
    'best baseline given the label': ('action_progress', [f'baseline_{name}' for name in GIVEN_LABEL]),
    "Kendall's tau": ('kendalls_tau', ['kendalls_tau']),
    'area error': ('enclosed_area_error', ['enclosed_area_error']), 'OGPE': ('ogpe', ['ogpe']),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: run_study(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.progress_study', description='Progress heads compared.')
    parser.add_argument('--study', choices=STUDIES, default='heads')
    known = '; '.join(f'{study}: {", ".join(map(repr, names))}' for study, names in STUDIES.items())
    parser.add_argument('--configurations', nargs='+', metavar='NAME', help=f'of the study; default all. {known}')
    add_data_options(parser)
    parser.add_argument('--folds', type=positive, help='for tuning: ignore the test recordings and test seed s '
                                                       'on the s-th of this many parts of the training recordings')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=50)
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    parser.add_argument('--options', nargs=argparse.REMAINDER, default=[], help='more options of multitask_train.py '
                                                                                'for all configurations; must be last')
    parser.add_argument('-o', '--output', type=Path, help='also write the table to this file')
    arguments = parser.parse_args(argv)
    study = STUDIES[arguments.study]
    if unknown := [name for name in arguments.configurations or [] if name not in study]:
        parser.error(f'argument --configurations: {unknown[0]!r} is not in the study, expected some of {list(study)}')
    if arguments.splits and not arguments.dataset:
        parser.error('argument --splits: requires a dataset; also give --dataset')
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
            rows.append({'configuration': name, **summarize(results)})
            print(rows[-1], file=sys.stderr, flush=True)
    table = format_table(rows)
    print(table)
    if arguments.output:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(f'{heading}\n\n{table}\n', encoding='utf-8')


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`data_of` reads."""
    parser.add_argument('--dataset', metavar='NAME', help='default: the demo dataset with its split by person')
    parser.add_argument('--splits', type=Path, metavar='FILE', help='default with --dataset: test on the last 25 %% of '
                                                                    'the sorted handles, train on the others')


@contextmanager
def data_of(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Set the environment variables and yield the options that select the dataset; runs go to a temporary folder."""
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
    """Return a split of each task: test on the last 25 % of the sorted handles, train on the others, no validation."""
    config, _ = parse_training_arguments(['1', '--tcc', '--tstack', '--dataset', dataset], 'progress_study')
    splits = {}
    for task, recordings in load_dataset(config).items():
        handles = sorted(recording.handle for recording in recordings)
        kept = len(handles) - round(len(handles) / 4)
        splits[task] = {'train': handles[:kept], 'val': [], 'test': handles[kept:]}
    return splits


def fold_splits(path: Path, fold: int, folds: int) -> Path:
    """Write a split that tests on a part of the training recordings of another split and omits its test recordings."""
    splits = read_split_file(path)
    for parts in splits.values():
        train = parts['train']
        tests = train[fold * len(train) // folds:(fold + 1) * len(train) // folds]
        parts.update(train=[handle for handle in train if handle not in tests], test=tests)
    written = environment_path('OUTPUT_PATH') / f'fold{fold}.json'
    written.parent.mkdir(parents=True, exist_ok=True)
    write_json(written, splits.as_json())
    return written


def train_and_evaluate(study: Mapping[str, Sequence[str]], name: str, dataset: Sequence[str], seed: int,
                       arguments: argparse.Namespace) -> dict[str, float]:
    """Train a configuration and return the measures of its test recordings, NaN if a measure is not available."""
    run = train_once(study, name, dataset, seed, arguments)
    tables = evaluate_checkpoint(open_run_folder(run), arguments.checkpoint_type, torch.device('cpu')).tables
    return {measure: min(tables[table][-1][column] for column in columns) if table in tables else float('nan')
            for measure, (table, columns) in MEASURES.items()}


def train_once(study: Mapping[str, Sequence[str]], name: str, dataset: Sequence[str], seed: int,
               arguments: argparse.Namespace) -> Path:
    """Train a configuration unless it has been trained, after the encoder that it starts from; return the run."""
    message = ''.join(character if character.isalnum() else '_' for character in name)
    command = [str(seed), *study[name], *dataset, '-ep', str(arguments.epochs), '--seed', str(seed), '-m',
               message, *arguments.options]
    if arguments.folds:
        place = command.index('--splits') + 1
        with option('--splits'):
            command[place] = str(fold_splits(Path(command[place]), seed % arguments.folds, arguments.folds))
    if name.endswith(FROZEN):
        command += ['--init_from', str(train_once(study, name.removesuffix(FROZEN) + PRETRAINED, dataset, seed,
                                                  arguments))]
    config, parsed = parse_training_arguments(command, 'progress_study')
    run = environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME
    if not run.exists():
        train(config, parsed)
    return run


def summarize(results: Sequence[dict[str, float]]) -> dict[str, str]:
    """Return mean and standard deviation of each measure over the seeds."""
    summary = {}
    for measure in MEASURES:
        values = np.array([result[measure] for result in results])
        spread = f' ± {values.std(ddof=1):.3f}' if len(values) > 1 else ''
        summary[measure] = '-' if np.isnan(values).any() else f'{values.mean():.3f}{spread}'
    return summary


if __name__ == '__main__':
    sys.exit(main())

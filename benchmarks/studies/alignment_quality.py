"""Measure what training with each loss does for alignment: python -m benchmarks.studies.alignment_quality.

It trains the preset configs/alignment_recommended.json with each loss, alone and jointly with a progress head, with
several seeds, and compares metrics of the test recordings with controls: the features, the features with their change
over 5 frames, the number of frames elapsed, and the untrained network. Without --dataset it uses the demo dataset;
others are found by DATASET_PATH and JSON_DPATH.
"""

import argparse
import copy
import itertools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.demo_data import loss_flag
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from benchmarks.studies.progress_study import CONFIGS, add_data_options, data_of, fold_splits
from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from configs.paths import environment_path
from evaluation.embedding_metrics import METRICS
from evaluation.evaluate import embed
from models.build import build_model, fill_in_head, fill_in_sizes
from multitask_train import train
from recordings.from_config import choose_splits, load_dataset, reading_options, split_recordings
from recordings.json_dataset import Recording, RecordingDataset
from training.standardize import fit_standardizer
from utils.ckpt_save import find_checkpoint, load_model
from utils.command_line import OneLineParser, run_command, seed_everything
from utils.loss_entry import get_loss_function
from utils.run_folder import MULTI_TASK

Embedder = Callable[[Sequence[Tensor]], Mapping[str, object]]  # recordings (T_i, D) -> 'outputs' [(T_i, E)], ...
VELOCITY_FRAMES = 5
PRESET = ['--config', str(CONFIGS / 'alignment_recommended.json'), '--no_tensorboard']
JOINT = ['--progress', '--progress_sampling', 'dense', '--progress_lambda', '1']
UNTRAINED = 'untrained network'
# Row -> options of multitask_train.py besides dataset, split, seed and epochs.
TRAINED = {**{loss: [*PRESET, loss_flag(loss)] for loss in LOSSES},
           **{f'{loss}, joint': [*PRESET, loss_flag(loss), *JOINT] for loss in LOSSES}}
# Column of the study -> table of the evaluation and its column.
MEASURES = {"Kendall's tau": ('kendalls_tau', 'kendalls_tau'), 'R2': ('phase_progression', 'r2'),
            'area error': ('enclosed_area_error', 'enclosed_area_error'),
            'phase accuracy': ('phase_classification', 'accuracy_100')}


def with_velocity(features: Tensor) -> Tensor:
    """Append the change over :data:`VELOCITY_FRAMES` frames to features, (T, D) -> (T, 2 D); before them it is 0."""
    earlier = torch.cat([features[:1].expand(VELOCITY_FRAMES, -1), features])[:len(features)]
    return torch.cat([features, features - earlier], dim=1)


def elapsed(features: Tensor) -> Tensor:
    """Return the number of frames so far, (T, D) -> (T, 1): an embedding that does not look at the features."""
    return torch.arange(len(features), dtype=features.dtype).unsqueeze(1)


CONTROLS = {'raw features': lambda features: features, 'raw with velocity': with_velocity, 'elapsed frames': elapsed}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: compare_losses(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.alignment_quality', description='Alignment by each loss.')
    parser.add_argument('--rows', nargs='+', choices=[*CONTROLS, UNTRAINED, *TRAINED], metavar='ROW',
                        default=[*CONTROLS, UNTRAINED, *TRAINED], help='rows of the table; default all')
    add_data_options(parser)
    parser.add_argument('--folds', type=positive, help='for tuning, with --dataset: ignore the test recordings and '
                                                       'test seed s on the s-th of this many parts of the others')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=15)
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    parser.add_argument('--options', nargs=argparse.REMAINDER, default=[], help='more options of multitask_train.py '
                                                                                'for all rows; must be last')
    return parser.parse_args(argv)


def compare_losses(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Embed the recordings in every way and with every seed, and print the table."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    print(f'{describe_command("benchmarks.studies.alignment_quality", argv)}\n\n'
          f'{describe_machine(arguments.threads)}.\n\n'
          f'Test recordings, mean over tasks, {arguments.epochs} epochs; mean and standard deviation over the seeds '
          f'{arguments.seeds}. Loss at the start: of the untrained network on two recordings of each task.\n',
          flush=True)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.rows}
    with data_of(arguments) as dataset:
        # Seed by seed, so that what standard error shows of an interrupted study compares all rows.
        for seed, name in itertools.product(arguments.seeds, arguments.rows):
            # Nothing is drawn in a control, but with folds each seed tests other recordings.
            if name not in CONTROLS or arguments.folds or not results[name]:
                results[name].append(measure(name, options_of(name, dataset, seed, arguments)))
                print(seed, name, results[name][-1], file=sys.stderr, flush=True)
    print(format_table([{'embeddings': name, **summarize(found)} for name, found in results.items()]))


def options_of(name: str, dataset: Sequence[str], seed: int, arguments: argparse.Namespace) -> list[str]:
    """Return the training command line of a row; that of a control only says which recordings to read."""
    message = ''.join(character if character.isalnum() else '_' for character in name)
    dataset = list(dataset)
    if arguments.folds:
        place = dataset.index('--splits') + 1
        dataset[place] = str(fold_splits(Path(dataset[place]), seed % arguments.folds, arguments.folds))
    return [str(seed), *TRAINED.get(name, PRESET), *dataset, '-ep', str(arguments.epochs), '--seed', str(seed), '-m',
            message, *arguments.options]


def measure(name: str, command: Sequence[str]) -> dict[str, float]:
    """Return the measures of a row with one seed, means over the tasks, and the loss at the start if it has one."""
    config, parsed = parse_training_arguments(command, 'multitask_train.py')
    recordings = load_dataset(config)
    parts = split_recordings(recordings, choose_splits(config, recordings, parsed.splits))
    reading = reading_options(config, recordings)
    start = {}
    if name in CONTROLS:
        def embedder(videos: Sequence[Tensor]) -> dict[str, list[Tensor]]:
            return {'outputs': [CONTROLS[name](video.float()) for video in videos]}
    else:
        fill_in_sizes(config, next(iter(parts['train'].values()))[0].width, len(recordings))
        fill_in_head(config, {task: [recording.actions for recording in part] for task, part in parts['train'].items()})
        seed_everything(config.SEED)
        embedder = build_model(config).eval()
        # As training does before its first step: else features on another scale would reach the untrained network.
        fit_standardizer(embedder, [RecordingDataset(part, **reading) for part in parts['train'].values()])
        if name != UNTRAINED:
            start['loss at the start'] = start_loss(embedder, config, parts['train'], reading)
            train(*parse_training_arguments(command, 'multitask_train.py'))
            run = environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME
            embedder = load_model(find_checkpoint(run, 'alignment'), torch.device('cpu'))[0]
    scores = [score(embedder, train_part, parts['test'][task], reading) for task, train_part in parts['train'].items()]
    return {**{measure: float(np.mean([row[measure] for row in scores])) for measure in MEASURES}, **start}


def score(embedder: Embedder, train_part: Sequence[Recording], test_part: Sequence[Recording],
          reading: Mapping) -> dict[str, float]:
    """Return the measures of a task; its recordings of one step each have no phases to classify, NaN."""
    known, unseen = (embed(embedder, part, reading, torch.device('cpu')) for part in (train_part, test_part))
    single = len(np.unique(np.concatenate(known.labels))) < 2
    return {measure: float('nan') if single and table == 'phase_classification'
            else float(resolve_name(METRICS[table])(known)(unseen)[column])
            for measure, (table, column) in MEASURES.items()}


@torch.no_grad()
def start_loss(model: torch.nn.Module, config: Mapping, parts: Mapping[str, Sequence[Recording]],
               reading: Mapping) -> float:
    """Return the mean over tasks of the alignment loss of two training recordings."""
    alone = copy.deepcopy(config)
    alone.PROGRESS_LOSS.enabled = False
    loss = get_loss_function(alone)
    values = []
    for recordings in parts.values():
        dataset = RecordingDataset(recordings[:2], **reading)
        output = model([dataset[index][0] for index in range(len(dataset))])
        values.append(float(loss(output, 0)['alignment_loss']))
    return float(np.mean(values))


def summarize(results: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Return mean and standard deviation of each measure over the seeds, '-' if there is no value."""
    summary = {}
    for measure in [*MEASURES, 'loss at the start']:
        values = np.array([result.get(measure, np.nan) for result in results])
        spread = f' ± {values.std(ddof=1):.3f}' if len(values) > 1 else ''
        summary[measure] = '-' if np.isnan(values).any() else f'{values.mean():.3f}{spread}'
    return summary


if __name__ == '__main__':
    sys.exit(main())

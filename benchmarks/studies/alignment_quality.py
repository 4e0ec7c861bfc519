"""Measure how training with each loss improves alignment: python -m benchmarks.studies.alignment_quality.

It trains on the demo dataset with several seeds and compares Kendall's tau and the enclosed area error of the test
split before and after training (checkpoint with the lowest validation alignment loss).
"""

import argparse
import logging
import math
import sys
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.speed.demo_data import demo_environment, loss_flag
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from configs.generic_config import CONFIG
from configs.paths import environment_path
from evaluation.alignment_metrics import enclosed_area_error, kendalls_tau
from evaluation.evaluate import embed, evaluate_checkpoint
from models.build import build_model, fill_in_sizes
from multitask_train import train
from recordings.from_config import choose_splits, load_dataset, reading_options, split_recordings
from utils.command_line import OneLineParser, run_command, seed_everything
from utils.run_folder import MULTI_TASK, open_run_folder

METRICS = {'kendalls_tau': 1, 'enclosed_area_error': -1}  # name -> 1 if higher is better, -1 if lower is better


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: compare_losses(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.alignment_quality', description='Alignment before '
                                                                                      'and after training.')
    parser.add_argument('--losses', nargs='+', choices=LOSSES, default=list(LOSSES))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=15)
    parser.add_argument('--learning_rate', type=float, default=CONFIG.LEARNING_RATE)
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    return parser.parse_args(argv)


def compare_losses(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train with every loss and seed, evaluate, and print a table."""
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    print(f'{describe_command("benchmarks.studies.alignment_quality", argv)}\n\n'
          f'{describe_machine(arguments.threads)}.\n\n'
          f'Test split of the demo dataset, mean over tasks; {arguments.epochs} epochs at learning rate '
          f'{arguments.learning_rate:g}; mean and standard deviation over the seeds {arguments.seeds}; the spread '
          'is the pooled std of the untrained and the trained networks.\n', flush=True)
    rows = []
    with demo_environment() as dataset:
        options = [*dataset, '--tstack', '--mcn', '-ep', str(arguments.epochs), '-lr', str(arguments.learning_rate)]
        for loss in arguments.losses:
            results = [measure_run([loss_flag(loss), *options], seed) for seed in arguments.seeds]
            rows += summarize(loss, results)
    print(format_table(rows))


def measure_run(options: Sequence[str], seed: int) -> dict[str, tuple[float, float]]:
    """Train once, and return each metric (mean over tasks) before and after training."""
    command = [f'{seed}', *options, '--seed', f'{seed}']
    before = untrained_metrics(command)
    config, arguments = parse_training_arguments(command, 'multitask_train.py')
    train(config, arguments)
    run = open_run_folder(environment_path('OUTPUT_PATH') / MULTI_TASK / config.EXPERIMENTNAME)
    tables = evaluate_checkpoint(run, 'alignment', torch.device('cpu')).tables
    return {metric: (before[metric], tables[metric][-1][metric]) for metric in METRICS}


def untrained_metrics(command: Sequence[str]) -> dict[str, float]:
    """Return the metrics of the untrained network of a training command."""
    config, arguments = parse_training_arguments(command, 'multitask_train.py')
    recordings = load_dataset(config)
    parts = split_recordings(recordings, choose_splits(config, recordings, arguments.splits))
    first = next(iter(parts['train'].values()))[0]
    fill_in_sizes(config, first.width, len(recordings))
    seed_everything(config.SEED)
    model = build_model(config).eval()
    reading = reading_options(config, recordings)
    tests = [embed(model, test, reading, torch.device('cpu')) for test in parts['test'].values()]
    return {'kendalls_tau': float(np.mean([kendalls_tau(test.embeddings) for test in tests])),
            'enclosed_area_error': float(np.mean([enclosed_area_error(test.embeddings, test.actions)
                                                  for test in tests]))}


def summarize(loss: str, results: Sequence[dict[str, tuple[float, float]]]) -> list[dict[str, object]]:
    """Return one row per metric: means over the seeds, and the gain in units of the spread over the seeds."""
    rows = []
    for metric, sign in METRICS.items():
        before, after = (np.array([result[metric][place] for result in results]) for place in (0, 1))
        stds = [values.std(ddof=1) if len(results) > 1 else math.nan for values in (before, after)]
        spread = math.hypot(*stds) / math.sqrt(2)
        gain = sign * (after.mean() - before.mean())
        shown = [f'{values.mean():.4f} ± {std:.4f}' for values, std in zip((before, after), stds, strict=True)]
        rows.append({'loss': loss, 'metric': metric, 'untrained': shown[0], 'trained': shown[1],
                     'seeds that gain': f'{(sign * (after - before) > 0).sum()} of {len(results)}',
                     'gain / spread': f'{gain / spread:.1f}'})
    return rows


if __name__ == '__main__':
    sys.exit(main())

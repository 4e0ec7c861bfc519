"""Train at ten times the default learning rate: python -m benchmarks.reliability.stress.

All losses, gradients and weights must stay finite, and no optimizer step may be skipped.
"""

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence

import torch
from easydict import EasyDict
from torch import nn

from benchmarks.speed.demo_data import demo_environment, loss_flag
from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from configs.generic_config import CONFIG
from models.build import build_model, fill_in_sizes
from recordings.batches import Batch, make_train_loaders, merge_loaders
from recordings.from_config import choose_splits, load_dataset, reading_options, split_recordings
from training.step import LossModule, build_optimizer, clip_limits, training_step
from utils.command_line import OneLineParser, run_command, seed_everything
from utils.errors import UserError
from utils.loss_entry import get_loss_function


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: stress_losses(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.reliability.stress',
                           description='Training steps at a high learning rate.')
    parser.add_argument('--losses', nargs='+', choices=LOSSES, default=list(LOSSES))
    parser.add_argument('--steps', type=positive, default=2000)
    parser.add_argument('--factor', type=float, default=10, help='factor on the default learning rate, default 10')
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    return parser.parse_args(argv)


def stress_losses(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Train with each loss and print a table.

    Raises:
        UserError: an optimizer step was skipped or a value was not finite.
    """
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.INFO)
    learning_rate = arguments.factor * CONFIG.LEARNING_RATE
    print(f'{describe_command("benchmarks.reliability.stress", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
          f'{arguments.steps} steps at learning rate {learning_rate:g} on the demo dataset; mean alignment loss over '
          'the first and the last tenth of them.\n', flush=True)
    with demo_environment() as dataset:
        rows = [run_steps([loss_flag(loss), *dataset, '-lr', str(learning_rate)], loss, arguments.steps)
                for loss in arguments.losses]
    print(format_table(rows))
    if any(row['skipped steps'] or row['not finite'] for row in rows):
        raise UserError('steps were skipped or values were not finite, see the table; expected none')


def run_steps(options: Sequence[str], loss: str, steps: int) -> dict[str, object]:
    """Train for a number of optimizer steps and return the row of the table."""
    config, arguments = parse_training_arguments(['1', *options, '--tstack', '--mcn', '--progress'], 'stress')
    model, batches = _build(config, arguments.splits)
    module = LossModule(model.train(), get_loss_function(config))
    optimizer = build_optimizer(model, config.LEARNING_RATE)
    limits = clip_limits(config)
    skipped = not_finite = 0
    values, started = [], time.monotonic()
    for _, (epoch, batch) in zip(range(steps), batches, strict=False):
        terms, taken, _ = training_step(module, optimizer, batch.videos, batch.times, epoch, limits)
        skipped += not taken
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        not_finite += sum(not bool(torch.isfinite(tensor).all())
                          for tensor in (*terms.values(), *gradients, *model.parameters()))
        values.append(float(terms['alignment_loss'].detach()))
    seconds = (time.monotonic() - started) / len(values)
    tenth = math.ceil(len(values) / 10)
    return {'loss': loss, 'steps': len(values), 'skipped steps': skipped, 'not finite': not_finite,
            'first tenth': f'{sum(values[:tenth]) / tenth:.4g}', 'last tenth': f'{sum(values[-tenth:]) / tenth:.4g}',
            'largest': f'{max(map(abs, values)):.4g}', 's / step': f'{seconds:.3f}'}


def _build(config: EasyDict, splits: str) -> tuple[nn.Module, Iterator[tuple[int, Batch]]]:
    """Return the network and an infinite iterator over (epoch, training batch)."""
    recordings = load_dataset(config)
    train = split_recordings(recordings, choose_splits(config, recordings, splits))['train']
    fill_in_sizes(config, next(iter(train.values()))[0].width, len(recordings))
    seed_everything(config.SEED)
    loaders = make_train_loaders(train, config.BATCH_SIZE, seed=config.SEED, **reading_options(config, recordings))
    loader = merge_loaders(loaders, config.BATCH_SIZE, seed=config.SEED, workers=0)

    def batches() -> Iterator[tuple[int, Batch]]:
        epoch = 0
        while True:
            loader.batch_sampler.epoch = epoch
            for batch in loader:
                yield epoch, batch
            epoch += 1

    return build_model(config), batches()


if __name__ == '__main__':
    sys.exit(main())

"""Measure the parts of a training step: python -m benchmarks.speed.training_step.

The network, the losses, the gradient clipping and the optimizer are those of
``multitask_train.py --tstack --mcn --progress``. The graph is cut at the network's outputs, so that the backward pass
of each loss can be timed separately. The table shows the time of the whole step next to the sum of its parts.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from easydict import EasyDict

from benchmarks.speed.measure import MIB, describe_command, describe_machine, format_table, in_fresh_process, positive
from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from models.build import build_model, fill_in_sizes
from training.step import LossModule, StepResult, build_optimizer, clip_gradients, clip_limits, training_step
from utils.command_line import OneLineParser, run_command, seed_everything
from utils.errors import UserError
from utils.loss_entry import LossTerms, get_loss_function, get_progress_lambda
from utils.memory import process_memory

FEATURE_DIM = 2048
NUM_ACTIONS = 8  # segments of equal length; the first and the last are background
WARM_UP_STEPS = 2
LARGEST_FRACTION = 0.5  # of the time of a step that the alignment loss may take
LossFunction = Callable[..., LossTerms]


class StepBenchmark:
    """Network, loss, optimizer and a batch of random features, ready for training steps.

    Args:
        loss: key of ``LOSSES``.
        length: number of frames of each recording.
        batch_size: number of recordings.
        heads: number of heads of the network.
        feature_dim: D of the features.
        device: where the steps are computed.
    """

    def __init__(self, loss: str, length: int, batch_size: int, heads: int, feature_dim: int = FEATURE_DIM,
                 device: torch.device | str = 'cpu') -> None:
        options = ['1', LOSSES[loss].flags[0], '--dataset', 'random', '--tstack', '--mcn', '--progress']
        self.config, _ = parse_training_arguments(options, 'benchmarks.speed.training_step')
        fill_in_sizes(self.config, feature_dim, heads)
        seed_everything(self.config.SEED)
        self.model = build_model(self.config).to(device).train()
        self.optimizer = build_optimizer(self.model, self.config.LEARNING_RATE)
        self.loss = get_loss_function(self.config)
        self.alignment_loss, self.progress_loss = split_loss(self.config)
        self.limits = clip_limits(self.config)
        self.videos = [torch.rand(length, feature_dim).to(device) for _ in range(batch_size)]
        self.times = [random_annotations(length) for _ in range(batch_size)]

    def run_whole(self, *, amp: bool = False) -> float:
        """Run a training step, with or without --amp, and return its seconds."""
        started = time.perf_counter()
        self.step(amp=amp)
        return time.perf_counter() - started

    def step(self, *, amp: bool = False) -> StepResult:
        """Run a training step, with or without --amp."""
        module = LossModule(self.model, self.loss, amp=amp)
        return training_step(module, self.optimizer, self.videos, self.times, 0, self.limits)

    def run_parts(self) -> dict[str, float]:
        """Run a training step with the graph cut at the network's outputs, and return the seconds of each part."""
        seconds: dict[str, float] = {}

        def timed(part: str, run: Callable[[], object]) -> object:
            started = time.perf_counter()
            result = run()
            seconds[part] = time.perf_counter() - started
            return result

        self.optimizer.zero_grad(set_to_none=True)
        outputs = timed('network', lambda: self.model(self.videos))
        leaves = cut(outputs)
        alignment = timed('alignment', lambda: self.alignment_loss(leaves, 0, times=self.times)['alignment_loss'])
        progress = timed('progress', lambda: self.progress_loss(leaves, 0, times=self.times)['progress_loss'])
        weight = get_progress_lambda(0, self.config.NUM_EPOCHS, self.config.PROGRESS_LOSS)
        timed('alignment, backward', alignment.backward)
        timed('progress, backward', (weight * progress).backward)
        timed('network, backward', lambda: backward_from(outputs, leaves))
        timed('clip and optimizer', self._update)
        return seconds

    def _update(self) -> None:
        """Clip the gradients and update the weights."""
        clip_gradients(self.optimizer, self.limits)
        self.optimizer.step()


def split_loss(config: EasyDict) -> tuple[LossFunction, LossFunction]:
    """Return two losses of a configuration: alignment without progress, and progress without alignment."""
    alignment, progress = copy.deepcopy(config), copy.deepcopy(config)
    alignment.PROGRESS_LOSS.enabled = False
    progress.LOSS_TYPE = EasyDict(dict.fromkeys(config.LOSS_TYPE, False))
    return get_loss_function(alignment), get_loss_function(progress)


def random_annotations(length: int) -> dict[str, list]:
    """Return the ``times`` of a recording with actions of equal length and background at both ends."""
    bounds = [round(length * part / NUM_ACTIONS) for part in range(NUM_ACTIONS + 1)]
    labels = ['background', *(f'action {number}' for number in range(1, NUM_ACTIONS - 1)), 'background']
    return {'step': labels, 'start_frame': bounds[:-1], 'end_frame': [bound - 1 for bound in bounds[1:]],
            'name': 'random'}


def cut(outputs: dict) -> dict:
    """Return the outputs of a network with the tensors that the losses read replaced by leaves."""
    leaves = {name: [value.detach().requires_grad_() for value in outputs[name]] for name in _tensors(outputs)}
    return {**outputs, **leaves}


def backward_from(outputs: dict, leaves: dict) -> None:
    """Propagate the gradients of the leaves through the network."""
    pairs = [(tensor, leaf.grad) for name in _tensors(outputs)
             for tensor, leaf in zip(outputs[name], leaves[name], strict=True) if leaf.grad is not None]
    torch.autograd.backward(*map(list, zip(*pairs, strict=True)))


def _tensors(outputs: dict) -> list[str]:
    """Return the names of the outputs that the losses read."""
    return [name for name in ('outputs', 'dropouts') if name in outputs]


def measure_step(loss: str, length: int, batch_size: int, heads: int, repeats: int, threads: int) -> dict[str, str]:
    """Return a row of the table: time of a step, peak memory of the process, and the fraction of time of each part.

    Whole steps, steps in bf16 and steps in parts alternate, so that a disturbance affects all of them. Call it in a
    separate process.
    """
    torch.set_num_threads(threads)
    benchmark = StepBenchmark(loss, length, batch_size, heads)
    whole, rounded, parts = [], [], []
    for _ in range(WARM_UP_STEPS + repeats):
        whole.append(benchmark.run_whole())
        rounded.append(benchmark.run_whole(amp=True))
        parts.append(benchmark.run_parts())
    step, amp = (1e3 * statistics.median(steps[WARM_UP_STEPS:]) for steps in (whole, rounded))
    medians = {part: statistics.median(step[part] for step in parts[WARM_UP_STEPS:]) for part in parts[0]}
    total = sum(medians.values())
    aligning = (medians['alignment'] + medians['alignment, backward']) / total
    return {'loss': loss.upper(), 'step, ms': f'{step:.0f}', 'with --amp, ms': f'{amp:.0f}',
            'step / --amp': f'{step / amp:.2f}', 'parts, ms': f'{1e3 * total:.0f}',
            'peak, MiB': f'{process_memory("VmHWM") / MIB:.0f}',
            **{part: f'{seconds / total:.0%}' for part, seconds in medians.items()},
            'alignment in all': f'{aligning:.0%}'}


def verdict(gtcc: dict[str, str]) -> str:
    """Describe whether GTCC takes at most the fraction of a step that an alignment loss may take."""
    fraction = gtcc['alignment in all']
    kept = float(fraction.rstrip('%')) <= 100 * LARGEST_FRACTION
    return (f'Rule: the alignment loss with GTCC, forward and backward, takes at most {LARGEST_FRACTION:.0%} of the '
            f'step: {fraction}, {"kept" if kept else "broken"}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.training_step', description='Parts of a training step.')
        parser.add_argument('--length', type=positive, default=256, help='frames of each recording, default 256')
        parser.add_argument('--batch_size', type=positive, default=2, help='recordings, default 2')
        parser.add_argument('--heads', type=positive, default=16, help='default 16')
        parser.add_argument('--threads', type=positive, default=2, help='default 2')
        parser.add_argument('--repeats', type=positive, default=15, help='timed steps of each loss, default 15')
        arguments = parser.parse_args(argv)
        print(f'{describe_command("benchmarks.speed.training_step", argv)}\n\n'
              f'{describe_machine(arguments.threads)}.\n\n'
              f'{arguments.batch_size} recordings of ({arguments.length}, {FEATURE_DIM}) random features, '
              f'StackingEncoder, {arguments.heads} heads, progress head; fractions of the sum of the parts, which are '
              'forward passes unless labeled backward.\n', flush=True)
        rows = [in_fresh_process(measure_step, loss, arguments.length, arguments.batch_size, arguments.heads,
                                 arguments.repeats, arguments.threads) for loss in LOSSES]
        if None in rows:
            raise UserError(f'--length {arguments.length}: the process of a step was killed, maybe because memory ran '
                            'out; lower it')
        print(f'{format_table(rows)}\n\n{verdict(next(row for row in rows if row["loss"] == "GTCC"))}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

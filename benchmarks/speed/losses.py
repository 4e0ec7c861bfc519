"""Compare time and memory of the alignment losses and their plain definitions: python -m benchmarks.speed.losses.

Each case computes value and gradient of a loss on two random sequences of the same length in a separate process. The
plain definitions in ``benchmarks/speed/slow_definitions.py`` show the cost of a direct implementation. They are
measured only at lengths at which they are feasible.
"""

import os
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.speed import slow_definitions
from benchmarks.speed.measure import (
    Measurement,
    describe_command,
    describe_machine,
    format_table,
    growth_exponent,
    in_fresh_process,
    positive,
    short,
    time_and_memory,
)
from losses import GTCC_loss, LAV_loss, TCC_loss, VAVA_loss
from utils.command_line import OneLineParser, run_command

EMBEDDING_DIM = 128
# The std of the distances is then twice the temperature 0.1: a softmax over N frames has about N / 7 large weights.
SCALE = 0.2
WARM_UP_LENGTH = 8
LENGTHS = [128, 512, 1024, 2048, 8192]
LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    'TCC': (TCC_loss, slow_definitions.tcc),
    'GTCC': (GTCC_loss, slow_definitions.gtcc),
    'LAV': (LAV_loss, slow_definitions.lav),
    'VAVA': (VAVA_loss, slow_definitions.vava),
}
LONGEST_SLOW = 2048
# The largest block of memory that, once freed, makes the C library keep freed memory instead of returning it.
FREED_BYTES = 2 ** 25 - 2 ** 16
LAV_TENSORS = 5.5  # tensors (N, N, E) that the slow LAV keeps in memory at the same time


def measure_loss(name: str, slow: bool, length: int, threads: int, repeats: int) -> Measurement:
    """Measure value and gradient of a loss in this process.

    Args:
        name: key of ``LOSSES``.
        slow: measure the plain definition.
        length: number of frames of both sequences.
        threads: number of threads of torch.
        repeats: number of timed runs.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loss = LOSSES[name][slow]
    value_and_gradient(loss, name, *random_inputs(WARM_UP_LENGTH))  # loads libraries and compiles code
    inputs = random_inputs(length)
    # As in every process that trains. Otherwise, both forms would spend a part of their time on new memory pages.
    torch.empty(FREED_BYTES, dtype=torch.uint8)
    return time_and_memory(lambda: value_and_gradient(loss, name, *inputs), repeats)


def random_inputs(length: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return two sequences, (T, E), and their drop vectors, (E + 1,)."""
    sequences = [(SCALE * torch.randn(length, EMBEDDING_DIM)).requires_grad_() for _ in range(2)]
    return sequences, [(SCALE * torch.randn(EMBEDDING_DIM + 1)).requires_grad_() for _ in range(2)]


def value_and_gradient(loss: Callable[..., Tensor], name: str, sequences: list[Tensor],
                        dropouts: list[Tensor]) -> None:
    """Run the forward and backward pass of a loss with default settings, without earlier gradients."""
    for leaf in (*sequences, *dropouts):
        leaf.grad = None
    value = loss(sequences, dropouts=dropouts) if name == 'GTCC' else loss(sequences)
    value.backward()


def slow_is_feasible(name: str, length: int) -> bool:
    """Return True if the plain definition takes reasonable time and at most half of the memory."""
    tensors = LAV_TENSORS * length ** 2 * EMBEDDING_DIM * 4 if name == 'LAV' else 0
    return length <= LONGEST_SLOW and tensors < os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2


def compare_loss(name: str, lengths: Sequence[int], threads: int, repeats: int) -> str:
    """Measure a loss and its plain definition at several lengths; return a table followed by the growth."""
    fast, slow, rows = {}, {}, []
    for length in lengths:
        fast[length] = in_fresh_process(measure_loss, name, False, length, threads, repeats)
        if slow_is_feasible(name, length):
            slow[length] = in_fresh_process(measure_loss, name, True, length, threads, repeats)
        rows.append(_row(length, fast[length], slow.get(length)))
    return f'### {name}\n\n{format_table(rows)}\n\nGrowth: {_growth(fast)}; slow: {_growth(slow)}.'


def _row(length: int, fast: Measurement | None, slow: Measurement | None) -> dict[str, str]:
    """Return a row of the table; values that were not measured are `-`."""
    row = {'frames': str(length)}
    for title, measured in (('', fast), ('slow: ', slow)):
        seconds, peak = measured or (None, None)
        row |= {f'{title}seconds': short(seconds), f'{title}peak MiB': short(peak)}
    ratios = [slow.seconds / fast.seconds, slow.peak_mib / max(fast.peak_mib, 1)] if fast and slow else [None, None]
    return row | {'slow / fast: time': short(ratios[0]), 'slow / fast: memory': short(ratios[1])}


def _growth(results: dict[int, Measurement | None]) -> str:
    """Describe how time and memory grow with the length."""
    measured = {length: result for length, result in results.items() if result}
    if len(measured) < 2:
        return 'not fitted'
    exponents = [growth_exponent(list(measured), [result[place] for result in measured.values()]) for place in (0, 1)]
    return f'time ~ T^{short(exponents[0])}, memory ~ T^{short(exponents[1])}'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.losses', description='Time and memory of the losses.')
        parser.add_argument('--lengths', type=positive, nargs='+', default=LENGTHS, help='frames of both sequences')
        parser.add_argument('--losses', choices=list(LOSSES), nargs='+', default=list(LOSSES))
        parser.add_argument('--threads', type=positive, default=2, help='default 2')
        parser.add_argument('--repeats', type=positive, default=5, help='timed runs of each case, default 5')
        arguments = parser.parse_args(argv)
        print(f'{describe_command("benchmarks.speed.losses", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
              f'Value and gradient on two sequences (T, {EMBEDDING_DIM}); memory is the increase of the peak of the '
              'process. Slow: the plain definitions.', flush=True)
        for name in arguments.losses:
            table = compare_loss(name, sorted(set(arguments.lengths)), arguments.threads, arguments.repeats)
            print(f'\n{table}', flush=True)

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

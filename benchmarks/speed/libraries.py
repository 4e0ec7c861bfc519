"""Measure what numba and POT bring over plain torch: python -m benchmarks.speed.libraries.

Soft-DTW has a form in compiled code and one in torch, for devices without compiled code. Sinkhorn iterations are run by
scaling a kernel in torch, and by POT in the log domain if the scalings would leave the range of float64.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.losses import EMBEDDING_DIM, SCALE
from benchmarks.speed.measure import (
    describe_command,
    describe_machine,
    format_table,
    in_fresh_process,
    positive,
    short,
)
from losses.distances import squared_distances
from losses.soft_dtw import align_by_antidiagonals, enter_by_antidiagonals
from utils.command_line import OneLineParser, run_command

LENGTHS = [100, 500, 1000, 2000]
GAMMA, REGULARIZATION, ZETA, STEPS = 0.1, 0.1, 0.5, 10  # defaults of LAV and VAVA; each plan takes 10 iterations


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        parser = OneLineParser(prog='python -m benchmarks.speed.libraries', description='What numba and POT bring.')
        parser.add_argument('--lengths', type=positive, nargs='+', default=LENGTHS, help='frames of both sequences')
        parser.add_argument('--repeats', type=positive, default=5, help='timed runs of each case, default 5')
        arguments = parser.parse_args(argv)
        print(f'{describe_command("benchmarks.speed.libraries", argv)}\n\n{describe_machine(1)}.\n\n'
              'CPU time on one thread.\n', flush=True)
        print(format_table(in_fresh_process(measure_forms, arguments.lengths, arguments.repeats)))
        with tempfile.TemporaryDirectory() as folder:
            compiling, reading = (in_fresh_process(first_soft_dtw, folder) for _ in range(2))
        print(f'\nTo import numba and compile soft-DTW takes {compiling:.2f} s once per machine, to import numba and '
              f'read the compiled code {reading:.2f} s per process; to import POT, {in_fresh_process(import_pot):.2f} '
              's per process that needs it.')

    return run_command(command)


def measure_forms(lengths: Sequence[int], repeats: int) -> list[dict[str, str]]:
    """Return a row per length: milliseconds of soft-DTW (value and gradient) and of Sinkhorn, in both forms."""
    from losses.sinkhorn import _log_sinkhorn, sinkhorn
    from losses.soft_dtw_cells import align_by_cells, enter_by_cells
    from losses.transport_costs import Costs

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for length in lengths:
        pair = [SCALE * torch.randn(length, EMBEDDING_DIM) for _ in range(2)]
        distances = squared_distances(*pair)  # (N, N)
        wide = distances.double()
        blocks = Costs(lambda rows, wide=wide: wide[rows].clone(), wide.shape, ZETA, None, wide)
        costs = F.pad(wide, (0, 1, 0, 1), value=ZETA)  # with virtual frames, (N + 1, N + 1)

        def by_cells(distances: Tensor = distances) -> object:
            return align_by_cells(distances, enter_by_cells(distances, GAMMA), GAMMA)

        def by_antidiagonals(distances: Tensor = distances) -> object:
            return align_by_antidiagonals(distances, enter_by_antidiagonals(distances, GAMMA), GAMMA)

        def by_pot(costs: Tensor = costs) -> object:
            return [_log_sinkhorn(oriented, REGULARIZATION, STEPS, oriented[:, :-1].amin(1) / REGULARIZATION)
                    for oriented in (costs, costs.T)]

        def by_kernel(blocks: Costs = blocks) -> object:
            return sinkhorn(blocks, REGULARIZATION, STEPS)

        cells, antidiagonals, pot, kernel = (_milliseconds(form, repeats) for form in (by_cells, by_antidiagonals,
                                                                                       by_pot, by_kernel))
        rows.append({'frames': str(length), 'soft-DTW, numba: ms': short(cells), 'torch: ms': short(antidiagonals),
                     'torch / numba': short(antidiagonals / cells), 'Sinkhorn, POT: ms': short(pot),
                     'torch, kernel: ms': short(kernel), 'kernel / POT': short(kernel / pot)})
    return rows


def first_soft_dtw(cache: str) -> float:
    """Return the CPU seconds of the first soft-DTW of this process, with compiled code kept in the folder ``cache``."""
    os.environ['NUMBA_CACHE_DIR'] = cache
    distances = torch.rand(2, 2)
    started = time.process_time()
    from losses.soft_dtw_cells import align_by_cells, enter_by_cells

    align_by_cells(distances, enter_by_cells(distances, GAMMA), GAMMA)
    return time.process_time() - started


def import_pot() -> float:
    """Return the CPU seconds that importing POT takes, next to torch."""
    started = time.process_time()
    import ot.bregman  # noqa: F401 (imported to be timed)

    return time.process_time() - started


def _milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median CPU time of a case in milliseconds, after one run to warm up."""
    run()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return 1e3 * statistics.median(seconds)


if __name__ == '__main__':
    sys.exit(main())

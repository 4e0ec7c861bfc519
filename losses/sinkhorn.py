"""Sinkhorn iterations over the frames of two recordings, each with an additional virtual frame.

The kernel is the only matrix of all frames in memory: costs are computed again whenever they are needed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from losses.transport_costs import Costs, row_blocks

STOP_THRESHOLD = 1e-9  # error of the marginals at which the Sinkhorn iterations stop
CHECK_EVERY = 10  # iterations between two checks of the marginals
CAP = 450.0  # largest cost above the minimum of its row and column, in units of the regularization; avoids underflow
NEGLIGIBLE = -50.0  # a mass with a smaller logarithm is below the rounding error of the marginals
Potentials = tuple[Tensor, Tensor]  # of rows, (N + 1,), and columns, (M + 1,)


def sinkhorn(costs: Costs, regularization: float, steps: int) -> list[Potentials]:
    """Run Sinkhorn iterations in two orders: once scaling the columns first, once the rows.

    The potentials of the side that is scaled second start at its smallest costs of real frames. Starting at 0 would
    first move all mass to the virtual frames, and hundreds of iterations would be needed to move it back.

    An iteration that scales rows and columns of the kernel takes a tenth of the time of one in the log domain, which
    exponentiates the whole matrix. Each cost is reduced by the minima of its row and column, so that every row and
    column of the kernel contains a 1. Costs that would underflow are capped, because arithmetic with subnormal numbers
    is several times slower on a CPU. If the cap may have changed a plan, or the scalings leave the range of float64,
    the iterations are run in the log domain on the uncapped costs.

    Returns:
        Potentials of rows, (N + 1,), and columns, (M + 1,), in units of the regularization, for either order.
    """
    if costs.like.dtype == torch.float64:
        kernel, starts, shifts, capped = _make_kernel(costs, regularization)
        columns = starts[1] - shifts[1]
        # A constant factor of all columns changes nothing, as the rows are divided by it; it prevents an overflow.
        scalings = _scale_kernel(kernel, torch.zeros_like(starts[0]), columns - columns.max(), steps)
        if scalings and not (capped and _cap_matters(kernel, scalings)):
            return [(rows + shifts[0], columns + shifts[1]) for rows, columns in scalings]
        del kernel
    dense = torch.cat([costs.rows(block) for block in costs.blocks()])  # (N + 1, M + 1)
    columns_first = _log_sinkhorn(dense, regularization, steps, dense[:, :-1].amin(1) / regularization)
    rows_first = _log_sinkhorn(dense.T, regularization, steps, dense[:-1].amin(0) / regularization)
    return [columns_first, rows_first[::-1]]


def _make_kernel(costs: Costs, regularization: float) -> tuple[Tensor, Potentials, Potentials, bool]:
    """Compute the exponentials of the negative costs, reduced by the minima of rows and columns and capped.

    Returns:
        Kernel, (N + 1, M + 1); the smallest cost of real frames of each row and column, in units of the regularization;
        what was subtracted from the rows and columns; and whether a cost was capped.
    """
    rows, columns = costs.shape
    kernel = costs.like.new_empty((rows + 1, columns + 1))
    row_starts, largest = kernel.new_empty(rows + 1), kernel.new_full((columns + 1,), -math.inf)
    column_starts, column_shifts = -largest, -largest  # minima so far
    for block in costs.blocks():
        part = costs.rows(block).div_(regularization)  # (b, M + 1)
        row_starts[block] = part[:, :-1].amin(1)
        if block.start < rows:
            column_starts = column_starts.minimum(part[:rows - block.start].amin(0))
        part.sub_(row_starts[block].unsqueeze(1))
        column_shifts, largest = column_shifts.minimum(part.amin(0)), largest.maximum(part.amax(0))
        kernel[block] = part
    for block in costs.blocks():
        kernel[block].sub_(column_shifts).clamp_(max=CAP).neg_().exp_()
    return kernel, (row_starts, column_starts), (row_starts, column_shifts), bool((largest - column_shifts).max() > CAP)


def _cap_matters(kernel: Tensor, scalings: Sequence[Potentials]) -> bool:
    """Return True if an entry whose cost was capped could have a mass that is not negligible.

    Args:
        kernel: (N + 1, M + 1).
        scalings: logarithms of the scalings of rows and columns, for either order.
    """
    # The largest possible mass at the cap: usually it is negligible, and the kernel need not be read.
    scalings = [(rows, columns) for rows, columns in scalings if rows.max() + columns.max() - CAP > NEGLIGIBLE]
    lowest = kernel.new_tensor(-CAP).exp() * (1 + 1e-9)  # an entry just above the cap is counted as capped, too
    for block in row_blocks(*kernel.shape):
        for rows, columns in scalings:
            mass_at_cap = rows[block].unsqueeze(1) + columns - CAP  # (b, M + 1), logarithm of the mass
            if bool(((kernel[block] <= lowest) & (mass_at_cap > NEGLIGIBLE)).any()):
                return True
    return False


def _scale_kernel(kernel: Tensor, rows: Tensor, columns: Tensor, steps: int) -> list[Potentials] | None:
    """Scale rows and columns of a kernel alternately, in both orders at once.

    Every product reads the kernel only once for both orders, and reading it takes most of the time.

    Args:
        kernel: (n, m), positive.
        rows: logarithms of the scaling of rows at the start, if columns are scaled first, (n,).
        columns: logarithms of the scaling of columns at the start, if rows are scaled first, (m,).
        steps: largest number of iterations.

    Returns:
        Logarithms of the scalings of rows and columns, columns scaled first, then rows scaled first; None if a scaling
        leaves the range of the dtype.
    """
    row_mass, column_mass = (1 / size for size in kernel.shape)
    # Row 0 of both belongs to the order that scales columns first. The other order is half an iteration ahead.
    # Products with two rows, (2, n) and (2, m), are much faster than those with two columns.
    scaled_rows = torch.stack([rows.exp(), row_mass / (kernel @ columns.exp())])  # (2, n)
    for step in range(steps):
        scaled_columns = column_mass / (scaled_rows @ kernel)  # (2, m)
        previous, sums = scaled_rows, scaled_columns @ kernel.T  # (2, n)
        scaled_rows = row_mass / sums
        if step % CHECK_EVERY == 0 and ((previous * sums - row_mass).norm(dim=1) < STOP_THRESHOLD).all():
            break
    # Each order ends with the side that it scales second.
    scalings = [(scaled_rows[0].log(), scaled_columns[0].log()), (previous[1].log(), scaled_columns[1].log())]
    return scalings if all(part.isfinite().all() for scaling in scalings for part in scaling) else None


def _log_sinkhorn(costs: Tensor, regularization: float, steps: int, rows: Tensor) -> Potentials:
    """Run Sinkhorn iterations in the log domain, columns first, from the potentials ``rows``."""
    from ot.bregman import sinkhorn_log  # imported here because it takes seconds and only this loss needs it

    marginals = [costs.new_full((size,), 1 / size) for size in costs.shape]
    _, log = sinkhorn_log(*marginals, costs, regularization, numItermax=steps, stopThr=STOP_THRESHOLD, warn=False,
                          log=True, warmstart=(rows, torch.zeros_like(costs[0])))
    return log['log_u'], log['log_v']

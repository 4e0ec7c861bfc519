"""Direct implementations of the alignment losses from the papers, as a baseline for speed tests and unit tests.

Each ordered pair is computed separately, as in the sums of the papers. Values are those of ``reduction='mean'`` in
:mod:`losses`, which documents the formulas and references. These functions are not intended for training.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Mixture = tuple[Tensor, Tensor, Tensor]  # weights, means and stds of K components, (K,) each
WINDOW, MARGIN = 0.1, 2.0  # of the contrastive term, as a fraction of the recording and as a squared distance
SMALLEST_STD = math.sqrt(0.5)  # of a component, in frames


def tcc(sequences: Sequence[Tensor], softmax_temp: float = 0.1, alignment_variance: float = 0.001) -> Tensor:
    """Compute :func:`losses.TCC_loss`; whole (N, M) matrices are built."""
    losses = []
    for u, v in itertools.product(sequences, repeat=2):
        index = torch.arange(len(u), dtype=u.dtype, device=u.device)
        alpha = torch.softmax(-torch.cdist(u, v) / softmax_temp, dim=1)  # (N, M)
        beta = torch.softmax(-torch.cdist(alpha @ v, u) / softmax_temp, dim=1)  # (N, N)
        mean = (beta * index).sum(1)
        spread = (beta * (index - mean.unsqueeze(1)) ** 2).sum(1) + 0.0025 * len(u) ** 2
        losses.append(((index - mean) ** 2 / spread + alignment_variance / 2 * torch.log(spread / len(u) ** 2)).mean())
    return torch.stack(losses).mean()


def fit_by_lbfgs(alpha: Tensor, n_components: int, outer_steps: int = 8, max_iter: int = 4) -> Mixture:
    """Fit a Gaussian mixture over frame indices to the weights of one frame by L-BFGS with a strong Wolfe line search.

    Args:
        alpha: weight of each index, (M,), with sum 1.
        n_components: K.
        outer_steps: number of calls of the optimizer.
        max_iter: number of iterations per call.
    """
    index = torch.arange(len(alpha), dtype=alpha.dtype)
    logits = torch.zeros(n_components, dtype=alpha.dtype, requires_grad=True)
    means = torch.linspace(0, len(alpha) - 1, n_components, dtype=alpha.dtype).requires_grad_()
    spacing = torch.full((n_components,), len(alpha) / n_components, dtype=alpha.dtype)
    log_stds = spacing.log().requires_grad_()
    optimizer = torch.optim.LBFGS([logits, means, log_stds], max_iter=max_iter, line_search_fn='strong_wolfe')

    def negative_log_likelihood() -> Tensor:
        optimizer.zero_grad()
        stds = log_stds.exp().clamp(min=SMALLEST_STD).unsqueeze(1)
        log_densities = -((index - means.unsqueeze(1)) / stds) ** 2 / 2 - stds.log()  # (K, M)
        loss = -(alpha * torch.logsumexp(torch.log_softmax(logits, 0).unsqueeze(1) + log_densities, dim=0)).sum()
        loss.backward()
        return loss

    for _ in range(outer_steps):
        optimizer.step(negative_log_likelihood)
    stds = log_stds.detach().exp().clamp(min=SMALLEST_STD)
    return torch.softmax(logits.detach(), 0), means.detach().clamp(0, len(alpha) - 1), stds


def gtcc(sequences: Sequence[Tensor], dropouts: Sequence[Tensor], n_components: int = 15, delta: float = 0.2,
         gamma: float = 0.95, softmax_temp: float = 0.1, epoch: int = 0, max_comparisons: int = 20,
         fit: Callable[[Tensor, int], Mixture] = fit_by_lbfgs, rng: torch.Generator | None = None) -> Tensor:
    """Compute :func:`losses.GTCC_loss` frame by frame, with a separate mixture fit for each frame."""
    losses, floor = [], gamma ** (epoch + 1)
    for first, second in itertools.permutations(range(len(sequences)), 2):
        u, v, drop = sequences[first], sequences[second], dropouts[second]
        scores = u @ drop[:-1] + drop[-1]
        kept = floor + (1 - floor) * torch.sigmoid((scores - scores.mean()) / scores.std(correction=0))
        frames = torch.randperm(len(u), generator=rng)[:max_comparisons].tolist()
        forward = (torch.rand(len(frames), generator=rng) < 0.5).tolist()
        errors = []
        for i, begins in zip(frames, forward, strict=True):
            alpha = torch.softmax(-torch.cdist(u[i:i + 1], v)[0] / softmax_temp, 0)  # (M,)
            nearby = _window(i, begins, len(u), delta)
            error = _cycle_error(i, u, v, alpha, nearby, fit(alpha.detach(), n_components), softmax_temp)
            errors.append(kept[i] * error + (1 - kept[i]) / (error + 0.25))
        losses.append(torch.stack(errors).mean() / (len(u) ** 2 / 12))
    return torch.stack(losses).mean()


def _window(frame: int, begins: bool, length: int, delta: float) -> list[int]:
    """Return the frames that a frame may be cycled back to."""
    size = max(1, round(delta * length))
    start = frame if begins else frame - size + 1
    inside = set(range(max(start, 0), min(start + size, length)))
    if frame < size:
        inside.update(range(size))
    if frame >= length - size:
        inside.update(range(length - size, length))
    return sorted(inside)


def _cycle_error(frame: int, u: Tensor, v: Tensor, alpha: Tensor, nearby: list[int], mixture: Mixture,
                 softmax_temp: float) -> Tensor:
    """Cycle soft neighbors back; return squared index errors, weighted by each component's fraction of alpha, ()."""
    weights, means, stds = mixture
    index = torch.arange(len(v), dtype=v.dtype)
    exponents = -(index - means.unsqueeze(1)) ** 2 / (2 * stds.unsqueeze(1) ** 2)  # (K, M)
    densities = torch.softmax(exponents, dim=1)
    fractions = torch.softmax((weights / stds).log().unsqueeze(1) + exponents, dim=0) @ alpha  # (K,)
    beta = torch.softmax(-torch.cdist(densities @ v, u[nearby]) / softmax_temp, dim=1)  # (K, len(nearby))
    returned = beta @ torch.tensor(nearby, dtype=u.dtype)  # (K,)
    return (fractions * (frame - returned) ** 2).sum()


def squared_differences(u: Tensor, v: Tensor) -> Tensor:
    """Compute squared distances, (N, M), from the (N, M, E) tensor of all differences."""
    return torch.linalg.vector_norm(u.unsqueeze(1) - v.unsqueeze(0), dim=-1) ** 2


def contrastive(distances: Tensor) -> Tensor:
    """Compute the contrastive inverse difference moment, (), of the squared distances within a sequence, (N, N).

    See :func:`losses.contrastive.contrastive_loss`.
    """
    index = torch.arange(len(distances), dtype=distances.dtype)
    gap = (index.unsqueeze(1) - index).abs()
    apart = ((gap / len(distances)) ** 2 + 1) * torch.relu(MARGIN - distances)
    return torch.where(gap <= max(1, round(WINDOW * len(distances))), distances, apart).mean()


class SoftDTW(torch.autograd.Function):
    """Soft-DTW by the two recursions of Cuturi & Blondel, one antidiagonal at a time, in numpy."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, distances: Tensor, gamma: float) -> Tensor:
        """Run Algorithm 1: distances, (N, M) -> value, ()."""
        costs = distances.detach().double().numpy()
        n, m = costs.shape
        total = np.full((n + 2, m + 2), np.inf)
        total[0, 0] = 0
        for diagonal in range(2, n + m + 1):
            i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
            j = diagonal - i
            before = np.stack([total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]]) / -gamma
            largest = before.max(0)
            total[i, j] = costs[i - 1, j - 1] - gamma * (np.log(np.exp(before - largest).sum(0)) + largest)
        ctx.costs, ctx.total, ctx.gamma, ctx.dtype = costs, total, gamma, distances.dtype
        return torch.tensor(total[n, m], dtype=distances.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        """Run Algorithm 2: compute the expected alignment, (N, M)."""
        costs, total, gamma = ctx.costs, ctx.total.copy(), ctx.gamma
        n, m = costs.shape
        costs = np.pad(costs, 1)
        total[n + 1], total[:, m + 1] = -np.inf, -np.inf
        total[n + 1, m + 1] = total[n, m]
        alignment = np.zeros_like(total)
        alignment[n + 1, m + 1] = 1
        for diagonal in range(n + m, 1, -1):
            i = np.arange(max(1, diagonal - m), min(n, diagonal - 1) + 1)
            j = diagonal - i
            for after in ((i + 1, j), (i, j + 1), (i + 1, j + 1)):
                alignment[i, j] += alignment[after] * np.exp((total[after] - total[i, j] - costs[after]) / gamma)
        return gradient * torch.from_numpy(alignment[1:-1, 1:-1]).to(ctx.dtype), None


def lav(sequences: Sequence[Tensor], min_temp: float = 0.1, cr_coefficient: float = 1.0) -> Tensor:
    """Compute :func:`losses.LAV_loss`, with an (N, M, E) tensor for each distance matrix.

    The loss is the same for both orders of a pair, so each pair is computed once.
    """
    losses = []
    for u, v in itertools.combinations(sequences, 2):
        alignment = SoftDTW.apply(squared_differences(u, v), min_temp) / (len(u) + len(v))
        contrast = contrastive(squared_differences(u, u)) + contrastive(squared_differences(v, v))
        losses.append((alignment + cr_coefficient * contrast) / (1 + 2 * cr_coefficient))
    return torch.stack(losses).mean()


def vava(sequences: Sequence[Tensor], maxIter: int = 20, lambda1: float = 1, lambda2: float = 0.1, gamma: float = 100.0,
         zeta: float = 0.5, delta: float = 0.6, global_step: int = 0) -> Tensor:
    """Compute :func:`losses.VAVA_loss`, with the gradient through the Sinkhorn iterations."""
    losses, phase = [], max(0.999 ** (global_step + 1), 0.001)
    for u, v in itertools.permutations(sequences, 2):
        squares = torch.cdist(u, v) ** 2  # (N, M)
        log_plan = _sinkhorn(torch.nn.functional.pad(squares, (0, 1, 0, 1), value=zeta), lambda2, maxIter // 2)
        matches = log_plan[:-1, :-1].argmax(1), log_plan[:-1, :-1].argmax(0)
        cost = _transport_cost(squares, matches, phase, lambda1, lambda2, zeta, delta)
        log_plan = _sinkhorn(cost, lambda2, maxIter - maxIter // 2)
        transport = (log_plan.exp() * (cost + lambda2 * log_plan)).sum()
        contrast = contrastive(torch.cdist(u, u) ** 2) + contrastive(torch.cdist(v, v) ** 2)
        losses.append((transport + gamma * (contrast + _contrastive_between(squares, log_plan))) / (1 + 3 * gamma))
    return torch.stack(losses).mean()


def _transport_cost(squares: Tensor, matches: tuple[Tensor, Tensor], phase: float, lambda1: float,
                    lambda2: float, zeta: float, delta: float) -> Tensor:
    """Compute ``D - lambda1 S - lambda2 log P`` with a virtual frame on each side, (N + 1, M + 1)."""
    n, m = squares.shape
    x = (torch.arange(n, dtype=squares.dtype) + 0.5).unsqueeze(1) / n
    y = (torch.arange(m, dtype=squares.dtype) + 0.5) / m
    variance = delta ** 2 * (1 / n ** 2 + 1 / m ** 2)
    from_row, from_column = (x - x[matches[1]].T).abs(), (y - y[matches[0]].unsqueeze(1)).abs()
    moment = phase / ((x - y) ** 2 + 1) + (1 - phase) / ((from_row ** 2 + from_column ** 2) / 2 + 1)
    log_prior = torch.logaddexp(math.log(phase) - (x - y) ** 2 / (2 * variance),
                                math.log(1 - phase) - ((from_row + from_column) / 2) ** 2 / (2 * variance))
    log_prior = log_prior - math.log(delta * math.sqrt(2 * math.pi))
    return torch.nn.functional.pad(squares - lambda1 * moment - lambda2 * log_prior, (0, 1, 0, 1), value=zeta)


def _sinkhorn(cost: Tensor, regularization: float, steps: int) -> Tensor:
    """Scale rows and columns of the kernel alternately, and return the logarithm of the plan."""
    start = cost[:, :-1].amin(1) / regularization
    kernel = torch.exp(start.unsqueeze(1) - cost / regularization)  # (N + 1, M + 1)
    rows, columns = cost.shape
    row_scaling = torch.ones_like(start)
    for _ in range(steps):
        column_scaling = 1 / columns / (kernel.T @ row_scaling)
        row_scaling = 1 / rows / (kernel @ column_scaling)
    return start.unsqueeze(1) - cost / regularization + row_scaling.log().unsqueeze(1) + column_scaling.log()


def _contrastive_between(squares: Tensor, log_plan: Tensor) -> Tensor:
    """Pull each frame to its best match unless that is the virtual frame, and push it from its worst match, ()."""
    terms = []
    for squared, plan in ((squares, log_plan[:-1]), (squares.T, log_plan[:, :-1].T)):
        true = plan[:, :-1]
        best, least = squared.gather(1, true.argmax(1, keepdim=True)), squared.gather(1, true.argmin(1, keepdim=True))
        matched = true.amax(1) > plan[:, -1]
        terms.append(torch.where(matched, best.squeeze(1), 0) + torch.relu(MARGIN - least.squeeze(1)))
    return torch.cat(terms).mean()

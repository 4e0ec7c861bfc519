"""Gaussian mixtures over frame indices, fitted to many distributions at once by expectation maximization."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

VARIANCE_FLOOR = 0.5  # squared frames; a narrower component could fall between two frames
OVER_RELAXATION = 1.7
START_STD = 0.3  # initial std of a component, in units of the spacing of the means
EMPTY = 1e-100  # a component with less weight has no data: it keeps its mean and variance
NO_MASS = 1e-20  # an index with less weight does not change a fit in float64
COARSE_INDICES = 128  # a longer distribution is first pooled into at least this many runs, fewer than twice as many
FINE_STEPS = 4  # last iterations, which use single indices
BATCH_ENTRIES = 2 ** 21  # rows * indices fitted at once; seven arrays of this size are in memory
CHUNK_ENTRIES = 2 ** 17  # rows * components * indices per product: 1 MiB in float64 stays in a core's cache


class GaussianMixture(NamedTuple):
    """A batch of R mixtures of K Gaussians over frame indices.

    Attributes:
        weights: (R, K), >= 0; rows sum to 1.
        means: (R, K), frames, within the sequence.
        variances: (R, K), squared frames, >= 0.5.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor


@torch.no_grad()
def fit_gaussian_mixture(alpha: Tensor, n_components: int, iterations: int, *,
                         lengths: Tensor | None = None) -> GaussianMixture:
    """Fit a mixture to each row of weights over indices by over-relaxed expectation maximization (EM).

    The fit maximizes the weighted log likelihood ``sum_j alpha_j log sum_k w_k N(j; mu_k, sigma_k^2)`` with variances
    of at least 0.5 squared frames. Initially the means are evenly spaced over the sequence, each std is 0.3 times their
    spacing, and the weights are equal.

    Every iteration except the last moves 1.7 times as far as an EM iteration, for weights and variances in log space.
    With a factor below 2 this converges to the same point as EM, in fewer iterations. If more than 256 indices have
    weight, all iterations except the last 4 treat each run of neighboring indices as one index.

    Args:
        alpha: weight of each index, (R, N), >= 0; each row has a positive sum and is 0 past its length.
        n_components: K, >= 1; may exceed N.
        iterations: number of iterations, >= 0.
        lengths: number of indices of each row, (R,), in [1, N]; None: N for all rows.

    Returns:
        The mixtures, in float64 if the device supports it, without gradient.

    Raises:
        ValueError: ``alpha`` is not a matrix or is empty, or a count is out of range.

    Reference:
        Donahue & Elhamifar, CVPR 2024 (the mixture); the published code fits each mixture with L-BFGS. Peters &
        Walker, An Iterative Procedure for Obtaining Maximum-Likelihood Estimates, SIAM J. Appl. Math. 1978
        (the over-relaxation).
    """
    if alpha.ndim != 2 or 0 in alpha.shape:
        raise ValueError(f'alpha has shape {tuple(alpha.shape)}, expected (R, N) with R, N >= 1')
    if n_components < 1 or iterations < 0:
        raise ValueError(f'n_components is {n_components} and iterations {iterations}, expected >= 1 and >= 0')
    if lengths is None:
        lengths = torch.full((len(alpha),), alpha.shape[1])
    rows = max(1, BATCH_ENTRIES // alpha.shape[1])
    batches = [_fit_rows(widen(weights), n_components, iterations, ends)
              for weights, ends in zip(alpha.split(rows), lengths.to(alpha.device).split(rows), strict=True)]
    return GaussianMixture(*(torch.cat(values) for values in zip(*batches, strict=True)))


def component_densities(mixture: GaussianMixture, num_indices: int) -> Tensor:
    """Compute each component's density at the indices, normalized to sum to 1 over them.

    Args:
        mixture: R mixtures of K components.
        num_indices: N >= 1.

    Returns:
        Densities, (R, K, N), >= 0; rows sum to 1 even if a component is very narrow or far from every index, because
        a softmax of ``-(j - mu)^2 / (2 sigma^2)`` cannot underflow to 0 at all indices.
    """
    index = torch.arange(num_indices, dtype=mixture.means.dtype, device=mixture.means.device)
    squares = (index - mixture.means.unsqueeze(-1)).square()  # (R, K, N)
    return torch.softmax(squares / (-2 * mixture.variances.unsqueeze(-1)), dim=-1)


def component_fractions(mixture: GaussianMixture, alpha: Tensor) -> Tensor:
    """Compute the fraction of the weights over indices that each component is responsible for.

    Args:
        mixture: R mixtures of K components; treated as constant.
        alpha: (R, N), >= 0; rows sum to 1.

    Returns:
        Fractions, (R, K), >= 0; rows sum to 1: ``sum_j alpha_j r_k(j)`` with the responsibilities
            ``r_k(j)``, linear in alpha.
    """
    index = torch.arange(alpha.shape[1], dtype=mixture.means.dtype, device=alpha.device)
    powers = torch.stack([torch.ones_like(index), index, index.square()])  # (3, N)
    # (R, K, 3) @ (3, N) -> (R, K, N)
    responsibilities = torch.softmax(_log_joint_coefficients(mixture) @ powers, dim=1)
    return (widen(responsibilities) @ widen(alpha).unsqueeze(-1)).squeeze(-1)  # (R, K)


def _fit_rows(alpha: Tensor, n_components: int, iterations: int, lengths: Tensor) -> GaussianMixture:
    """Fit the mixtures of the rows of alpha, (r, N), using only indices with mass: a sharp distribution has few."""
    index = torch.arange(alpha.shape[1], device=alpha.device).expand_as(alpha)
    # `not <=` instead of `>` also keeps NaN: it has to reach the loss, so that training skips the optimizer step.
    held = int((~(alpha <= NO_MASS)).sum(1).max())
    if held < alpha.shape[1]:
        index = alpha.topk(held, sorted=False).indices.sort().values  # (r, N) -> (r, m), in order of time
        alpha = alpha.gather(1, index)
    index = index.to(alpha.dtype)
    powers = torch.stack([torch.ones_like(index), index, index.square()], dim=1)  # (r, 3, m)
    last = (lengths.unsqueeze(-1) - 1).to(alpha.dtype)  # (r, 1), last index of each row
    coarse_steps = max(0, iterations - FINE_STEPS) if held > 2 * COARSE_INDICES else 0
    mixture = _start(n_components, last)
    if coarse_steps:
        mixture = _iterate(mixture, *_pool(alpha, powers, held // COARSE_INDICES), last, coarse_steps)
    mixture = _iterate(mixture, alpha, powers, last, max(0, iterations - coarse_steps - 1))
    # The last one is plain EM, which never lowers the likelihood; an over-relaxed iteration may overshoot.
    return _iterate(mixture, alpha, powers, last, min(1, iterations), over_relaxation=1)


def _pool(alpha: Tensor, powers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Pool runs of ``size`` indices: sum the weights (r, m), and average the powers of the index (r, 3, m) by weight.

    An iteration over the runs is an EM iteration in which all indices of a run share one responsibility.
    """
    padding = -alpha.shape[1] % size
    # (r, m) -> (r, runs, size), and powers (r, 3, m) -> (r, 3, runs * size)
    alpha, powers = F.pad(alpha, (0, padding)).unflatten(1, (-1, size)), F.pad(powers, (0, padding))
    pooled = alpha.sum(2)  # (r, runs, size) -> (r, runs)
    moments = (alpha.unsqueeze(1) * powers.unflatten(2, (-1, size))).sum(3)  # (r, 3, runs, size) -> (r, 3, runs)
    return pooled, moments / pooled.clamp(min=EMPTY).unsqueeze(1)


def _iterate(mixture: GaussianMixture, alpha: Tensor, powers: Tensor, last: Tensor, steps: int,
             over_relaxation: float = OVER_RELAXATION) -> GaussianMixture:
    """Run EM iterations over weights (r, m) and the powers 0, 1, 2 of the index, (r, 3, m)."""
    # alpha_j * (1, j, j^2), (r, m, 3): the M step is one matrix product of the responsibilities with it.
    weighted_powers = (alpha.unsqueeze(1) * powers).transpose(1, 2).contiguous()
    rows = max(1, CHUNK_ENTRIES // (mixture.means.shape[1] * alpha.shape[1]))
    chunks = list(zip(powers.split(rows), weighted_powers.split(rows), strict=True))
    for _ in range(steps):
        # Per chunk (rows, K, 3) @ (rows, 3, m) -> responsibilities (rows, K, m); times (rows, m, 3) -> (rows, K, 3).
        moments = [torch.softmax(coefficients @ powers, dim=1) @ weighted for coefficients, (powers, weighted)
                   in zip(_log_joint_coefficients(mixture).split(rows), chunks, strict=True)]
        stepped = _maximize(torch.cat(moments), mixture, last)
        mixture = stepped if over_relaxation == 1 else _extrapolate(mixture, stepped, last)
    return mixture


def _start(n_components: int, last: Tensor) -> GaussianMixture:
    """Center the components on K equal parts of [-1/2, last + 1/2], (r, 1) -> (r, K) each."""
    centers = torch.arange(n_components, dtype=last.dtype, device=last.device) + 0.5  # (K,)
    spacing = (last + 1) / n_components
    means = (centers * spacing - 0.5).clamp(min=0).minimum(last)
    variances = (START_STD * spacing).square().clamp(min=VARIANCE_FLOOR).expand_as(means)
    return GaussianMixture(torch.full_like(means, 1 / n_components), means, variances)


def _extrapolate(mixture: GaussianMixture, stepped: GaussianMixture, last: Tensor) -> GaussianMixture:
    """Move past the EM iteration, in log space for weights and variances, and clamp the result to valid ranges."""
    log_weights, means, log_variances = (
        torch.lerp(start, end, OVER_RELAXATION) for start, end in (
            (mixture.weights.clamp(min=EMPTY).log(), stepped.weights.clamp(min=EMPTY).log()),
            (mixture.means, stepped.means), (mixture.variances.log(), stepped.variances.log())))
    return GaussianMixture(torch.softmax(log_weights, dim=1), means.clamp(min=0).minimum(last),
                           log_variances.exp().clamp(min=VARIANCE_FLOOR))


def _log_joint_coefficients(mixture: GaussianMixture) -> Tensor:
    """Return the coefficients of 1, j, j^2 in log w_k + log N(j; mu_k, sigma_k^2), up to a constant: (r, K, 3)."""
    weights, means, variances = mixture
    constant = weights.clamp(min=EMPTY).log() - variances.log() / 2 - means.square() / (2 * variances)
    return torch.stack([constant, means / variances, -0.5 / variances], dim=-1)  # (r, K, 3)


def _maximize(moments: Tensor, previous: GaussianMixture, last: Tensor) -> GaussianMixture:
    """Compute weights, means and variances from the moments 0, 1, 2 of the index under each component, (r, K, 3)."""
    mass = moments[..., 0]  # (r, K)
    filled = mass > EMPTY
    divisor = torch.where(filled, mass, 1)  # avoids NaN from components without data
    means = moments[..., 1] / divisor
    variances = (moments[..., 2] / divisor - means.square()).clamp(min=VARIANCE_FLOOR)
    return GaussianMixture(mass / mass.sum(-1, keepdim=True),
                           torch.where(filled, means, previous.means).clamp(min=0).minimum(last),
                           torch.where(filled, variances, previous.variances))

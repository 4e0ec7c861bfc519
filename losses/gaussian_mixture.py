"""Gaussian mixtures over frame indices, fitted to many distributions at once by expectation-maximisation."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

VARIANCE_FLOOR = 0.5  # squared frames; narrower than this a component would sit between frames
OVER_RELAXATION = 1.7
START_DEVIATION = 0.3  # times the spacing of the means
EMPTY = 1e-100  # a component with less weight than this keeps its mean and variance: it has no data
NO_MASS = 1e-20  # an index of less weight changes no digit of a fit
COARSE_INDICES = 128  # of a longer distribution, runs of indices are fitted first: as many as these, or up to twice
FINE_STEPS = 4  # over single indices, at the end
BATCH_ENTRIES = 2 ** 21  # rows * indices fitted at once, of which seven tables are kept
CHUNK_ENTRIES = 2 ** 17  # rows * components * indices at once: 1 MiB in float64 stays in a core's cache


class GaussianMixture(NamedTuple):
    """R mixtures of K Gaussians over frame indices.

    Attributes:
        weights: (R, K), >= 0, rows sum to 1.
        means: (R, K), frames, within the sequence.
        variances: (R, K), squared frames, >= 0.5.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor


@torch.no_grad()
def fit_gaussian_mixture(alpha: Tensor, n_components: int, iterations: int, *,
                         lengths: Tensor | None = None) -> GaussianMixture:
    """Fit a mixture to each row of weights over indices, by over-relaxed expectation-maximisation.

    It maximises the weighted log-likelihood ``sum_j alpha_j log sum_k w_k N(j; mu_k, sigma_k^2)`` among variances of
    0.5 squared frames and more. The means start evenly over the sequence, the deviations at 0.3 times their spacing,
    the weights equal. All steps but the last go 1.7 times as far as expectation-maximisation would, weights and
    variances in the logarithm: below a factor of 2 that converges where the plain steps do, and sooner. Where more than
    256 indices have weight, all but the last 4 steps see runs of neighbours as one index.

    Args:
        alpha: (R, N), >= 0, each row of positive sum: the weight of each index. Zeros past a row's length.
        n_components: K >= 1; may exceed N.
        iterations: steps, >= 0.
        lengths: (R,), the number of indices of each row, in [1, N]; None: N for all.

    Returns:
        The mixtures, float64 where the device has it, without gradient.

    Raises:
        ValueError: alpha is no matrix, or a count is out of its range.

    Reference:
        Donahue & Elhamifar, CVPR 2024 (the mixture); the published code fits each one with L-BFGS. Peters & Walker,
        An Iterative Procedure for Obtaining Maximum-Likelihood Estimates, SIAM J. Appl. Math. 1978 (the factor).
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
    """Compute each component's density at the indices, normalised over them.

    Args:
        mixture: R mixtures of K components.
        num_indices: N >= 1.

    Returns:
        (R, K, N), >= 0, rows sum to 1 however narrow a component is or however far from an index: a softmax of
        ``-(j - mu)^2 / (2 sigma^2)`` does not underflow as a whole.
    """
    index = torch.arange(num_indices, dtype=mixture.means.dtype, device=mixture.means.device)
    squares = (index - mixture.means.unsqueeze(-1)).square()
    return torch.softmax(squares / (-2 * mixture.variances.unsqueeze(-1)), dim=-1)


def component_shares(mixture: GaussianMixture, alpha: Tensor) -> Tensor:
    """Compute the share of weights over indices that each component is responsible for.

    Args:
        mixture: R mixtures of K components; held fixed.
        alpha: (R, N), >= 0, rows sum to 1.

    Returns:
        (R, K), >= 0, rows sum to 1: ``sum_j alpha_j r_k(j)`` with the responsibilities ``r_k(j)``, linear in alpha.
    """
    index = torch.arange(alpha.shape[1], dtype=mixture.means.dtype, device=alpha.device)
    powers = torch.stack([torch.ones_like(index), index, index.square()])
    responsibilities = torch.softmax(_log_joint_coefficients(mixture) @ powers, dim=1)
    return (widen(responsibilities) @ widen(alpha).unsqueeze(-1)).squeeze(-1)


def _fit_rows(alpha: Tensor, n_components: int, iterations: int, lengths: Tensor) -> GaussianMixture:
    """Fit the mixtures of rows (r, N), over the indices that hold mass: of a sharp distribution these are few."""
    index = torch.arange(alpha.shape[1], device=alpha.device).expand_as(alpha)
    held = int((~(alpha <= NO_MASS)).sum(1).max())  # NaN is held: it has to reach the loss, whose step is skipped
    if held < alpha.shape[1]:
        index = alpha.topk(held, sorted=False).indices.sort().values
        alpha = alpha.gather(1, index)
    index = index.to(alpha.dtype)
    powers = torch.stack([torch.ones_like(index), index, index.square()], dim=1)
    last = (lengths.unsqueeze(-1) - 1).to(alpha.dtype)
    coarse_steps = max(0, iterations - FINE_STEPS) if held > 2 * COARSE_INDICES else 0
    mixture = _start(n_components, last)
    if coarse_steps:
        mixture = _iterate(mixture, *_pool(alpha, powers, held // COARSE_INDICES), last, coarse_steps)
    mixture = _iterate(mixture, alpha, powers, last, max(0, iterations - coarse_steps - 1))
    return _iterate(mixture, alpha, powers, last, min(1, iterations), over_relaxation=1)


def _pool(alpha: Tensor, powers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Join runs of ``size`` indices: weights (r, m) are summed, powers of the index (r, 3, m) averaged by weight.

    A step over the runs is one of expectation-maximisation with the responsibilities tied within a run.
    """
    padding = -alpha.shape[1] % size
    alpha, powers = F.pad(alpha, (0, padding)).unflatten(1, (-1, size)), F.pad(powers, (0, padding))
    pooled = alpha.sum(2)
    moments = (alpha.unsqueeze(1) * powers.unflatten(2, (-1, size))).sum(3)
    return pooled, moments / pooled.clamp(min=EMPTY).unsqueeze(1)


def _iterate(mixture: GaussianMixture, alpha: Tensor, powers: Tensor, last: Tensor, steps: int,
             over_relaxation: float = OVER_RELAXATION) -> GaussianMixture:
    """Take steps of expectation-maximisation, over weights (r, m) and powers 0, 1, 2 of the index (r, 3, m)."""
    # alpha_j * (1, j, j^2): the M step is one matrix product of the responsibilities with these. (r, m, 3)
    weighted_powers = (alpha.unsqueeze(1) * powers).transpose(1, 2).contiguous()
    rows = max(1, CHUNK_ENTRIES // (mixture.means.shape[1] * alpha.shape[1]))
    chunks = list(zip(powers.split(rows), weighted_powers.split(rows), strict=True))
    for _ in range(steps):
        moments = [torch.softmax(coefficients @ powers, dim=1) @ weighted for coefficients, (powers, weighted)
                   in zip(_log_joint_coefficients(mixture).split(rows), chunks, strict=True)]
        stepped = _maximise(torch.cat(moments), mixture, last)
        mixture = stepped if over_relaxation == 1 else _extrapolate(mixture, stepped, last)
    return mixture


def _start(n_components: int, last: Tensor) -> GaussianMixture:
    """Place the components in the middles of K equal parts of [-1/2, last + 1/2], (r, 1) -> (r, K) each."""
    steps = torch.arange(n_components, dtype=last.dtype, device=last.device) + 0.5
    spacing = (last + 1) / n_components
    means = (steps * spacing - 0.5).clamp(min=0).minimum(last)
    variances = (START_DEVIATION * spacing).square().clamp(min=VARIANCE_FLOOR).expand_as(means)
    return GaussianMixture(torch.full_like(means, 1 / n_components), means, variances)


def _extrapolate(mixture: GaussianMixture, stepped: GaussianMixture, last: Tensor) -> GaussianMixture:
    """Go further than the step, weights and variances in the logarithm, and stay within their ranges."""
    log_weights, means, log_variances = (
        torch.lerp(start, end, OVER_RELAXATION) for start, end in (
            (mixture.weights.clamp(min=EMPTY).log(), stepped.weights.clamp(min=EMPTY).log()),
            (mixture.means, stepped.means), (mixture.variances.log(), stepped.variances.log())))
    return GaussianMixture(torch.softmax(log_weights, dim=1), means.clamp(min=0).minimum(last),
                           log_variances.exp().clamp(min=VARIANCE_FLOOR))


def _log_joint_coefficients(mixture: GaussianMixture) -> Tensor:
    """Return the coefficients of 1, j, j^2 in log w_k + log N(j; mu_k, sigma_k^2), up to a constant, (r, K, 3)."""
    weights, means, variances = mixture
    constant = weights.clamp(min=EMPTY).log() - variances.log() / 2 - means.square() / (2 * variances)
    return torch.stack([constant, means / variances, -0.5 / variances], dim=-1)


def _maximise(moments: Tensor, previous: GaussianMixture, last: Tensor) -> GaussianMixture:
    """Set weights, means and variances from each component's moments 0, 1, 2 of the index, (r, K, 3)."""
    mass = moments[..., 0]
    filled = mass > EMPTY
    divisor = torch.where(filled, mass, 1)
    means = moments[..., 1] / divisor
    variances = (moments[..., 2] / divisor - means.square()).clamp(min=VARIANCE_FLOOR)
    return GaussianMixture(mass / mass.sum(-1, keepdim=True),
                           torch.where(filled, means, previous.means).clamp(min=0).minimum(last),
                           torch.where(filled, variances, previous.variances))

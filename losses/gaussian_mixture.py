"""Gaussian mixtures over frame indices, fitted to many distributions at once by expectation maximization."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.arguments import widen

VARIANCE_FLOOR = 0.5  # squared frames; a narrower component could fall between two frames
LOG_VARIANCE_FLOOR = math.log(VARIANCE_FLOOR)
OVER_RELAXATION = 1.7
START_STD = 0.3  # initial std of a component, in units of the spacing of the means
EMPTY = 1e-100  # a component with less weight has no data: it keeps its mean and variance
LOG_EMPTY = math.log(EMPTY)
NO_MASS = 1e-20  # an index with less weight does not change a fit in float64
# A longer distribution is pooled into at least so many runs, fewer than twice as many: first into few, for the last
# iterations into more, and for the last one not at all.
COARSE_INDICES, MIDDLE_INDICES = 128, 512
FINE_STEPS = 4  # last iterations, which do not use the coarse runs
BATCH_ENTRIES = 2 ** 21  # rows * indices fitted at once; seven arrays of this size are in memory
CHUNK_ENTRIES = 2 ** 17  # rows * components * indices per product: 1 MiB in float64 stays in a core's cache
LOWEST_EXPONENT = -690.0  # a smaller one would give a subnormal number; arithmetic with those is several times slower
OUT_OF_REACH = 1e-290  # sum over the components at an index that is so far from all that their exponents were clamped


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


class _Parameters(NamedTuple):
    """A batch of r mixtures during the fit, (r, K) each; over-relaxed iterations move in these coordinates."""

    log_weights: Tensor  # up to a constant per row, which changes no responsibility
    means: Tensor
    log_variances: Tensor


class _Distributions(NamedTuple):
    """Rows of weights over m indices, or over m runs of indices."""

    powers: Tensor  # (r, 3, m), powers 0, 1, 2 of the index, or their means over a run
    weighted: Tensor  # (r, 3, m), alpha times the powers; the first row is alpha


@torch.no_grad()
def fit_gaussian_mixture(alpha: Tensor, n_components: int, iterations: int, *,
                         lengths: Tensor | None = None) -> GaussianMixture:
    """Fit a mixture to each row of weights over indices by over-relaxed expectation maximization (EM).

    The fit maximizes the weighted log likelihood ``sum_j alpha_j log sum_k w_k N(j; mu_k, sigma_k^2)`` with variances
    of at least 0.5 squared frames. Initially the means are evenly spaced over the sequence, each std is 0.3 times their
    spacing, and the weights are equal.

    Every iteration except the last moves 1.7 times as far as an EM iteration, for weights and variances in log space.
    With a factor below 2 this converges to the same point as EM, in fewer iterations. If at least 256 indices have
    weight, all iterations except the last 4 treat each run of neighboring indices as one index; if at least 1,024 have,
    three of the last 4 use shorter runs.

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


def densities_and_responsibilities(mixture: GaussianMixture, num_indices: int) -> tuple[Tensor, Tensor]:
    """Compute the components' densities at the indices, and their responsibilities for the indices.

    Both are the product ``w_k N(j; mu_k, sigma_k^2)``, once normalized over the indices and once over the components.

    Args:
        mixture: R mixtures of K components.
        num_indices: N >= 1.

    Returns:
        Densities as in :func:`component_densities`, and responsibilities, (R, K, N) each. The responsibilities times a
        distribution, (R, N), are the fractions of it that the components explain: the weights of one more iteration.
    """
    index = torch.arange(num_indices, dtype=mixture.means.dtype, device=mixture.means.device)
    coefficients, powers = _log_joint_coefficients(_parameters(mixture)), _powers(index)  # (R, K, 3), (3, N)
    joint, totals = _joint_densities(coefficients, powers)  # (R, K, N), (R, 1, N)
    if totals is None:
        return component_densities(mixture, num_indices), joint
    return joint / joint.sum(2, keepdim=True), joint.div_(totals)


def _parameters(mixture: GaussianMixture) -> _Parameters:
    return _Parameters(mixture.weights.clamp(min=EMPTY).log(), mixture.means, mixture.variances.log())


def _powers(index: Tensor) -> Tensor:
    """Return the powers 0, 1, 2 of indices, (..., m) -> (..., 3, m)."""
    return torch.stack([torch.ones_like(index), index, index.square()], dim=-2)


def _fit_rows(alpha: Tensor, n_components: int, iterations: int, lengths: Tensor) -> GaussianMixture:
    """Fit the mixtures of the rows of alpha, (r, N), using only indices with mass: a sharp distribution has few."""
    index = torch.arange(alpha.shape[1], device=alpha.device).expand_as(alpha)
    # `not <=` instead of `>` also keeps NaN: it has to reach the loss, so that training skips the optimizer step.
    held = int((~(alpha <= NO_MASS)).sum(1).max())
    if held < alpha.shape[1]:
        index = alpha.topk(held, sorted=False).indices.sort().values  # (r, N) -> (r, m), in order of time
        alpha = alpha.gather(1, index)
    powers = _powers(index.to(alpha.dtype))  # (r, 3, m)
    distributions = _Distributions(powers, alpha.unsqueeze(1) * powers)
    last = (lengths.unsqueeze(-1) - 1).to(alpha.dtype)  # (r, 1), last index of each row
    coarse_steps = max(0, iterations - FINE_STEPS)
    parameters = _start(n_components, last)
    parameters = _iterate(parameters, _pool(distributions, held // COARSE_INDICES), last, coarse_steps)
    parameters = _iterate(parameters, _pool(distributions, held // MIDDLE_INDICES), last,
                          max(0, iterations - coarse_steps - 1))
    # The last one is plain EM, which never lowers the likelihood; an over-relaxed iteration may overshoot.
    log_weights, means, log_variances = _iterate(parameters, distributions, last, min(1, iterations), relaxation=1)
    return GaussianMixture(torch.softmax(log_weights, dim=1), means.clamp(min=0).minimum(last),
                           log_variances.exp().clamp(min=VARIANCE_FLOOR))


def _start(n_components: int, last: Tensor) -> _Parameters:
    """Center the components on K equal parts of [-1/2, last + 1/2], (r, 1) -> (r, K) each."""
    centers = torch.arange(n_components, dtype=last.dtype, device=last.device) + 0.5  # (K,)
    spacing = (last + 1) / n_components
    means = (centers * spacing - 0.5).clamp(min=0).minimum(last)
    variances = (START_STD * spacing).square().clamp(min=VARIANCE_FLOOR).expand_as(means)
    return _Parameters(torch.zeros_like(means), means, variances.log())


def _pool(distributions: _Distributions, size: int) -> _Distributions:
    """Pool runs of ``size`` indices: sum the weights, and average the powers of the index by weight.

    An iteration over the runs is an EM iteration in which all indices of a run share one responsibility.
    """
    if size < 2:
        return distributions
    weighted = distributions.weighted
    # (r, 3, m) -> (r, 3, runs, size) -> (r, 3, runs)
    pooled = F.pad(weighted, (0, -weighted.shape[2] % size)).unflatten(2, (-1, size)).sum(3)
    return _Distributions(pooled / pooled[:, :1].clamp(min=EMPTY), pooled)


def _iterate(parameters: _Parameters, distributions: _Distributions, last: Tensor, steps: int,
             relaxation: float = OVER_RELAXATION) -> _Parameters:
    """Run EM iterations that move ``relaxation`` times as far as EM, and clamp the result to valid ranges."""
    rows = max(1, CHUNK_ENTRIES // (parameters.means.shape[1] * distributions.powers.shape[2]))
    chunks = list(zip(*(values.split(rows) for values in distributions), strict=True))
    for _ in range(steps):
        coefficients = _log_joint_coefficients(parameters)
        moments = [_moments(part, *chunk) for part, chunk in zip(coefficients.split(rows), chunks, strict=True)]
        stepped = _maximize(moments[0] if len(moments) == 1 else torch.cat(moments), parameters)
        if relaxation == 1:
            parameters = stepped
            continue
        log_weights, means, log_variances = (torch.lerp(start, end, relaxation)
                                             for start, end in zip(parameters, stepped, strict=True))
        parameters = _Parameters(log_weights.clamp_(min=LOG_EMPTY), means.clamp_(min=0).minimum(last),
                                 log_variances.clamp_(min=LOG_VARIANCE_FLOOR))
    return parameters


def _moments(coefficients: Tensor, powers: Tensor, weighted: Tensor) -> Tensor:
    """Compute the E step: moments 0, 1, 2 of the index under alpha times each responsibility.

    Args:
        coefficients: see :func:`_log_joint_coefficients`, (r, K, 3).
        powers: of the index, (r, 3, m).
        weighted: the same times alpha, (r, 3, m).

    Returns:
        Moments, (r, 3, K).
    """
    joint, totals = _joint_densities(coefficients, powers)  # (r, K, m), (r, 1, m)
    # Dividing the weights, instead of all components, by the sum over the components saves a pass over all entries.
    return (weighted if totals is None else weighted / totals) @ joint.mT


def _joint_densities(coefficients: Tensor, powers: Tensor) -> tuple[Tensor, Tensor | None]:
    """Compute ``w_k N(j; mu_k, sigma_k^2)`` up to a constant per row, and its sum over the components.

    It takes half the time of a softmax over the components, which subtracts the largest exponent at every index first.

    Args:
        coefficients: see :func:`_log_joint_coefficients`, (r, K, 3).
        powers: (r, 3, m) or (3, m).

    Returns:
        Values (r, K, m) and sums (r, 1, m). If an index is out of reach of all components, so that the values would
        underflow, the responsibilities, which are the values divided by their sums, and None.
    """
    joint = (coefficients @ powers).clamp_(min=LOWEST_EXPONENT).exp_()
    totals = joint.sum(1, keepdim=True)
    if totals.min().item() < OUT_OF_REACH:
        return torch.softmax(coefficients @ powers, dim=1), None
    return joint, totals


def _log_joint_coefficients(parameters: _Parameters) -> Tensor:
    """Return the coefficients of 1, j, j^2 in log w_k + log N(j; mu_k, sigma_k^2), up to a constant: (r, K, 3)."""
    log_weights, means, log_variances = parameters
    precisions = (-log_variances).exp_()
    slopes = means * precisions
    constants = torch.addcmul(log_variances, means, slopes).mul_(-0.5).add_(log_weights)
    return torch.stack([constants, slopes, precisions.mul_(-0.5)], dim=-1)  # (r, K, 3)


def _maximize(moments: Tensor, previous: _Parameters) -> _Parameters:
    """Compute weights, means and variances from the moments 0, 1, 2 of the index under each component, (r, 3, K)."""
    mass, first, second = moments.unbind(1)  # (r, K) each
    # A tiny mass with the previous moments: a component without data keeps its mean and variance.
    mass = mass + EMPTY
    means = torch.add(first, previous.means, alpha=EMPTY).div_(mass)
    previous_second = torch.addcmul(previous.log_variances.exp(), previous.means, previous.means)
    variances = torch.add(second, previous_second, alpha=EMPTY).div_(mass).addcmul_(means, means, value=-1)
    return _Parameters(mass.log(), means, variances.clamp_(min=VARIANCE_FLOOR).log_())


import pytest
import torch

import losses.gaussian_mixture as gaussian_mixture
from losses.gaussian_mixture import (
    GaussianMixture,
    component_densities,
    densities_and_responsibilities,
    fit_gaussian_mixture,
)


def normal_rows(length, *modes):
    """Return a row of weights over indices from (weight, mean, std) triples."""
    index = torch.arange(length, dtype=torch.float64)
    row = sum(weight / std * torch.exp(-((index - mean) / std) ** 2 / 2) for weight, mean, std in modes)
    return (row / row.sum()).unsqueeze(0)


def log_likelihood(alpha, mixture):
    index = torch.arange(alpha.shape[1], dtype=torch.float64)
    normals = torch.distributions.Normal(mixture.means.unsqueeze(-1), mixture.variances.sqrt().unsqueeze(-1))
    joint = mixture.weights.clamp(min=1e-300).log().unsqueeze(-1) + normals.log_prob(index)
    return (alpha * joint.logsumexp(1)).sum(1)


def naive_step(alpha, weights, means, variances):
    N, K = len(alpha), len(means)
    mass, first, second = [0.] * K, [0.] * K, [0.] * K
    for j in range(N):
        joint = [weights[k] / variances[k] ** 0.5 * torch.exp(-(j - means[k]) ** 2 / (2 * variances[k]))
                 for k in range(K)]
        for k in range(K):
            part = alpha[j] * joint[k] / sum(joint)
            mass[k], first[k], second[k] = mass[k] + part, first[k] + part * j, second[k] + part * j * j
    new_means = [first[k] / mass[k] for k in range(K)]
    return (torch.stack(mass), torch.stack(new_means),
            torch.stack([(second[k] / mass[k] - new_means[k] ** 2).clamp(min=0.5) for k in range(K)]))


def random_rows(rows, length, sharpness=3., seed=0):
    noise = torch.randn(rows, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.softmax(sharpness * noise, dim=1)


def test_iteration_matches_a_naive_loop():
    alpha = random_rows(3, 12)
    mixture = fit_gaussian_mixture(alpha, 3, 0)
    stepped = fit_gaussian_mixture(alpha, 3, 1)
    for row in range(3):
        expected = naive_step(alpha[row], *(value[row] for value in mixture))
        for actual, value in zip(stepped, expected, strict=True):
            torch.testing.assert_close(actual[row], value, rtol=1e-9, atol=1e-9)


def test_initial_components_are_evenly_spaced():
    mixture = fit_gaussian_mixture(random_rows(1, 12), 3, 0)
    assert mixture.means.tolist() == [[1.5, 5.5, 9.5]]
    assert mixture.variances.tolist() == [[pytest.approx((0.3 * 4) ** 2)] * 3]
    assert mixture.weights.tolist() == [pytest.approx([1 / 3] * 3)]


def test_responsibilities_give_the_weights_of_one_more_iteration():
    alpha = random_rows(3, 12)
    mixture = fit_gaussian_mixture(alpha, 3, 4)
    fractions = (densities_and_responsibilities(mixture, 12)[1] @ alpha.unsqueeze(2)).squeeze(2)
    for row in range(3):
        expected = naive_step(alpha[row], *(value[row] for value in mixture))[0]
        torch.testing.assert_close(fractions[row], expected, rtol=1e-9, atol=1e-9)


def test_responsibilities_computed_by_hand():
    # Two narrow components at the first and the last index: each takes its half, and half of the middle index.
    mixture = GaussianMixture(*(torch.tensor([values]) for values in ([0.5, 0.5], [0., 4.], [0.5, 0.5])))
    densities, responsibilities = densities_and_responsibilities(mixture, 5)
    assert (responsibilities @ torch.tensor([0.1, 0.2, 0.4, 0., 0.3])).tolist() == [pytest.approx([0.5, 0.5], abs=1e-3)]
    torch.testing.assert_close(densities, component_densities(mixture, 5))


@pytest.mark.parametrize('far', [60, 900])
def test_an_index_out_of_reach_belongs_to_the_nearest_component(far):
    # The density of one component, or of both, underflows there.
    mixture = GaussianMixture(*(torch.tensor([values]).double() for values in ([0.5, 0.5], [10., 20.], [0.5, 2.0])))
    densities, responsibilities = densities_and_responsibilities(mixture, far)
    torch.testing.assert_close(densities, component_densities(mixture, far))
    torch.testing.assert_close(responsibilities.sum(1), torch.ones(1, far).double())
    assert responsibilities[0, :, -1].tolist() == pytest.approx([0, 1], abs=1e-99)
    alpha = torch.zeros(1, far).double()
    alpha[0, 10], alpha[0, -1] = 0.7, 0.3
    for K in (2, 15):
        fitted = fit_gaussian_mixture(alpha, K, 20)
        assert (fitted.weights * fitted.means).sum().item() == pytest.approx(7 + 0.3 * (far - 1), abs=1e-6)


def plain_step(alpha, mixture):
    """Run a plain iteration of expectation maximization on all rows."""
    index = torch.arange(alpha.shape[1], dtype=torch.float64)
    normals = torch.distributions.Normal(mixture.means.unsqueeze(-1), mixture.variances.sqrt().unsqueeze(-1))
    parts = torch.softmax(mixture.weights.log().unsqueeze(-1) + normals.log_prob(index), dim=1) * alpha.unsqueeze(1)
    mass = parts.sum(2)
    means = (parts * index).sum(2) / mass
    variances = (parts * (index - means.unsqueeze(-1)).square()).sum(2) / mass
    return GaussianMixture(mass, means, variances.clamp(min=0.5))


def test_over_relaxation_reaches_a_higher_likelihood_than_plain_iterations():
    alpha = torch.cat([normal_rows(200, (0.3, 20 + shift, 5), (0.5, 110 - shift, 9), (0.2, 150, 10 + shift))
                       for shift in range(30)])
    plain = fit_gaussian_mixture(alpha, 6, 0)
    for _ in range(20):
        plain = plain_step(alpha, plain)
    ours, theirs = log_likelihood(alpha, fit_gaussian_mixture(alpha, 6, 20)), log_likelihood(alpha, plain)
    assert (ours >= theirs - 1e-4).all() and ours.mean() > theirs.mean()


@pytest.mark.parametrize('length, n_components', [(30, 4), (100, 15), (5, 9)])
def test_iterations_converge(length, n_components):
    alpha = random_rows(6, length)
    early, late, later = (log_likelihood(alpha, fit_gaussian_mixture(alpha, n_components, steps))
                          for steps in (1, 400, 800))
    assert (late >= early - 1e-9).all() and (later - late).abs().max() < 1e-3


def test_indices_without_mass_do_not_change_the_fit():
    # A few of 2,000 indices have all the mass. A row with mass everywhere, in the same batch, forces a fit on all.
    sharp = torch.softmax(random_rows(2, 2000).log() * 40, dim=1)
    both = torch.cat([sharp, torch.full((1, 2000), 1 / 2000, dtype=torch.float64)])
    alone, together = (fit_gaussian_mixture(alpha, 5, 20) for alpha in (sharp, both))
    fitted = [(mixture.weights[:2].unsqueeze(-1) * component_densities(mixture, 2000)[:2]).sum(1)
              for mixture in (alone, together)]
    torch.testing.assert_close(*fitted, rtol=1e-9, atol=1e-9)


def test_recovers_two_modes():
    mixture = fit_gaussian_mixture(normal_rows(100, (0.3, 20, 3), (0.7, 70, 5)), 2, 20)
    torch.testing.assert_close(mixture.means, torch.tensor([[20., 70.]]).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.variances.sqrt(), torch.tensor([[3., 5.]]).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.weights, torch.tensor([[0.3, 0.7]]).double(), atol=0.01, rtol=0)


@pytest.mark.parametrize('name, alpha', [
    ('peaked', normal_rows(120, (1, 33.3, 2))),
    ('flat', torch.full((1, 120), 1 / 120, dtype=torch.float64)),
    ('multimodal', normal_rows(120, (0.2, 10, 3), (0.5, 60, 6), (0.3, 100, 2))),
])
def test_symmetric_divergence_is_small(name, alpha):
    mixture = fit_gaussian_mixture(alpha, 15, 20)
    fitted = (mixture.weights.unsqueeze(-1) * component_densities(mixture, 120)).sum(1)
    log_alpha, log_fitted = alpha.clamp(min=1e-12).log(), fitted.clamp(min=1e-12).log()
    divergence = ((alpha - fitted) * (log_alpha - log_fitted)).sum().item()
    assert 0 <= divergence < 0.05


@pytest.mark.parametrize('position', [0, 7, 19])
def test_all_mass_at_one_index(position):
    alpha = torch.zeros(1, 20)
    alpha[0, position] = 1
    mixture = fit_gaussian_mixture(alpha, 5, 20)
    assert (mixture.weights * mixture.means).sum().item() == pytest.approx(position, abs=1e-3)
    assert mixture.variances.min().item() == 0.5
    assert not mixture.means.requires_grad


@pytest.mark.parametrize('length, n_components', [(1, 1), (1, 15), (2, 15), (8192, 15)])
@pytest.mark.parametrize('sharpness', [0, 3, 100])
def test_parameters_stay_in_range(length, n_components, sharpness):
    alpha = random_rows(2, length, sharpness).float()
    mixture = fit_gaussian_mixture(alpha, n_components, 20)
    assert all(torch.isfinite(value).all() for value in mixture)
    assert mixture.means.min() >= 0 and mixture.means.max() <= length - 1
    assert mixture.variances.min() >= 0.5
    torch.testing.assert_close(mixture.weights.sum(1), torch.ones(2, dtype=torch.float64))


def test_padding_does_not_change_the_fit():
    alpha = random_rows(2, 10)
    padded = torch.cat([alpha, torch.zeros(2, 7)], dim=1)
    for actual, expected in zip(fit_gaussian_mixture(padded, 4, 20, lengths=torch.tensor([10, 10])),
                                fit_gaussian_mixture(alpha, 4, 20), strict=True):
        torch.testing.assert_close(actual, expected)


def test_pooling_of_indices_does_not_lower_the_likelihood(monkeypatch):
    index = torch.arange(2000, dtype=torch.float64)
    centers = torch.tensor([[300.0], [305.0], [900.0], [1500.0]])
    stds = torch.tensor([[2.0], [40.0], [150.0], [10.0]])
    bumps = torch.exp(-((index - centers) / stds).square() / 2) + 1e-6
    alpha = torch.stack([bumps[0], bumps[1] + bumps[3], bumps.sum(0), torch.ones_like(index)])
    alpha = alpha / alpha.sum(1, keepdim=True)

    def log_likelihood():
        weights, means, variances = fit_gaussian_mixture(alpha, 15, 20)
        exponents = (index - means.unsqueeze(2)).square() / (-2 * variances.unsqueeze(2))
        joint = exponents + (weights / variances.sqrt()).log().unsqueeze(2)
        return (alpha * torch.logsumexp(joint, dim=1)).sum(1)

    fast = log_likelihood()
    monkeypatch.setattr(gaussian_mixture, 'COARSE_INDICES', 2000)
    monkeypatch.setattr(gaussian_mixture, 'MIDDLE_INDICES', 2000)
    assert (fast >= log_likelihood() - 5e-3).all()


def test_rows_are_independent_of_chunks(monkeypatch):
    alpha = random_rows(5, 10)
    together = fit_gaussian_mixture(alpha, 4, 20)
    monkeypatch.setattr(gaussian_mixture, 'CHUNK_ENTRIES', 80)
    for actual, expected in zip(fit_gaussian_mixture(alpha, 4, 20), together, strict=True):
        torch.testing.assert_close(actual, expected)


def test_densities_computed_by_hand_do_not_underflow():
    mixture = GaussianMixture(*(torch.tensor([values], dtype=torch.float64)
                                for values in ([0.5, 0.5], [0., 4000.], [0.5, 0.5])))
    densities = component_densities(mixture, 3)
    expected = torch.tensor([1, 2.718281828459045 ** -1, 2.718281828459045 ** -4]).double()
    torch.testing.assert_close(densities[0, 0], expected / expected.sum(), rtol=1e-6, atol=0)
    assert densities[0, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize('arguments, message', [
    ((torch.ones(3), 2, 5), r'alpha has shape \(3,\)'),
    ((torch.ones(3, 4), 0, 5), 'n_components is 0'),
    ((torch.ones(3, 4), 2, -1), 'iterations -1'),
])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_gaussian_mixture(*arguments)

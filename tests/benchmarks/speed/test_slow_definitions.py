"""The plain definitions give what the fast losses give."""


import pytest
import torch

from benchmarks.speed import slow_definitions
from losses import GTCC_loss, LAV_loss, TCC_loss, VAVA_loss
from losses.gaussian_mixture import fit_gaussian_mixture


def leaves(*lengths, width=16, scale=0.5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [(scale * torch.randn(length, width, generator=generator, dtype=dtype)).requires_grad_()
            for length in lengths]


def drop_vectors(count, width=16):
    return list(leaves(count, width=width + 1)[0].detach())


def assert_same(slow, fast, sequences, *, value=1e-9, gradient=1e-6):
    torch.testing.assert_close(slow, fast, rtol=value, atol=0)
    expected = torch.autograd.grad(slow, sequences)
    for received, wanted in zip(torch.autograd.grad(fast, sequences), expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(received, wanted, rtol=0, atol=gradient * float(wanted.abs().max()))


@pytest.mark.parametrize('lengths', [(40, 33), (21, 2), (18, 25, 31)])
@pytest.mark.parametrize(('slow', 'fast'), [(slow_definitions.tcc, TCC_loss), (slow_definitions.lav, LAV_loss)])
def test_plain_tcc_and_lav_give_value_and_gradient_of_the_fast_ones(slow, fast, lengths):
    sequences = leaves(*lengths)
    assert_same(slow(sequences), fast(sequences), sequences)


def test_plain_gtcc_gives_value_and_gradient_of_the_fast_one_with_its_mixtures():
    def fit(alpha, n_components):
        weights, means, variances = fit_gaussian_mixture(alpha.unsqueeze(0), n_components, 20)
        return weights[0], means[0], variances[0].sqrt()

    sequences, dropouts = leaves(40, 33, 27), drop_vectors(3)
    options = {'n_components': 4, 'gamma': 0.7, 'max_comparisons': 9, 'epoch': 2}
    slow = slow_definitions.gtcc(sequences, dropouts, fit=fit, rng=torch.Generator().manual_seed(5), **options)
    fast = GTCC_loss(sequences, dropouts=dropouts, rng=torch.Generator().manual_seed(5), **options)
    assert_same(slow, fast, sequences)


def test_plain_gtcc_with_its_own_mixtures_comes_near_the_fast_one():
    sequences, dropouts = leaves(40, 33), drop_vectors(2)
    slow = slow_definitions.gtcc(sequences, dropouts, n_components=5, rng=torch.Generator().manual_seed(5))
    fast = GTCC_loss(sequences, n_components=5, dropouts=dropouts, rng=torch.Generator().manual_seed(5))
    torch.testing.assert_close(slow, fast, rtol=0.1, atol=0)


def test_lbfgs_fits_a_mixture_that_is_there():
    index = torch.arange(60, dtype=torch.float64)
    alpha = 0.7 * torch.exp(-(index - 14) ** 2 / 18) / 3 + 0.3 * torch.exp(-(index - 45) ** 2 / 50) / 5
    weights, means, deviations = slow_definitions.fit_by_lbfgs(alpha / alpha.sum(), 2, outer_steps=60)
    torch.testing.assert_close(torch.stack([weights, means, deviations]),
                               torch.tensor([[0.7, 0.3], [14, 45], [3, 5]], dtype=torch.float64), rtol=0.02, atol=0)


def test_plain_vava_comes_near_the_fast_one_at_few_steps():
    sequences = leaves(24, 30, scale=0.2)
    torch.testing.assert_close(slow_definitions.vava(sequences), VAVA_loss(sequences), rtol=1e-2, atol=0)


@pytest.mark.parametrize('global_step', [0, 700])
def test_plain_vava_gives_value_and_gradient_of_the_fast_one_once_the_steps_converge(global_step):
    sequences = leaves(12, 15, scale=0.2)
    options = {'maxIter': 4000, 'global_step': global_step, 'lambda2': 0.5, 'delta': 3.0}
    assert_same(slow_definitions.vava(sequences, **options), VAVA_loss(sequences, **options), sequences, value=1e-6,
                gradient=1e-4)

import math
import random

import pytest
import torch

import losses.gtcc as gtcc_module
import losses.mixture_cycles as mixture_cycles
from losses import GTCC_loss
from losses.frame_dropping import drop_weights
from losses.gaussian_mixture import GaussianMixture, fit_gaussian_mixture
from losses.gtcc import cycle_windows
from losses.mixture_cycles import Comparison, Cycles, ErrorTerms, mixture_cycle_sum
from tests.losses.naive import (
    DEGENERATE,
    DTYPES,
    PRECISIONS,
    RANDOM_LENGTHS,
    SCALES,
    assert_finite,
    degenerate_sequences,
    naive_distance,
    naive_softmax,
    random_sequences,
)


def naive_window(i, N, w, forward):
    window = set(range(i, i + w) if forward else range(i - w + 1, i + 1))
    if i < w:
        window |= set(range(w))
    if i >= N - w:
        window |= set(range(N - w, N))
    return sorted(window & set(range(N)))


def naive_fractions(alpha, mixture):
    fractions = [0 for _ in mixture[0]]
    for j, mass in enumerate(alpha):
        joint = [weight * math.exp(-(j - mu) ** 2 / (2 * variance)) / math.sqrt(variance)
                 for weight, mu, variance in zip(*mixture, strict=True)]
        fractions = [fraction + mass * value / sum(joint) for fraction, value in zip(fractions, joint, strict=True)]
    return fractions


def naive_error(u, v, i, alpha, window, mixture, tau, variance_weight):
    error = 0
    for fraction, mu, variance in zip(naive_fractions(alpha, mixture), *mixture[1:], strict=True):
        density = naive_softmax([-(j - mu) ** 2 / (2 * variance) for j in range(len(v))])
        neighbor = sum(p * v_j for p, v_j in zip(density, v, strict=True))
        beta = naive_softmax([-naive_distance(neighbor, u[n]) / tau for n in window])
        mean = sum(b * n for b, n in zip(beta, window, strict=True))
        component = (i - mean) ** 2
        if variance_weight:
            sigma = torch.sqrt(sum(b * (n - mean) ** 2 for b, n in zip(beta, window, strict=True)) + 0.25)
            component = component + variance_weight * torch.log(sigma)
        error = error + fraction * component
    return error


def naive_drop_weights(u, drop_vector, f):
    scores = [sum(a * b for a, b in zip(frame, drop_vector[:-1], strict=True)) + drop_vector[-1] for frame in u]
    mean = sum(scores) / len(scores)
    std = torch.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    return [f + (1 - f) / (1 + torch.exp(-(score - mean) / std)) for score in scores]


def naive_gtcc(sequences, dropouts, draws, *, K, delta, gamma, epoch, tau, variance_weight, reduction):
    f, pairs = gamma ** (epoch + 1), []
    for first, u in enumerate(sequences):
        for second, v in enumerate(sequences):
            if first == second:
                continue
            N, total = len(u), 0
            frames, forward = draws[first, second]
            kept = naive_drop_weights(u, dropouts[second], f) if gamma < 1 else None
            for i, side in zip(frames.tolist(), forward.tolist(), strict=True):
                alpha = torch.stack(naive_softmax([-naive_distance(u[i], v_j) / tau for v_j in v]))
                mixture = [value[0] for value in fit_gaussian_mixture(alpha.detach().unsqueeze(0), K, 20)]
                window = naive_window(i, N, max(1, round(delta * N)), side)
                error = naive_error(u, v, i, alpha, window, mixture, tau, variance_weight)
                if gamma < 1:
                    error = kept[i] * error + (1 - kept[i]) / (error + 0.25)
                total = total + error
            pairs.append(total / len(frames) / (N ** 2 / 12) if reduction == 'mean' else total)
    return sum(pairs) / len(pairs) if reduction == 'mean' else sum(pairs)


def repeat_draws(lengths, max_comparisons, seed):
    """Repeat the random draws of the loss: for each pair the frames, then their sides."""
    rng, draws = torch.Generator().manual_seed(seed), {}
    for first in range(len(lengths)):
        for second in range(len(lengths)):
            if first != second:
                frames = torch.randperm(lengths[first], generator=rng)[:max_comparisons]
                draws[first, second] = frames, torch.rand(len(frames), generator=rng) < 0.5
    return draws


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('gamma, reduction, variance_weight', [
    (0.9, 'mean', 0), (0.9, 'sum', 0), (1, 'mean', 0), (1, 'sum', 0.2), (0.9, 'mean', 0.2)])
@pytest.mark.parametrize('lengths', [(11, 7, 9), *RANDOM_LENGTHS[:2]])
def test_value_and_gradient_match_a_naive_loop(lengths, gamma, reduction, variance_weight):
    count, options = len(lengths), dict(delta=0.4, gamma=gamma, epoch=2, reduction=reduction)
    rounded = random_sequences(lengths, dtype=torch.float32)
    rounded += [vector[0] for vector in random_sequences((1,) * count, 5, 1, torch.float32, seed=3)]  # drop vectors
    exact = [tensor.detach().double().requires_grad_() for tensor in rounded]
    expected = naive_gtcc(exact[:count], exact[count:], repeat_draws(lengths, 4, 5), K=3, tau=0.1,
                          variance_weight=variance_weight, **options)
    theirs = torch.autograd.grad(expected, exact, allow_unused=True)
    largest = max(gradient.abs().max().item() for gradient in theirs[:count])
    for dtype, tolerance in PRECISIONS:
        given = [tensor.detach().to(dtype).requires_grad_() for tensor in rounded]
        actual = GTCC_loss(given[:count], 3, dropouts=given[count:], alignment_variance=variance_weight,
                           max_comparisons=4, rng=seeded(5), **options)
        assert actual.dtype == dtype and actual.shape == ()
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
        ours = torch.autograd.grad(actual, given, allow_unused=True)
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None) == (gamma == 1 and b is None)
            if a is not None:
                torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * largest)


def cycle_sum(u, v, frames, windows, mixture, tau, variance_weight, kept=None):
    """Return the sum of the values of some frames of u, cycled through v with a given mixture."""
    cycles = Cycles.of([u, v], [Comparison(0, 1, frames, windows)], tau)
    terms = ErrorTerms(variance_weight, [0.5])
    return 2 * mixture_cycle_sum([u, v], cycles, [mixture], terms, tau, None if kept is None else [kept])


@pytest.mark.parametrize('block_entries', [2 ** 17, 30])
@pytest.mark.parametrize('variance_weight', [0, 0.3])
def test_gradcheck_with_a_fixed_mixture(variance_weight, block_entries, monkeypatch):
    monkeypatch.setattr(mixture_cycles, 'BLOCK_ENTRIES', block_entries)
    u, v = random_sequences((8, 6))
    frames = torch.tensor([0, 3, 7])
    windows = cycle_windows(frames, torch.tensor([True, False, True]), 8, 0.5)
    mixture = fit_gaussian_mixture(torch.softmax(-3 * torch.cdist(u[frames], v), dim=1).detach(), 3, 20)
    kept = torch.tensor([0.9, 0.2, 0.6], dtype=torch.float64, requires_grad=True)
    arguments = frames, windows, mixture, 0.2, variance_weight
    torch.autograd.gradcheck(lambda u, v: cycle_sum(u, v, *arguments), (u, v))
    torch.autograd.gradcheck(lambda u, v, kept: cycle_sum(u, v, *arguments, kept), (u, v, kept))


def test_gradcheck_of_the_drop_weights():
    sequence, (vector,) = random_sequences((6,))[0], random_sequences((1,), 5)
    torch.autograd.gradcheck(lambda u, d: drop_weights(u, d, 0.3), (sequence, vector[0].detach().requires_grad_()))


def test_errors_computed_by_hand():
    # One narrow component at v_2 = u_3; the window [1, 3] of frame 1 contains frame 3: the error is (1 - 3)^2.
    u = torch.tensor([[0.], [100.], [200.], [300.]])
    v = torch.tensor([[0.], [100.], [300.]])
    mixture = GaussianMixture(*(torch.tensor(values).double() for values in ([[1.]], [[2.]], [[1e-4]])))
    wide, narrow = torch.tensor([[1, 4]]), torch.tensor([[0, 2]])  # in `narrow`, frame 1 is the nearest allowed frame
    assert cycle_sum(u, v, torch.tensor([1]), wide, mixture, 0.1, 0).item() == pytest.approx(4)
    assert cycle_sum(u, v, torch.tensor([1]), narrow, mixture, 0.1, 0).item() == pytest.approx(0)
    # sigma^2 + 1/4 = 1/4, so log sigma = log 1/2
    assert cycle_sum(u, v, torch.tensor([1]), narrow, mixture, 0.1, 0.5).item() == pytest.approx(0.5 * math.log(0.5))
    # Half of the value 4 is kept, half of its reciprocal is added.
    both = cycle_sum(u, v, torch.tensor([1]), wide, mixture, 0.1, 0, torch.tensor([0.5])).item()
    assert both == pytest.approx(2 + 0.5 / 4.25)


def test_exact_cycle_computed_by_hand():
    # Identical sequences of distant frames: L = 0. A frame then costs (1 - q) / 0.25, divided by N^2 / 12.
    u = 100 * torch.arange(3.).unsqueeze(1)
    loss = GTCC_loss([u, u], 3, 1., 1., rng=seeded())
    densest = GTCC_loss([u, u], 3, 0.3, 0.5, dropouts=[torch.tensor([1., 9.])] * 2, epoch=1, rng=seeded())
    sigmoid = [1 / (1 + math.exp(-z)) for z in (-math.sqrt(1.5), 0, math.sqrt(1.5))]
    expected = sum((1 - 0.25) * (1 - s) / 0.25 for s in sigmoid) / 3 / (9 / 12)
    assert densest.item() == pytest.approx(expected, rel=1e-6)  # delta 0.3: windows of one frame
    assert 0 <= loss.item() < 1


@pytest.mark.parametrize('length, delta', [(10, 0.2), (10, 0.5), (10, 1.0), (7, 0.01), (2, 0.2), (1, 0.2), (15, 0.3)])
@pytest.mark.parametrize('forward', [True, False])
def test_windows_match_a_naive_set(length, delta, forward):
    frames = torch.arange(length)
    windows = cycle_windows(frames, torch.full((length,), forward), length, delta)
    for i in range(length):
        expected = naive_window(i, length, max(1, round(delta * length)), forward)
        assert list(range(*windows[i])) == expected
        assert i in expected


def test_windows_computed_by_hand():
    frames, both = torch.tensor([5, 5, 1, 9]), torch.tensor([True, False, True, True])
    windows = cycle_windows(frames, both, 10, 0.3)
    assert windows.tolist() == [[5, 8], [3, 6], [0, 4], [7, 10]]


def test_drop_weights_computed_by_hand():
    # Scores 0, 1, 2 (without bias), standardized: -sqrt(3/2), 0, sqrt(3/2).
    weights = drop_weights(torch.tensor([[0., 5.], [1., 5.], [2., 5.]]), torch.tensor([1., 0., 7.]), 0.2)
    expected = [0.2 + 0.8 / (1 + math.exp(-z)) for z in (-math.sqrt(1.5), 0, math.sqrt(1.5))]
    assert weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_drop_weights_of_equal_scores(dtype):
    frames = torch.randn(1, 33, generator=seeded(), dtype=dtype).expand(77, -1).clone().requires_grad_()
    weights = drop_weights(frames, torch.randn(34, generator=seeded(1), dtype=dtype), 0.2)
    assert weights.tolist() == [pytest.approx(0.2 + 0.8 / 2)] * 77
    weights.sum().backward()
    assert frames.grad.abs().max() == 0


@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('kind', DEGENERATE)
@pytest.mark.parametrize('dtype', DTYPES)
def test_loss_and_gradient_are_finite(scale, kind, dtype):
    sequences = degenerate_sequences(kind, scale, dtype)  # fewer frames than components, and more
    dropouts = [torch.randn(9, generator=seeded(1)).to(dtype).requires_grad_() for _ in range(2)]
    for options in (dict(gamma=0.5, dropouts=dropouts, alignment_variance=3), dict(gamma=1)):
        assert_finite(lambda u, options=options: GTCC_loss(u, 15, 0.2, epoch=9, rng=seeded(), **options), sequences)
    assert all(torch.isfinite(vector.grad).all() for vector in dropouts)


def test_blocks_of_frames_do_not_change_loss_or_gradient(monkeypatch):
    sequences = random_sequences((30, 21, 4))
    options = dict(gamma=0.9, dropouts=[torch.ones(5, dtype=torch.float64)] * 3, alignment_variance=0.2)
    together = GTCC_loss(sequences, rng=seeded(), **options)
    gradients = torch.autograd.grad(together, sequences)
    monkeypatch.setattr(mixture_cycles, 'BLOCK_ENTRIES', 1000)
    blocks = GTCC_loss(sequences, rng=seeded(), **options)
    torch.testing.assert_close((blocks, torch.autograd.grad(blocks, sequences)), (together, gradients))
    with torch.no_grad():
        torch.testing.assert_close(GTCC_loss(sequences, rng=seeded(), **options), together)


def test_draws_follow_the_seed():
    sequences = random_sequences((60, 50))
    options = dict(gamma=1, max_comparisons=5)
    values = [GTCC_loss(sequences, rng=seeded(seed), **options).item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert GTCC_loss(sequences, **options).item() == values[0]
    torch.set_rng_state(state)
    GTCC_loss(sequences, rng=seeded(), **options)
    assert torch.equal(torch.get_rng_state(), state)  # a separate generator leaves the global generator unchanged


@pytest.mark.parametrize('length, expected', [(40, 1), (1000, 3)])
def test_short_sequences_take_one_thread(length, expected, monkeypatch):
    before, seen, fit = torch.get_num_threads(), [], gtcc_module.fit_gaussian_mixture

    def count_threads(*arguments, **options):
        seen.append(torch.get_num_threads())
        return fit(*arguments, **options)

    monkeypatch.setattr(gtcc_module, 'fit_gaussian_mixture', count_threads)
    torch.set_num_threads(3)
    try:
        GTCC_loss(random_sequences((length, length)), gamma=1)
        assert (seen, torch.get_num_threads()) == ([expected], 3)
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(gtcc_module, 'fit_gaussian_mixture', lambda *arguments, **options: 1 / 0)
            GTCC_loss(random_sequences((length, length)), gamma=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_python_random_is_not_used():
    random.seed(0)
    state = random.getstate()
    GTCC_loss(random_sequences((6, 5)), gamma=1)
    assert random.getstate() == state


def test_later_epochs_drop_more():
    u = 100 * torch.arange(6.).unsqueeze(1)
    dropouts = [torch.tensor([1., 0.])] * 2
    early, late = (GTCC_loss([u, u], 6, 0.1, 0.9, dropouts, epoch=epoch, rng=seeded()).item() for epoch in (0, 10))
    assert 0 < early < late


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_loss_of_non_finite_embeddings_is_not_finite(value):
    # Training skips the optimizer step of a loss that is not finite.
    sequences = [torch.full((length, 3), value) for length in (300, 7)]
    assert not GTCC_loss(sequences, dropouts=[torch.ones(4)] * 2).isfinite()


@pytest.mark.parametrize('arguments, message', [
    (dict(dropouts=None), 'dropouts is None, expected one drop vector per sequence'),
    (dict(dropouts=[torch.ones(3)]), 'contains 1 vectors, expected 2'),
    (dict(dropouts=[torch.ones(3), torch.ones(2)]), r'dropouts\[1\] has shape \(2,\), expected \(3,\)'),
    (dict(n_components=0), 'n_components is 0'), (dict(max_gmm_iters=0), 'max_gmm_iters is 0'),
    (dict(max_comparisons=0), 'max_comparisons is 0'), (dict(delta=0), 'delta is 0'), (dict(delta=1.5), 'delta is 1.5'),
    (dict(gamma=0), 'gamma is 0'), (dict(gamma=2), 'gamma is 2'), (dict(softmax_temp=-1), 'softmax_temp is -1')])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        GTCC_loss(**{'sequences': [torch.ones(3, 2), torch.ones(4, 2)], 'dropouts': [torch.ones(3)] * 2, **arguments})

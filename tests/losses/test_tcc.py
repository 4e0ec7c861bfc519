import math

import pytest
import torch

import losses.cycles as cycles_module
from losses import TCC_loss
from tests.losses.naive import (
    RANDOM_LENGTHS,
    assert_matches_naive,
    naive_distance,
    naive_softmax,
    random_sequences,
)


def naive_tcc(sequences, tau, variance_weight, reduction):
    pairs = []
    for u in sequences:
        for v in sequences:
            N, total = len(u), 0
            for i in range(N):
                alpha = naive_softmax([-naive_distance(u[i], v_j) / tau for v_j in v])
                neighbor = sum(a * v_j for a, v_j in zip(alpha, v, strict=True))
                beta = naive_softmax([-naive_distance(neighbor, u_k) / tau for u_k in u])
                mu = sum(b * k for k, b in enumerate(beta))
                s = sum(b * (k - mu) ** 2 for k, b in enumerate(beta)) + (N ** 2 / 400 if reduction == 'mean' else 0.25)
                if reduction == 'mean':  # time in units of N: both the error and the spread are divided by N^2
                    error = ((i - mu) / N) ** 2 / (s / N ** 2) + variance_weight / 2 * torch.log(s / N ** 2)
                    total = total + error / N
                else:
                    total = total + (i - mu) ** 2 / s + variance_weight / 2 * torch.log(s)
            pairs.append(total)
    return sum(pairs) / len(pairs) if reduction == 'mean' else sum(pairs)


@pytest.mark.parametrize(('lengths', 'reduction'), [
    ((6, 9), 'mean'), ((3, 7, 5), 'sum'), *zip(RANDOM_LENGTHS, ('mean', 'sum', 'sum', 'mean'), strict=True)])
def test_value_and_gradient_match_a_naive_loop(lengths, reduction):
    assert_matches_naive(lambda u: TCC_loss(u, softmax_temp=0.1, alignment_variance=0.4, reduction=reduction),
                         lambda u: naive_tcc(u, 0.1, 0.4, reduction), lengths)


def test_gradcheck():
    torch.autograd.gradcheck(lambda *sequences: TCC_loss(sequences, 0.2, 0.3), random_sequences((4, 6)))


def test_two_distant_frames_computed_by_hand():
    # Distances are large relative to the temperature: every frame returns to itself, mu = i and sigma = 0, so s is 1/4
    # with sums and, in units of N, 1/400 with means.
    u = torch.tensor([[0.], [100.]])
    loss = TCC_loss([u, u + 1], 0.1, 0.5, reduction='sum')
    assert loss.item() == pytest.approx(4 * 2 * 0.5 / 2 * math.log(0.25), rel=1e-6)
    assert TCC_loss([u, u + 1], 0.1, 0.5).item() == pytest.approx(0.25 * math.log(1 / 400), rel=1e-6)


def test_collapse_computed_by_hand():
    # Identical frames return uniformly: mu = 1, sigma^2 = 2/3 for 3 frames, so the errors are 1, 0, 1 over 11/12.
    frames = torch.ones(3, 2, requires_grad=True)
    loss = TCC_loss([frames, frames], alignment_variance=0, reduction='sum')
    assert loss.item() == pytest.approx(4 * 2 / (2 / 3 + 0.25), rel=1e-6)
    loss.backward()
    assert torch.isfinite(frames.grad).all()


def test_aligned_pair_costs_less_than_shuffled_pair():
    path = torch.linspace(0, 3, 20, dtype=torch.float64)
    u = torch.stack([path, path.square()], dim=1)
    shuffled = u[torch.randperm(20, generator=torch.Generator().manual_seed(0))] + 0.2
    assert TCC_loss([u, u + 0.05], alignment_variance=0) < TCC_loss([u, shuffled], alignment_variance=0) / 2


def test_mean_does_not_grow_with_length():
    def path(length):
        return torch.linspace(0, 1, length, dtype=torch.float64).unsqueeze(1).expand(-1, 3)
    short, long = (TCC_loss([path(n), path(n)], 0.05, 0.1).item() for n in (100, 400))
    assert long == pytest.approx(short, rel=0.1)


@pytest.mark.parametrize('lengths', [(11, 6), (6, 6), (3, 17, 8, 17)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_blocks_of_frames_change_neither_value_nor_gradient(monkeypatch, lengths, dtype):
    sequences = random_sequences(lengths, dtype=dtype)
    whole = TCC_loss(sequences)
    expected = torch.autograd.grad(whole, sequences)
    monkeypatch.setattr(cycles_module, 'BLOCK_ENTRIES', 100)
    monkeypatch.setattr(cycles_module, 'SMALLEST_BLOCK', 1)
    loss = TCC_loss(sequences)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(torch.autograd.grad(loss, sequences), expected)


def test_memory_of_a_long_pair_does_not_grow_with_the_product_of_its_lengths():
    # One matrix of distances to all frames would take 48 MiB in float32, and the loss would need several.
    resource = pytest.importorskip('resource')
    sequences = random_sequences((2500, 2500), 8, dtype=torch.float32)
    TCC_loss(random_sequences((600, 600), 8, dtype=torch.float32)).backward()  # blocks of the same size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    TCC_loss(sequences).backward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_near_frames_have_accurate_gradients_in_float32():
    # Two clusters whose frames are much closer to each other than to their mean.
    generator = torch.Generator().manual_seed(0)
    centers = 3 * torch.randn(2, 8, generator=generator)
    sequences = [(centers[torch.arange(length) * 2 // length] + 0.01 * torch.randn(length, 8, generator=generator))
                 .requires_grad_() for length in (14, 19)]
    exact = [sequence.detach().double().requires_grad_() for sequence in sequences]
    gradients = (torch.autograd.grad(TCC_loss(given), given) for given in (sequences, exact))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-5 * theirs.abs().max().item())


@pytest.mark.parametrize('arguments, message', [
    (dict(softmax_temp=0), 'softmax_temp is 0'),
    (dict(softmax_temp=math.nan), 'softmax_temp is nan'),
    (dict(alignment_variance=-1), 'alignment_variance is -1'),
])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        TCC_loss(**{'sequences': [torch.ones(3, 2), torch.ones(4, 2)], **arguments})

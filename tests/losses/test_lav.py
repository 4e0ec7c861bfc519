import pytest
import torch

from losses import LAV_loss
from losses.contrastive import contrastive_loss
from tests.losses.naive import (
    RANDOM_LENGTHS,
    assert_matches_naive,
    naive_contrast,
    random_sequences,
)


def naive_lav(sequences, gamma, weight, reduction):
    pairs = []
    for first, u in enumerate(sequences):
        for second, v in enumerate(sequences):
            if first == second:
                continue
            R = {(-1, -1): torch.zeros((), dtype=torch.float64)}
            for i, u_i in enumerate(u):
                for j, v_j in enumerate(v):
                    before = [R[cell] for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in R]
                    R[i, j] = ((u_i - v_j).square().sum()
                               - gamma * torch.logsumexp(torch.stack([-value / gamma for value in before]), 0))
            cost = R[len(u) - 1, len(v) - 1]
            alignment = cost / (len(u) + len(v)) if reduction == 'mean' else cost
            value = alignment + weight * (naive_contrast(u, reduction) + naive_contrast(v, reduction))
            pairs.append(value / (1 + 2 * weight) if reduction == 'mean' else value)
    return sum(pairs) / len(pairs) if reduction == 'mean' else sum(pairs)


@pytest.mark.parametrize(('lengths', 'reduction'), [
    ((20, 9), 'mean'), ((3, 18, 5), 'sum'), *zip(RANDOM_LENGTHS, ('mean', 'sum', 'sum', 'mean'), strict=True)])
def test_value_and_gradient_match_a_naive_loop(lengths, reduction):
    assert_matches_naive(lambda u: LAV_loss(u, 0.2, 0.3, reduction=reduction),
                         lambda u: naive_lav(u, 0.2, 0.3, reduction), lengths)


def test_gradcheck():
    torch.autograd.gradcheck(lambda *sequences: LAV_loss(sequences, 0.2, 0.3), random_sequences((18, 5)))


def test_values_computed_by_hand():
    # One frame each: distance 9 divided by N + M, without soft minimum; the contrast of a single frame is 0.
    pair = [torch.tensor([[0.]]), torch.tensor([[3.]])]
    assert LAV_loss(pair).item() == pytest.approx(9 / 2 / 3)  # divided by the sum of the weights
    assert LAV_loss(pair, reduction='sum').item() == pytest.approx(2 * 9)
    # Two distant frames each: a hard alignment along the diagonal, 0.01 + 0.01, divided by 4; all within the window.
    u = torch.tensor([[0.], [10.]])
    expected = 0.02 / 4 + 0.5 * 2 * 200 / 4
    assert LAV_loss([u, u + 0.1], cr_coefficient=0.5).item() == pytest.approx(expected / 2, rel=1e-4)


def test_coefficient_weights_the_contrastive_terms():
    sequences = random_sequences((20, 30))
    contrast = sum(contrastive_loss(sequence) for sequence in sequences)
    torch.testing.assert_close(5 * LAV_loss(sequences, cr_coefficient=2), LAV_loss(sequences, cr_coefficient=0)
                               + 2 * contrast)


def test_large_common_offset_does_not_cause_cancellation():
    near = random_sequences((20, 30), dtype=torch.float32)
    far = [(sequence.detach() + 1000).requires_grad_() for sequence in near]
    settled = [(sequence.detach() - 1000).requires_grad_() for sequence in far]  # the values that float32 preserved
    torch.testing.assert_close(LAV_loss(far), LAV_loss(settled), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('arguments, message', [
    (dict(min_temp=0), 'min_temp is 0'), (dict(cr_coefficient=-1), 'cr_coefficient is -1')])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        LAV_loss(**{'sequences': [torch.ones(3, 2)] * 2, **arguments})

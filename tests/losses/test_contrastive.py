import pytest
import torch

import losses.contrastive as contrastive_module
import losses.pairs as pairs_module
from losses.contrastive import contrastive_loss
from tests.losses.naive import assert_matches_naive, naive_contrast, random_sequences


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('length', [1, 2, 17, 40])
def test_value_and_gradient_match_a_naive_loop(length, reduction):
    assert_matches_naive(lambda u: contrastive_loss(u[0], reduction=reduction),
                         lambda u: naive_contrast(u[0], reduction), (length,), scale=0.4)


def test_gradcheck():
    torch.autograd.gradcheck(lambda u: contrastive_loss(u, window=2), random_sequences((9,))[0])


def test_values_computed_by_hand():
    # Window 1: D(0, 1) = D(1, 2) = 1 are inside; D(0, 2) = 4 is below the margin 6 by 2, with weight (2/3)^2 + 1.
    u = torch.tensor([[0.], [1.], [2.]])
    assert contrastive_loss(u, window=1, margin=6).item() == pytest.approx((4 * 1 + 2 * 2 * (4 / 9 + 1)) / 9)
    assert contrastive_loss(u, window=1, margin=6, reduction='sum').item() == pytest.approx(4 + 2 * 2 * (4 + 1))
    assert contrastive_loss(u, window=1, margin=3).item() == pytest.approx(4 / 9)  # D(0, 2) exceeds the margin


def test_window_below_one_is_a_fraction_of_the_recording():
    sequence = random_sequences((30,))[0]
    assert contrastive_loss(sequence, window=0.2) == contrastive_loss(sequence, window=6)
    assert contrastive_loss(sequence, window=0.01) == contrastive_loss(sequence, window=1)


def test_gradient_of_frames_within_the_window():
    u = torch.tensor([[0.], [1.]], requires_grad=True)
    contrastive_loss(u).backward()
    assert u.grad.flatten().tolist() == [-1, 1]


def test_recomputed_blocks_do_not_change_the_gradient(monkeypatch):
    sequence = random_sequences((40,))[0]
    kept = torch.autograd.grad(contrastive_loss(sequence), sequence)[0]
    monkeypatch.setattr(pairs_module, 'BLOCK_ENTRIES', 300)
    monkeypatch.setattr(contrastive_module, 'KEPT_ENTRIES', 100)
    torch.testing.assert_close(torch.autograd.grad(contrastive_loss(sequence), sequence)[0], kept)


@pytest.mark.parametrize('options, message', [
    (dict(window=0), 'window is 0'), (dict(margin=0), 'margin is 0'), (dict(reduction='max'), "reduction is 'max'")])
def test_invalid_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        contrastive_loss(torch.ones(3, 2), **options)

import itertools
import math

import pytest
import torch

from losses.soft_dtw import align_by_antidiagonals, enter_by_antidiagonals, soft_dtw
from losses.soft_dtw_cells import align_by_cells, enter_by_cells


def random_distances(rows, columns, scale=1.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.rand(rows, columns, generator=generator, dtype=torch.float64).to(dtype)


def alignments(rows, columns):
    """Return all monotone paths from the first to the last cell, each a list of cells."""
    if rows == columns == 1:
        return [[(0, 0)]]
    before = [(rows - 1, columns), (rows, columns - 1), (rows - 1, columns - 1)]
    return [path + [(rows - 1, columns - 1)] for shape in before if 0 not in shape for path in alignments(*shape)]


def naive_soft_dtw(distances, gamma):
    """Compute the recursion of Cuturi & Blondel, equation (1), cell by cell."""
    rows, columns = distances.shape
    infinity = torch.tensor(math.inf, dtype=distances.dtype)
    R = {(i, j): infinity for i, j in itertools.product(range(rows + 1), range(columns + 1))}
    R[0, 0] = torch.zeros((), dtype=distances.dtype)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            before = torch.stack([R[i - 1, j - 1], R[i - 1, j], R[i, j - 1]])
            R[i, j] = distances[i - 1, j - 1] - gamma * torch.logsumexp(-before[before < math.inf] / gamma, 0)
    return R[rows, columns]


@pytest.mark.parametrize('shape', [(1, 1), (1, 6), (6, 1), (5, 5), (9, 4), (3, 13)])
@pytest.mark.parametrize('gamma', [0.01, 0.1, 2])
def test_value_and_gradient_match_the_recursion(shape, gamma):
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        distances = random_distances(*shape, dtype=dtype).requires_grad_()
        exact = distances.detach().double().requires_grad_()
        actual, expected = soft_dtw(distances, gamma), naive_soft_dtw(exact, gamma)
        assert actual.dtype == dtype and actual.shape == ()
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
        ours, theirs = torch.autograd.grad(actual, distances)[0], torch.autograd.grad(expected, exact)[0]
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


def test_value_is_the_soft_minimum_over_all_alignments():
    distances = random_distances(4, 5)
    costs = torch.stack([sum(distances[cell] for cell in path) for path in alignments(4, 5)])
    assert len(costs) == 129  # Delannoy number D(3, 4)
    assert soft_dtw(distances, 0.3).item() == pytest.approx(-0.3 * torch.logsumexp(-costs / 0.3, 0).item(), abs=1e-12)
    assert soft_dtw(distances, 1e-4).item() == pytest.approx(costs.min().item(), abs=1e-3)


def test_gradcheck():
    torch.autograd.gradcheck(soft_dtw, random_distances(4, 6).requires_grad_())


def test_two_by_two_computed_by_hand():
    # All distances are 1; there are three alignments, two of three cells and one of two cells.
    distances = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    value = soft_dtw(distances, 1.0)
    assert value.item() == pytest.approx(-math.log(2 * math.exp(-3) + math.exp(-2)))
    value.backward()
    probability = math.exp(-3) / (2 * math.exp(-3) + math.exp(-2))
    assert distances.grad.flatten().tolist() == pytest.approx([1, probability, probability, 1])


@pytest.mark.parametrize('shape', [(1, 1), (1, 7), (7, 1), (2, 2), (40, 23), (23, 40)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_compiled_cells_and_antidiagonals_agree(shape, dtype):
    for scale in (0, 0.1, 10, 1e9):
        distances = random_distances(*shape, scale, dtype)
        by_cells, by_antidiagonals = enter_by_cells(distances, 0.1), enter_by_antidiagonals(distances, 0.1)
        torch.testing.assert_close(by_cells, by_antidiagonals, rtol=1e-12, atol=1e-12)
        alignment = align_by_cells(distances, by_cells, 0.1)
        torch.testing.assert_close(alignment, align_by_antidiagonals(distances, by_cells, 0.1), rtol=1e-9, atol=1e-12)
        assert alignment[0, 0] == pytest.approx(1) and alignment[-1, -1] == 1, scale
        assert 0 <= alignment.min() and alignment.max() <= 1 + 1e-9, scale


@pytest.mark.parametrize('enter', [enter_by_cells, enter_by_antidiagonals])
def test_nan_propagates(enter):
    distances = random_distances(6, 7)
    distances[2, 3] = math.nan
    entering = enter(distances, 0.1)
    assert entering[2, 3].isfinite() and entering[-1, -1].isnan() and soft_dtw(distances).isnan()


def test_transposed_distances_give_the_transposed_alignment():
    distances = random_distances(8, 5).requires_grad_()
    gradient, = torch.autograd.grad(soft_dtw(distances), distances)
    turned = distances.detach().T.requires_grad_()  # not contiguous
    value = soft_dtw(turned)
    assert value.item() == pytest.approx(soft_dtw(distances).item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value, turned)[0], gradient.T)


def test_upstream_gradient_scales_the_gradient():
    distances = random_distances(3, 4).requires_grad_()
    once, = torch.autograd.grad(soft_dtw(distances), distances)
    scaled, = torch.autograd.grad(-2.5 * soft_dtw(distances), distances)
    torch.testing.assert_close(scaled, -2.5 * once)


def test_hard_alignments_of_large_distances():
    # With distances of 1e9 the soft minimum is the minimum, and the gradient is an alignment of zeros and ones.
    distances = random_distances(30, 20, 1e9).requires_grad_()
    gradient, = torch.autograd.grad(soft_dtw(distances), distances)
    assert set(gradient.flatten().tolist()) == {0, 1}
    assert (gradient * distances).sum().item() == pytest.approx(soft_dtw(distances).item(), rel=1e-12)


@pytest.mark.parametrize('distances, gamma, message', [
    (torch.ones(3), 0.1, r'shape \(3,\)'), (torch.ones(0, 3), 0.1, r'shape \(0, 3\)'),
    (torch.ones(2, 2, dtype=torch.int64), 0.1, 'int64'), (torch.ones(2, 2), 0, 'gamma is 0'),
    (torch.ones(2, 2), math.inf, 'gamma is inf')])
def test_invalid_arguments_raise(distances, gamma, message):
    with pytest.raises(ValueError, match=message):
        soft_dtw(distances, gamma)

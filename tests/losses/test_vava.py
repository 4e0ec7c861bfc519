import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import losses.transport_costs as transport_costs
import losses.vava as vava_module
from losses import VAVA_loss
from losses.transport import Partners, evaluate_plan, transport_plan
from losses.vava import match_contrast
from tests.losses.naive import (
    RANDOM_LENGTHS,
    assert_matches_naive,
    naive_contrast,
    random_sequences,
)
from tests.losses.test_transport import naive_plan


def naive_match_contrast(D, log_mass, reduction):
    """Pull to the best match, push from the worst match; D are squared distances as nested lists."""
    N, M, total = len(D), len(D[0]), 0
    for i in range(N):
        order = sorted(range(M), key=lambda j, i=i: log_mass[i][j].item())
        if log_mass[i][order[-1]] > log_mass[i][M]:
            total = total + D[i][order[-1]]
        total = total + torch.relu(2 - D[i][order[0]])
    for j in range(M):
        order = sorted(range(N), key=lambda i, j=j: log_mass[i][j].item())
        if log_mass[order[-1]][j] > log_mass[N][j]:
            total = total + D[order[-1]][j]
        total = total + torch.relu(2 - D[order[0]][j])
    return total / (N + M) if reduction == 'mean' else total


def naive_vava(sequences, steps, lambda1, lambda2, gamma, zeta, delta, phi, reduction):
    """Compute the loss with the documented gradient, for fixed plans. The plan of a pair is computed once."""
    pairs = []
    for first, u in enumerate(sequences):
        for second, v in enumerate(sequences):
            if first == second:
                continue
            if first < second:
                D = [[(u_i - v_j).square().sum() for v_j in v] for u_i in u]
                matrix = torch.tensor([[entry.item() for entry in row] for row in D], dtype=torch.float64)
                T, F = naive_plan(matrix, steps, lambda1, lambda2, zeta, delta, phi)
                moved = sum(T[i, j].item() * D[i][j] for i in range(len(u)) for j in range(len(v)))
                pair = (moved - moved.detach() + F
                        + gamma * naive_match_contrast(D, T.log(), reduction))
                pair = pair + gamma * (naive_contrast(u, reduction) + naive_contrast(v, reduction))
                pair = pair / (1 + 3 * gamma) if reduction == 'mean' else pair
                pairs += [pair, pair]
    return sum(pairs) / len(pairs) if reduction == 'mean' else sum(pairs)


@pytest.mark.parametrize('lengths, step, reduction', [
    ((18, 6), 0, 'mean'), ((6, 5, 8), 400, 'sum'),
    *zip(RANDOM_LENGTHS, (0, 9, 99, 9999), ('sum', 'mean', 'sum', 'mean'), strict=True)])
def test_value_and_gradient_match_a_naive_loop(lengths, step, reduction):
    phi = max(0.999 ** (step + 1), 0.001)
    assert_matches_naive(lambda u: VAVA_loss(u, 12, 0.8, 0.2, 0.3, 0.5, 0.6, step, reduction=reduction),
                         lambda u: naive_vava(u, 12, 0.8, 0.2, 0.3, 0.5, 0.6, phi, reduction), lengths)


@pytest.mark.parametrize('gamma', [0, 0.3])
def test_gradcheck_after_convergence(gamma):
    # Envelope theorem: the plan is the gradient of the minimum of the objective, not only of <T, D> for a fixed T.
    torch.autograd.gradcheck(lambda *sequences: VAVA_loss(sequences, 3000, 1, 0.3, gamma, 0.5, 0.6, 100),
                             random_sequences((6, 4)))


def test_match_contrast_computed_by_hand():
    u, v = torch.tensor([[0.], [1.2]]), torch.tensor([[1.], [3.], [0.5]])
    # Frame 0 of u matches 0 best and 2 least; frame 1 prefers the virtual frame (no pull), and matches 0 least.
    of_u = Partners(torch.tensor([0, 1]), torch.tensor([2, 0]), torch.tensor([True, False]))
    of_v = Partners(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0]), torch.tensor([True, True, False]))
    rows = 1 + (2 - 0.25) + (2 - 0.04)
    columns = 1 + (2 - 0.04) + 3.24 + 0 + (2 - 0.25)
    assert match_contrast(u, v, of_u, of_v, 'sum').item() == pytest.approx(rows + columns)
    assert match_contrast(u, v, of_u, of_v, 'mean').item() == pytest.approx((rows + columns) / 5)


class LargeTensors(TorchDispatchMode):
    """Records the operations that allocate at least so many entries."""

    def __init__(self, entries):
        super().__init__()
        self.entries, self.operations = entries, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {value.untyped_storage().data_ptr() for value in args if isinstance(value, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() not in given:
            if result.untyped_storage().nbytes() >= 4 * self.entries:
                self.operations.append(str(function))
        return result


def test_a_long_pair_keeps_only_the_kernels_in_memory(monkeypatch):
    monkeypatch.setattr(vava_module, 'KEPT_ENTRIES', 0)
    monkeypatch.setattr(transport_costs, 'BLOCK_ENTRIES', 2000)
    first, second = random_sequences((150, 160), dtype=torch.float32)
    with LargeTensors(150 * 160) as large:
        moved = vava_module._Moves(first, second)
        plan = transport_plan(moved.squares, (150, 160), moved.like, 20, 1, 0.1, 0.5, 0.6, 0.9)
        evaluate_plan(plan, moved.add_gradient)
    assert large.operations == ['aten.new_empty.default'] * 2  # one of each transport problem, in turn


def test_keeping_the_distances_does_not_change_the_loss(monkeypatch):
    sequences = random_sequences((12, 9, 7))
    kept = VAVA_loss(sequences)
    gradients = torch.autograd.grad(kept, sequences)
    monkeypatch.setattr(vava_module, 'KEPT_ENTRIES', 0)
    monkeypatch.setattr(transport_costs, 'BLOCK_ENTRIES', 30)
    computed = VAVA_loss(sequences)
    torch.testing.assert_close((computed, torch.autograd.grad(computed, sequences)), (kept, gradients))
    with torch.no_grad():
        torch.testing.assert_close(VAVA_loss(sequences), kept)


def test_phase_moves_from_order_to_optimality():
    # Two actions in swapped order: at a small phase the transport may match them.
    u = torch.tensor([[0.], [0.], [9.], [9.]], dtype=torch.float64)
    early, late = (VAVA_loss([u, u.flip(0)], gamma=0, global_step=step).item() for step in (0, 20_000))
    assert late < early
    assert late == VAVA_loss([u, u.flip(0)], gamma=0, global_step=10_000).item()  # the phase stops at 0.001


def test_pairs_are_independent():
    sequences = random_sequences((6, 9, 4))
    pairs = [VAVA_loss([sequences[i], sequences[j]]) for i, j in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(VAVA_loss(sequences), sum(pairs) / 3)


@pytest.mark.parametrize('arguments, message', [
    (dict(maxIter=1), 'maxIter is 1, expected an integer >= 2'), (dict(lambda1=-1), 'lambda1 is -1'),
    (dict(lambda2=0), 'lambda2 is 0'), (dict(gamma=-1), 'gamma is -1'), (dict(zeta=0), 'zeta is 0'),
    (dict(delta=0), 'delta is 0'), (dict(global_step=-1), 'global_step is -1')])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        VAVA_loss(**{'sequences': [torch.ones(3, 2)] * 2, **arguments})

import math

import pytest
import torch

import losses.sinkhorn as sinkhorn_module
import losses.transport_costs as transport_costs
from losses.transport import evaluate_plan
from losses.transport import transport_plan as plan_by_blocks
from tests.losses.naive import random_sequences


def transport_plan(distances, *arguments, **options):
    """Compute the plan for a matrix of distances."""
    return plan_by_blocks(lambda rows: distances[rows].clone(), distances.shape, distances, *arguments, **options)


def log_mass_of(plan):
    """Return the logarithm of the whole plan, (N + 1, M + 1)."""
    return torch.cat([plan.log_mass(block, plan.log_kernel(block)) for block in plan.costs.blocks()])


def naive_costs(D, lambda1, lambda2, zeta, delta, phi, matches):
    """Compute the costs entry by entry; ``matches`` contains j* of each i and i* of each j, counted from 1."""
    N, M = D.shape
    r = math.sqrt(1 / N ** 2 + 1 / M ** 2)

    def log_normal(distance):
        return -distance ** 2 / (2 * delta ** 2) - math.log(delta * math.sqrt(2 * math.pi))

    C = torch.full((N + 1, M + 1), zeta, dtype=torch.float64)
    for i in range(1, N + 1):
        for j in range(1, M + 1):
            off = (i - 1 / 2) / N - (j - 1 / 2) / M
            S, log_P = phi / (off ** 2 + 1), math.log(phi) + log_normal(abs(off) / r)
            if matches:
                down, across = i / N - matches[1][j - 1] / N, j / M - matches[0][i - 1] / M
                S += (1 - phi) / ((down ** 2 + across ** 2) / 2 + 1)
                second = math.log(1 - phi) + log_normal((abs(down) + abs(across)) / (2 * r))
                log_P = max(log_P, second) + math.log1p(math.exp(-abs(log_P - second)))
            C[i - 1, j - 1] = D[i - 1, j - 1] - lambda1 * S - lambda2 * log_P
    return C


def naive_sinkhorn(C, regularization, steps):
    """Update the potentials alternately, columns first, in the log domain, from each row's smallest real cost."""
    rows, columns = C.shape
    f = [min(C[i, :columns - 1]) / regularization for i in range(rows)]
    for _ in range(steps):
        g = [-math.log(columns) - torch.logsumexp(torch.stack([f[i] - C[i, j] / regularization
                                                               for i in range(rows)]), 0) for j in range(columns)]
        f = [-math.log(rows) - torch.logsumexp(torch.stack([g[j] - C[i, j] / regularization
                                                            for j in range(columns)]), 0) for i in range(rows)]
    return torch.tensor([[math.exp(f[i] + g[j] - C[i, j] / regularization) for j in range(columns)]
                         for i in range(rows)], dtype=torch.float64)


def naive_plan(D, steps, lambda1, lambda2, zeta, delta, phi):
    """Compute the plan, (N + 1, M + 1), and the value that it minimizes: means over both orders of scaling."""
    N, M = D.shape
    C = torch.full((N + 1, M + 1), zeta, dtype=torch.float64)
    C[:N, :M] = D
    previous = naive_sinkhorn(C, lambda2, steps // 2) + naive_sinkhorn(C.T, lambda2, steps // 2).T
    of_rows = [1 + max(range(M), key=lambda j, i=i: previous[i][j]) for i in range(N)]
    of_columns = [1 + max(range(N), key=lambda i, j=j: previous[i][j]) for j in range(M)]
    C = naive_costs(D, lambda1, lambda2, zeta, delta, phi, (of_rows, of_columns))
    plans = [naive_sinkhorn(C, lambda2, steps - steps // 2), naive_sinkhorn(C.T, lambda2, steps - steps // 2).T]
    values = [sum(t * (c + lambda2 * math.log(t)) for t, c in zip(T.flatten(), C.flatten(), strict=True) if t > 0)
              for T in plans]
    return sum(plans) / 2, sum(values) / 2


OPTIONS = dict(lambda1=0.8, lambda2=0.2, zeta=0.5, delta=0.6)


def random_distances(rows, columns, seed=0):
    return torch.cdist(*random_sequences((rows, columns), seed=seed)).detach()


@pytest.mark.parametrize('shape', [(6, 6), (9, 4), (1, 5), (3, 1)])
@pytest.mark.parametrize('phase', [0.999, 0.9, 0.001])
def test_matches_naive_loops(shape, phase):
    distances = random_distances(*shape)
    plan = transport_plan(distances, 7, **OPTIONS, phase=phase)
    mass, objective = naive_plan(distances, 7, **OPTIONS, phi=phase)
    visited = torch.zeros(shape, dtype=torch.float64)
    value = evaluate_plan(plan, lambda rows, block: visited[rows].copy_(block))
    torch.testing.assert_close(log_mass_of(plan).exp(), mass, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(visited, mass[:-1, :-1], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(value.objective, objective, rtol=1e-10, atol=1e-12)


def test_marginals_are_uniform_once_converged():
    mass = log_mass_of(transport_plan(random_distances(7, 11), 2000, **OPTIONS, phase=0.7)).exp()
    torch.testing.assert_close(mass.sum(1), torch.full((8,), 1 / 8, dtype=torch.float64))
    torch.testing.assert_close(mass.sum(0), torch.full((12,), 1 / 12, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_plan_minimizes_its_objective():
    # Any other plan with the same marginals costs more.
    distances = random_distances(5, 6)
    plan = transport_plan(distances, 4000, **OPTIONS, phase=1 - 1e-12)
    costs, mass = naive_costs(distances, *OPTIONS.values(), 1, None), log_mass_of(plan).exp()
    objective = evaluate_plan(plan).objective
    for seed in range(20):
        move = torch.randn(6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        move = move - move.mean(1, keepdim=True) - move.mean(0) + move.mean()
        other = mass + 0.5 * mass.min() / move.abs().max() * move
        assert (other * (costs + OPTIONS['lambda2'] * other.log())).sum() > objective


def test_frames_match_identical_frames_in_order():
    # The same ten distant frames on both sides: all mass is on the diagonal, except for that of the virtual frames.
    distances = 10 * (torch.arange(10.).unsqueeze(1) - torch.arange(10.)).abs()
    plan = transport_plan(distances, 50, **OPTIONS, phase=0.9)
    for partners in evaluate_plan(plan)[1:]:
        assert partners.best.tolist() == list(range(10))
        assert partners.least.tolist() == [9] * 5 + [0] * 5
        assert partners.matched.all()
    assert log_mass_of(plan)[:-1, :-1].exp().diagonal().sum() > 0.8


def test_frame_without_counterpart_matches_the_virtual_frame():
    distances = torch.zeros(5, 5)
    distances[2], distances[:, 2] = 50, 50  # the third frames are similar to no other frame
    plan = transport_plan(distances, 100, **OPTIONS, phase=0.9)
    mass = log_mass_of(plan).exp()
    assert mass[2, -1] > 0.9 / 6 and mass[-1, 2] > 0.9 / 6
    assert mass[0, -1] < 0.1 / 6
    for partners in evaluate_plan(plan)[1:]:
        assert partners.matched.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize('steps', [2, 5, 200])
def test_transposed_or_reversed_distances_give_the_transposed_or_reversed_plan(steps):
    distances = random_distances(5, 8)
    log_mass, turned, backward = (log_mass_of(transport_plan(given, steps, **OPTIONS, phase=0.6))
                                  for given in (distances, distances.T, distances.flip(0, 1)))
    torch.testing.assert_close(turned, log_mass.T)
    torch.testing.assert_close(backward[:-1, :-1], log_mass[:-1, :-1].flip(0, 1))


# At larger scales several frames send all their mass to the same frame, whose best match depends on rounding.
@pytest.mark.parametrize('scale', [1e-3, 1, 20])
@pytest.mark.parametrize('cap, holds', [(450.0, True), (1.0, False)])
def test_scaling_the_kernel_equals_the_log_domain(monkeypatch, scale, cap, holds):
    distances, in_log_domain = scale * random_distances(60, 50), []
    log_sinkhorn = sinkhorn_module._log_sinkhorn
    monkeypatch.setattr(sinkhorn_module, '_log_sinkhorn',
                        lambda costs, *rest: in_log_domain.append(costs) or log_sinkhorn(costs, *rest))
    with monkeypatch.context() as patch:
        patch.setattr(sinkhorn_module, '_scale_kernel', lambda *arguments: None)
        exact = transport_plan(distances, 20, 1, 0.1, 0.5, 0.6, 0.9)
    # The plan for the distances alone and the plan with the order prior, each in both orders.
    assert len(in_log_domain) == 4
    monkeypatch.setattr(sinkhorn_module, 'CAP', cap)
    plan = transport_plan(distances, 20, 1, 0.1, 0.5, 0.6, 0.9)
    assert len(in_log_domain) == (4 if holds else 8)  # if the cap may change the plan, both are computed again
    torch.testing.assert_close(log_mass_of(plan), log_mass_of(exact), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(evaluate_plan(plan), evaluate_plan(exact), rtol=1e-12, atol=0)


def test_scalings_that_overflow_return_none():
    kernel = torch.full((2, 3), 1e-320, dtype=torch.float64)
    assert sinkhorn_module._scale_kernel(kernel, *(kernel.new_zeros(size) for size in (2, 3)), 10) is None


@pytest.mark.parametrize('block_entries', [1, 15, 8 * 11])  # the last: the virtual frame has a block of its own
def test_blocks_of_rows_do_not_change_the_plan(monkeypatch, block_entries):
    distances = random_distances(11, 7)
    whole = transport_plan(distances, 8, **OPTIONS, phase=0.5)
    log_mass, value = log_mass_of(whole), evaluate_plan(whole)
    monkeypatch.setattr(transport_costs, 'BLOCK_ENTRIES', block_entries)
    blocks = transport_plan(distances, 8, **OPTIONS, phase=0.5)
    torch.testing.assert_close(log_mass_of(blocks), log_mass)
    torch.testing.assert_close(evaluate_plan(blocks), value)

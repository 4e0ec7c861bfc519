"""Distances between frames and moments of frame indices."""

import pytest
import torch

import losses.distances as distances_module
from losses.distances import euclidean_distances
from losses.pairs import index_moments


@pytest.mark.parametrize('offset', [1e-4, 1e-2, 1])
def test_float32_distances_do_not_cancel_between_near_vectors(offset):
    base = torch.randn(6, 16, generator=torch.Generator().manual_seed(1)) + 5
    near = base + offset * torch.randn(6, 16, generator=torch.Generator().manual_seed(2))
    rows, columns = base.requires_grad_(), near.detach().requires_grad_()
    exact_rows, exact_columns = (tensor.detach().double().requires_grad_() for tensor in (rows, columns))
    actual, expected = euclidean_distances(rows, columns), euclidean_distances(exact_rows, exact_columns)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)
    pull = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))
    ours = torch.autograd.grad(actual, (rows, columns), pull)
    theirs = torch.autograd.grad(expected, (exact_rows, exact_columns), pull.double())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_variance_is_accurate_at_large_indices():
    weights = torch.zeros(1, 8192)
    weights[0, 8000], weights[0, 8001] = 0.3, 0.7
    mean, variance = index_moments(weights)
    assert mean.item() == pytest.approx(8000.7, abs=1e-6) and variance.item() == pytest.approx(0.21, abs=1e-5)


@pytest.mark.parametrize('clusters', [1, 2, 40])
@pytest.mark.parametrize('small_entries', [0, 10 ** 6])  # in blocks, with a check of the precision, and at once
def test_gradients_of_float32_distances_within_and_between_clusters(clusters, small_entries, monkeypatch):
    monkeypatch.setattr(distances_module, 'SMALL_ENTRIES', small_entries)
    monkeypatch.setattr(distances_module, 'GRADIENT_ENTRIES', 80 * 30)
    generator = torch.Generator().manual_seed(clusters)
    centers = 10 * torch.randn(clusters, 16, generator=generator)
    members = centers[torch.arange(80) % clusters]
    rows, columns = (members + 1e-3 * torch.randn(80, 16, generator=generator) for _ in range(2))
    columns[3] = rows[3]
    rows[0] += 20  # an outlier increases the largest norm
    exact = [tensor.double().requires_grad_() for tensor in (rows, columns)]
    rows.requires_grad_(), columns.requires_grad_()
    actual, expected = euclidean_distances(rows, columns), euclidean_distances(*exact)
    pull = torch.randn(80, 80, generator=generator)
    ours = torch.autograd.grad(actual, (rows, columns), pull)
    theirs = torch.autograd.grad(expected, exact, pull.double())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)

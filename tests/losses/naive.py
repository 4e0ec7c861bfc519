"""Naive loops written from the papers, and inputs shared by the tests of the losses."""

import itertools
import random

import torch

RANDOM_LENGTHS = [tuple(random.Random(seed).choices(range(2, 14), k=2 + seed % 2)) for seed in range(4)]
SCALES = [1e-6, 1e-2, 1, 1e2, 1e4]
DEGENERATE = ['random', 'identical frames', 'identical sequences', 'two frames', 'one frame']
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]  # dtype, tolerance


def naive_softmax(values):
    top = max(float(value.detach()) for value in values)
    exponentials = [torch.exp(value - top) for value in values]
    total = sum(exponentials)
    return [value / total for value in exponentials]


def naive_distance(first, second):
    squared = (first - second).square().sum()
    return squared * 0 if squared.item() == 0 else squared.sqrt()


def naive_contrast(u, reduction, window=0.1, margin=2.0):
    N, total = len(u), 0
    if window < 1:
        window = max(1, round(window * N))
    unit = N if reduction == 'mean' else 1
    for i in range(N):
        for j in range(N):
            squared = (u[i] - u[j]).square().sum()
            if abs(i - j) <= window:
                total = total + squared
            elif squared.item() < margin:
                total = total + (((i - j) / unit) ** 2 + 1) * (margin - squared)
    return total / N ** 2 if reduction == 'mean' else total


def random_sequences(lengths, embedding_dim=4, scale=0.3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(length, embedding_dim, generator=generator, dtype=torch.float64)).to(dtype)
            .requires_grad_() for length in lengths]


def degenerate_sequences(kind, scale, dtype):
    """Return two sequences with embedding dimension 8 that are hard cases for a loss."""
    lengths = {'two frames': (2, 2), 'one frame': (1, 5)}.get(kind, (17, 17))
    first, second = (sequence.detach() for sequence in random_sequences(lengths, 8, scale))
    if kind == 'identical frames':
        first, second = first[:1].expand(7, -1), second[:1].expand(25, -1)
    if kind == 'identical sequences':
        second = first
    return [sequence.to(dtype).clone().requires_grad_() for sequence in (first, second)]


def assert_matches_naive(loss, naive, lengths, scale=0.3):
    """Compare value and gradient in two precisions with a naive loop in float64.

    The loop takes most of the time, so it runs once; the tolerance is relative to the largest gradient.
    """
    rounded = random_sequences(lengths, scale=scale, dtype=torch.float32)
    exact = [sequence.detach().double().requires_grad_() for sequence in rounded]
    expected = naive(exact)
    gradients = torch.autograd.grad(expected, exact)
    for dtype, tolerance in PRECISIONS:
        sequences = [sequence.detach().to(dtype).requires_grad_() for sequence in rounded]
        actual = loss(sequences)
        assert actual.dtype == dtype and actual.shape == ()
        torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
        for ours, theirs in zip(torch.autograd.grad(actual, sequences), gradients, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=tolerance,
                                       atol=tolerance * theirs.abs().max().item())


def assert_finite(loss, kind):
    """Check value and gradient of degenerate sequences of a kind, in every scale and precision."""
    for scale, dtype in itertools.product(SCALES, DTYPES):
        sequences = degenerate_sequences(kind, scale, dtype)
        value = loss(sequences)
        value.backward()
        assert torch.isfinite(value), (scale, dtype)
        assert all(torch.isfinite(sequence.grad).all() for sequence in sequences), (scale, dtype)

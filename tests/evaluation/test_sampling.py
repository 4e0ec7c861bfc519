"""Samples of large parts: small ones are whole, large ones keep the limits, and what is sampled is said."""

import itertools

import numpy as np
import pytest
import torch

from evaluation import sampling
from evaluation.alignment_metrics import kendalls_tau
from evaluation.sampling import chunks, describe_sample, ordered_pairs, sampled_recordings


def test_a_small_part_is_whole_and_a_large_one_keeps_both_limits(monkeypatch):
    monkeypatch.setattr(sampling, 'MAX_VALUES', 600)
    monkeypatch.setattr(sampling, 'MAX_RECORDINGS', 8)
    assert sampled_recordings([10] * 6, 10) == list(range(6)) and sampled_recordings([], 10) == []
    lengths = [5 + index % 7 for index in range(50)]
    for dim, most in ((1, 8), (10, 8), (20, 6)):
        kept = sampled_recordings(lengths, dim)
        assert kept == sorted(set(kept)) == sampled_recordings(lengths, dim) and max(kept) < 50
        assert 2 <= len(kept) <= most and sum(lengths[index] for index in kept) * dim <= 600
    assert len(sampled_recordings(lengths, 1)) == 8
    assert sampled_recordings([10, 10, 10], 1000) != list(range(3)), 'larger than allowed, each of them'
    assert len(sampled_recordings([10, 10, 10], 1000)) == 2
    # All are equally likely: neither the first nor the last ones are preferred.
    assert 5 < np.mean(sampled_recordings([1] * 50, 1)) < 45


def test_pairs_are_all_in_order_or_distinct_ones_of_them(monkeypatch):
    for count in (0, 1, 2, 5):
        assert ordered_pairs(count) == list(itertools.permutations(range(count), 2))
    monkeypatch.setattr(sampling, 'MAX_PAIRS', 40)
    pairs = ordered_pairs(30)
    assert len(set(pairs)) == 40 and set(pairs) < set(itertools.permutations(range(30), 2))
    assert pairs == ordered_pairs(30) and len({first for first, _ in pairs}) > 15


def test_the_tau_of_sampled_pairs_is_close_to_that_of_all(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    embeddings = [torch.arange(20.0).unsqueeze(1) + 4 * torch.randn(20, 1, generator=generator) for _ in range(15)]
    every = kendalls_tau(embeddings)
    monkeypatch.setattr(sampling, 'MAX_PAIRS', 100)
    assert every != kendalls_tau(embeddings) == pytest.approx(every, abs=0.05) and 0.2 < every < 0.9


def test_chunks_are_consecutive_and_bounded_with_their_padding(monkeypatch):
    monkeypatch.setattr(sampling, 'CHUNK_RECORDINGS', 3)
    monkeypatch.setattr(sampling, 'CHUNK_FRAMES', 20)
    assert [list(chunk) for chunk in chunks([5] * 7)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [list(chunk) for chunk in chunks([2, 2, 9, 9, 90, 1])] == [[0, 1], [2, 3], [4], [5]]
    assert list(chunks([])) == []


def test_what_is_sampled_is_said():
    assert describe_sample('tea', (5, 9), (5, 9)) == []
    line, = describe_sample('tea', (5, 9), (5, 1200))
    assert line.startswith('task tea: embeddings are evaluated on a random sample, 5 of 5 training and 9 of 1200 test')
    sample, baselines, pairs = describe_sample('tea', (1000, 1000), (4000, 4000))
    assert '1000 of 4000 training' in sample and 'baselines are fitted to a random sample, 1000 of 4000' in baselines
    assert '10000 random pairs of test recordings, of 999000' in pairs

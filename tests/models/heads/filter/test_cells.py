"""Gaussian cells of labels and phases, against densities by hand and on data whose truth is known."""

import math

import pytest
import torch
from torch.distributions import Normal

from models.heads.filter.cells import LOWEST_EVIDENCE, CausalFeatures, Cells, phase_weights


def draw(seed, frames=3000):
    """Frames (n, 5) that move with the phase, from another point for each of 3 labels, in features of any scale."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (frames,), generator=generator)
    phase = torch.rand(frames, generator=generator)
    place = torch.cat([6.0 * torch.eye(3)[label], 8 * phase.unsqueeze(1), 8 * phase.unsqueeze(1) ** 2], dim=1)
    noise = torch.randn(frames, 5, generator=generator)
    return (place + noise) * torch.tensor([1.0, 100.0, 0.01, 1.0, 5.0]), label, phase


def test_evidence_is_that_of_unit_normals():
    cells = Cells(2, 2, bins=2)
    cells.projection.copy_(torch.tensor([[2.0, 0], [0, 1]]))
    cells.offset.copy_(torch.tensor([1.0, 0]))
    cells.means.copy_(torch.tensor([[[0.0, 0], [1, 0]], [[0, 2], [3, 1]]]))
    cells.half_norms.copy_(0.5 * cells.means.square().sum(2).flatten())
    frame = torch.tensor([1.2, 0.7])
    projected = torch.tensor([0.4, 0.7])
    density = Normal(cells.means, 1).log_prob(projected).sum(2).exp()  # (K, B)
    by_label, by_phase = cells.log_evidence(frame)
    torch.testing.assert_close(by_label.exp(), density.sum(1) / density.sum())
    torch.testing.assert_close(by_phase.exp(), 2 * density / density.sum(1, keepdim=True))


def test_cells_find_label_and_phase_whatever_the_scale_of_the_features():
    cells = Cells(3, 5, bins=4)
    cells.fit(*draw(0))
    frames, label, phase = draw(1)
    by_label, by_phase = cells.log_evidence(frames)
    assert (by_label.argmax(1) == label).float().mean() > 0.95
    found = by_phase[torch.arange(len(label)), label].argmax(1)
    assert (found - (phase * 4).long()).abs().float().mean() < 0.4
    # Projected features have variance 1 within cells.
    spread = cells.project(frames) - cells.means[label, (phase * 4).long()]
    assert spread.square().mean().sqrt() == pytest.approx(1, abs=0.1)


def test_a_label_without_frames_looks_like_the_mean_of_the_others():
    cells = Cells(4, 5, bins=4)
    cells.fit(*draw(0))
    torch.testing.assert_close(cells.means[3], cells.means[:3].mean(0))
    assert all(part.isfinite().all() for part in cells.log_evidence(draw(1)[0]))


def test_one_frame_never_says_more_than_a_bound():
    cells = Cells(3, 5, bins=4)
    cells.fit(*draw(0))
    for part in cells.log_evidence(1e4 * draw(1)[0]):
        assert part.min() == LOWEST_EVIDENCE
        assert part.max() <= math.log(4) + 1e-5


def test_phase_weights_interpolate_between_the_centers_of_bins():
    # The third of 5 frames has the phase 0.5: the center of the middle one of 5 bins, and between the two of 4.
    for bins, expected in ((5, [0, 0, 1, 0, 0]), (4, [0, 0.5, 0.5, 0])):
        weights = phase_weights(torch.tensor([3.0]), torch.tensor([5.0]), bins)
        assert weights[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)
    weights = phase_weights(torch.arange(1.0, 40), torch.tensor([3.0, 10.0, 200.0]), 7)
    torch.testing.assert_close(weights.sum(1), torch.ones(39, 3))
    assert (weights >= 0).all()


def test_differences_reach_back_only():
    features = CausalFeatures((2, 5))
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(3))
    found = features(x)
    expected = torch.stack([torch.cat([x[t], *(x[t] - x[max(t - lag, 0)] for lag in (2, 5))]) for t in range(12)])
    torch.testing.assert_close(found, expected)

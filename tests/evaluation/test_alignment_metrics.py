"""OGPE, CoV, Kendall's tau and enclosed area error by hand."""

import numpy as np
import pytest
import torch

from evaluation.alignment_metrics import (
    coefficient_of_variation,
    enclosed_area_error,
    kendalls_tau,
    overall_progress_error,
    path_lengths,
    true_alignment,
)
from utils.tensorops import Action


def line(*positions):
    return torch.tensor([[float(position), -2.0] for position in positions])


def test_path_lengths_add_up_the_steps():
    np.testing.assert_allclose(path_lengths([line(0, 3, 1), line(5), torch.tensor([[0.0, 0.0], [3.0, 4.0]])]),
                               [5, 0, 5])


def test_ogpe_is_over_frames_then_recordings():
    truth = [torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)]
    # Predicted 0, 1/4, 3/4, 3/2 with a mean total of 4 (past 1 is past 1), and 0.
    error = overall_progress_error([line(0, 1, 3, 6), line(9)], truth, 4.0)
    assert error == pytest.approx(((0.25 + 0.25 + 0 + 0.5) / 4 + 1) / 2)


@pytest.mark.parametrize('embeddings', [line(0, 1, 2, 3), line(0, -10, -20, -30)])
def test_steady_progress_is_predicted_exactly(embeddings):
    total = path_lengths([embeddings]).mean()
    assert overall_progress_error([embeddings], [torch.arange(4, dtype=torch.float64) / 3], total) == pytest.approx(0)


def test_embeddings_that_stand_still_predict_0():
    assert overall_progress_error([line(1, 1)], [torch.tensor([0.5, 1.0], dtype=torch.float64)], 0.0) == 0.75


@pytest.mark.parametrize(('values', 'expected'), [([2, 4], 1 / 3), ([3, 3, 3], 0), ([0, 0], 0), ([7], 0),
                                                  ([1, 2, 3, 6], np.sqrt(3.5) / 3)])
def test_cov_is_standard_deviation_over_mean(values, expected):
    assert coefficient_of_variation(np.array(values, dtype=float)) == pytest.approx(expected)


def naive_tau(nearest):
    """Tau-b over all pairs of frames; the frames themselves hold no ties."""
    signs = [np.sign(b - a) for i, a in enumerate(nearest) for b in nearest[i + 1:]]
    untied = sum(sign != 0 for sign in signs)
    return sum(signs) / np.sqrt(untied * len(signs)) if untied else 0.0


def test_kendalls_tau_by_hand():
    assert kendalls_tau([line(0, 1, 2, 3), line(0, 1, 2)]) == pytest.approx((naive_tau([0, 1, 2, 2]) + 1) / 2)
    assert kendalls_tau([line(0, 1, 2), line(2, 1, 0)]) == -1
    assert kendalls_tau([line(0, 1, 2), line(2, 2, 2)]) == 0  # one nearest neighbour; and the first of equal ones
    assert np.isnan(kendalls_tau([line(0, 1)]))


def test_kendalls_tau_matches_a_double_loop():
    embeddings = [torch.randn(length, 2, generator=torch.Generator().manual_seed(length)) for length in (9, 14, 6)]
    values = [naive_tau([int(((frame - second) ** 2).sum(1).argmin()) for frame in first])
              for first in embeddings for second in embeddings if second is not first]
    assert kendalls_tau(embeddings) == pytest.approx(np.mean(values))


def test_a_far_common_offset_hides_no_neighbour():
    # Differences of 1e-3 beside an offset of 100: in float32 a matrix product alone would lose them.
    steps = torch.arange(30, dtype=torch.float32).unsqueeze(1).expand(-1, 16) * 1e-3 + 100
    assert kendalls_tau([steps, steps[::2]]) > 0.95


def test_true_alignment_matches_actions_by_name_and_occurrence():
    ours = [Action('a', 0, 1), Action('b', 2, 5), Action('a', 6, 7), Action('a', 9, 9)]
    theirs = [Action('a', 10, 13), Action('c', 14, 15), Action('a', 16, 16)]
    frames, partners = true_alignment(ours, theirs, 10)
    assert frames.tolist() == [0, 1, 6, 7]  # no b there, and no third a
    assert partners.tolist() == [10.5, 12.5, 15.75, 16.25]
    frames, partners = true_alignment([Action('a', 2, 5)], [Action('a', 0, 3)], 4)  # runs past the features
    assert (frames.tolist(), partners.tolist()) == ([2, 3], [0, 1])


def test_enclosed_area_error_by_hand():
    same = [Action('a', 0, 1), Action('b', 2, 3)]
    swapped = [Action('b', 0, 1), Action('a', 2, 3)]
    exact = [line(0, 1, 2, 3), line(2, 3, 0, 1)]
    assert enclosed_area_error(exact, [same, swapped]) == 0
    # Nearest neighbours 0 1 2 3 where 2 3 0 1 is true: each is 2 of 4 frames off.
    assert enclosed_area_error([exact[0], exact[0]], [same, swapped]) == pytest.approx(0.5)
    # A third recording without a common action changes nothing; alone it says nothing.
    other = [Action('c', 0, 3)]
    assert enclosed_area_error([*exact, exact[0]], [same, swapped, other]) == 0
    assert np.isnan(enclosed_area_error(exact, [same, other]))

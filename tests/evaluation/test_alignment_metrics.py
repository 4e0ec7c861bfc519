"""OGPE and CoV by hand."""

import numpy as np
import pytest
import torch

from evaluation.alignment_metrics import coefficient_of_variation, overall_progress_error, path_lengths


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

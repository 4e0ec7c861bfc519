"""The linear support vector machine: against scikit-learn's, and at the minimum of what it minimizes."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from evaluation.linear_svm import classify, fit_linear_svm


def overlapping(labels=4, frames=400, dims=12, seed=0):
    """Frames of labels that overlap, of very different variances."""
    rng = np.random.default_rng(seed)
    index = rng.integers(labels, size=frames)
    centers = rng.normal(size=(labels, dims))
    spread = np.geomspace(1e-2, 10, dims)
    return (centers[index] + rng.normal(size=(frames, dims))) * spread, np.array(list('abcd'))[index]


@pytest.mark.parametrize('penalty', [0.01, 1.0, 30.0])
def test_it_is_the_machine_of_scikit_learn(penalty):
    frames, labels = overlapping()
    names, weights = fit_linear_svm(frames, labels, penalty=penalty)
    theirs = LinearSVC(dual=False, C=penalty, tol=1e-8, max_iter=10000).fit(frames, labels)
    np.testing.assert_allclose(weights[:-1], theirs.coef_.T, atol=1e-4 * np.abs(weights).max())
    np.testing.assert_allclose(weights[-1], theirs.intercept_, atol=1e-4 * np.abs(weights).max())
    others = overlapping(seed=1)[0]
    assert np.array_equal(classify(others, names, weights), theirs.predict(others))


def test_no_small_change_lowers_the_objective():
    frames, labels = overlapping(labels=2)
    names, weights = fit_linear_svm(frames, labels)
    signs = np.where(labels == names[1], 1.0, -1.0)

    def objective(column):
        scores = frames @ column[:-1] + column[-1]
        return 0.5 * column @ column + np.sum(np.maximum(1 - signs * scores, 0) ** 2)

    rng, best = np.random.default_rng(0), objective(weights[:, 1])
    changes = rng.normal(size=(50, len(weights))) * 1e-3
    assert all(objective(weights[:, 1] + change) > best for change in changes)


def test_one_label_and_separable_labels():
    frames = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    assert classify(frames, *fit_linear_svm(frames, np.array(['a'] * 4))).tolist() == ['a'] * 4
    assert classify(frames, *fit_linear_svm(frames, np.array(list('aabb')))).tolist() == list('aabb')

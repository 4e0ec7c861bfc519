"""Linear support vector machine fitted by Newton's method: exact, and faster than a general solver."""

import numpy as np

MOST_ITERATIONS = 50  # of Newton's method; it takes about ten
TOLERANCE = 1e-6  # of the gradient, relative to that at weights of zero
SHRINKING = 0.5  # of a step that does not lower the objective


def fit_linear_svm(frames: np.ndarray, labels: np.ndarray, *, penalty: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear one-vs-rest classifier per label, with the squared hinge loss.

    Minimizes ``(|w|^2 + b^2) / 2 + penalty * sum_i max(0, 1 - y_i (w . x_i + b))^2`` over w and b, as scikit-learn's
    ``LinearSVC(dual=False)`` does.

    Args:
        frames: (n, D), standardized.
        labels: (n,), of any sortable kind.
        penalty: weight of the errors, > 0.

    Returns:
        The labels in sorted order (K,), and the weights (D + 1, K), with b in the last row.

    Reference:
        Chapelle, "Training a Support Vector Machine in the Primal", Neural Computation, 2007; Keerthi & DeCoste, "A
        Modified Finite Newton Method", JMLR 2005.
    """
    names, index = np.unique(labels, return_inverse=True)  # (K,), (n,)
    # A last column of ones makes b the last weight; it is penalized like the others, as in LinearSVC.
    extended = np.hstack([frames, np.ones((len(frames), 1))])  # (n, D + 1); its Gram matrix is (D + 1, D + 1)
    gram = extended.T @ extended  # shared by the first iteration of all labels, in which all frames are active
    columns = [_fit_binary(extended, np.where(index == k, 1.0, -1.0), penalty, gram) for k in range(len(names))]
    return names, np.stack(columns, axis=1)  # K x (D + 1,) -> (D + 1, K)


def classify(frames: np.ndarray, names: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the predicted label (m,) of each frame (m, D), given the results of :func:`fit_linear_svm`."""
    # (m, D) @ (D, K) + (K,) -> (m, K) -> (m,): the classifier with the highest score wins.
    return names[(frames @ weights[:-1] + weights[-1]).argmax(axis=1)]


def _fit_binary(frames: np.ndarray, signs: np.ndarray, penalty: float, gram: np.ndarray) -> np.ndarray:
    """Return the weights (D,) that separate frames (n, D) by their signs (n,), which are 1 or -1."""
    # At weights of zero every score is 0, less than the margin of 1, so all frames are active.
    weights, active = np.zeros(frames.shape[1]), np.ones(len(frames), dtype=bool)
    gram, ridge = gram.copy(), np.eye(frames.shape[1]) / (2 * penalty)
    # The gradient at weights of zero is proportional to X^T y; convergence is measured relative to its norm.
    scores, limit = np.zeros(len(frames)), TOLERANCE * np.linalg.norm(frames.T @ signs)
    for _ in range(MOST_ITERATIONS):
        # While the active frames A stay the same, the objective is quadratic. Its minimum solves (X_A^T X_A + I / (2
        # penalty)) w = X_A^T y_A; a full Newton step jumps there.
        target = np.linalg.solve(gram + ridge, frames[active].T @ signs[active])
        weights, scores = _search(frames, signs, penalty, weights, scores, target)
        now_active = signs * scores < 1  # only frames within the margin or on the wrong side have a loss
        # Of the objective over all frames, divided by 2 penalty: zero only at the minimum, as the objective is convex.
        gradient = weights / (2 * penalty) - frames.T @ (np.maximum(1 - signs * scores, 0) * signs)
        if np.linalg.norm(gradient) <= limit:
            break
        # Few frames become active or inactive between iterations, so the matrix is updated instead of recomputed.
        gram += _outer(frames[now_active & ~active]) - _outer(frames[active & ~now_active])
        active = now_active
    return weights


def _search(frames: np.ndarray, signs: np.ndarray, penalty: float, weights: np.ndarray, scores: np.ndarray,
            target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move toward the target as far as the objective decreases, and return the weights (D,) and their scores (n,)."""
    def objective(weights: np.ndarray, scores: np.ndarray) -> float:
        return 0.5 * weights @ weights + penalty * np.sum(np.maximum(1 - signs * scores, 0) ** 2)

    # Scores are linear in the weights, so each trial costs no product with all frames.
    before, target_scores, fraction = objective(weights, scores), frames @ target, 1.0
    # The direction is downhill, so a small enough fraction succeeds; below 1e-4 only rounding errors are left.
    while fraction > 1e-4:
        moved = weights + fraction * (target - weights), scores + fraction * (target_scores - scores)
        if objective(*moved) <= before:
            return moved
        fraction *= SHRINKING
    return weights, scores


def _outer(frames: np.ndarray) -> np.ndarray:
    """Return the sum of the frames' outer products: (n, D) -> (D, D)."""
    return frames.T @ frames

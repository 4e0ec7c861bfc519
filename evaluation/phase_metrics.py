"""What a linear probe reads off single embeddings: the step at a frame, and the progress of the recording."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from utils.tensorops import Action

BACKGROUND = 'background'
# Columns of phase_classification.csv -> share of the training recordings that give their labels.
LABELLED_SHARES = {'accuracy_10': 0.1, 'accuracy_50': 0.5, 'accuracy_100': 1.0}
DRAWS = 5  # of labelled recordings: one recording in ten is often a single one, and recordings differ
MAX_FITTED_FRAMES = 5000  # that a classifier is fitted to; its time grows faster than they do
SEED = 0


def frame_labels(actions: Sequence[Action], num_frames: int) -> np.ndarray:
    """Return the step at each frame, ``BACKGROUND`` outside of actions: (num_frames,) of strings."""
    labels = np.full(num_frames, BACKGROUND, dtype=object)
    for action in actions:
        labels[action.start:action.end + 1] = action.name
    return labels.astype(str)


def phase_classification(train: Sequence[Tensor], train_actions: Sequence[Sequence[Action]], test: Sequence[Tensor],
                         test_actions: Sequence[Sequence[Action]]) -> dict[str, float]:
    """Return the accuracy of a linear SVM that names the step at each test frame, by the share of labels it has seen.

    A label is the step's name; background is one more label, since a classifier that meets a whole recording has to
    tell it, too. A step that no labelled recording shows cannot be named, and counts as wrong.

    As in the reference, a share of the labels means a share of the labelled recordings (at least one), not of each
    one's frames: neighbouring frames are near copies. Shares below 1 are the mean over ``DRAWS`` seeded draws of
    recordings. Embeddings are standardised with the labelled frames' mean and deviation; where there are more than
    ``MAX_FITTED_FRAMES`` labelled frames, that many are drawn.

    Args:
        train: (T_i, E) of a task's training recordings, one at least.
        train_actions: their actions.
        test: (T_j, E) of its test recordings.
        test_actions: their actions.

    Returns:
        'accuracy_10', 'accuracy_50', 'accuracy_100' -> share of right test frames, all recordings pooled, in [0, 1].

    Reference:
        Dwibedi et al., Temporal Cycle-Consistency Learning, CVPR 2019; background is ours, its data has none.
    """
    train_labels = [frame_labels(actions, len(embedding))
                    for actions, embedding in zip(train_actions, train, strict=True)]
    test_labels = np.concatenate([frame_labels(actions, len(embedding))
                                  for actions, embedding in zip(test_actions, test, strict=True)])
    test_frames, rng = _stack(test), np.random.default_rng(SEED)
    accuracies = {}
    for column, share in LABELLED_SHARES.items():
        count = max(1, round(share * len(train)))
        values = []
        for _ in range(DRAWS if count < len(train) else 1):
            chosen = rng.permutation(len(train))[:count]
            frames = _stack([train[index] for index in chosen])
            labels = np.concatenate([train_labels[index] for index in chosen])
            kept = rng.permutation(len(labels))[:MAX_FITTED_FRAMES]
            values.append(float(np.mean(_classify(frames[kept], labels[kept], test_frames) == test_labels)))
        accuracies[column] = float(np.mean(values))
    return accuracies


def majority_accuracy(train_labels: Sequence[np.ndarray], test_labels: Sequence[np.ndarray]) -> float:
    """Return the accuracy of always answering the most frequent label of the training frames, in [0, 1].

    Args:
        train_labels: (T_i,) of a task's training recordings, from :func:`frame_labels`.
        test_labels: (T_j,) of its test recordings.
    """
    names, counts = np.unique(np.concatenate(train_labels), return_counts=True)
    return float(np.mean(np.concatenate(test_labels) == names[counts.argmax()]))


def _classify(frames: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Predict the labels (m,) of other frames (m, E) from labelled ones: (n, E), (n,)."""
    if np.all(labels == labels[0]):  # nothing to separate, which an SVM refuses
        return np.full(len(others), labels[0])
    # The primal problem needs no random numbers, and scoring does not depend on the number of frames fitted to.
    return make_pipeline(StandardScaler(), LinearSVC(dual=False)).fit(frames, labels).predict(others)


def phase_progression(train: Sequence[Tensor], train_progress: Sequence[Tensor], test: Sequence[Tensor],
                      test_progress: Sequence[Tensor]) -> float:
    """Return how much of a recording's true progress a linear regressor reads off single embeddings.

    Args:
        train: (T_i, E) of a task's training recordings, one at least.
        train_progress: (T_i,) of the whole recording, from ``get_trueprogress``.
        test: (T_j, E) of its test recordings.
        test_progress: (T_j,).

    Returns:
        R^2 over all test frames, pooled, of a ridge regression (penalty 1, on embeddings standardised with the
        training frames' mean and deviation; it holds back directions that these hardly have). At most 1, 0 for the
        test frames' mean, negative for what is worse; NaN where the test frames all have one progress.

    Reference:
        Dwibedi et al., CVPR 2019, whose progress runs through annotated phases and whose regression has no penalty.
    """
    truth = np.concatenate([progress.numpy() for progress in test_progress])
    if np.ptp(truth) == 0:
        return float('nan')
    regressor = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    regressor.fit(_stack(train), np.concatenate([progress.numpy() for progress in train_progress]))
    return float(regressor.score(_stack(test), truth))


def _stack(embeddings: Sequence[Tensor]) -> np.ndarray:
    """Return the frames of all recordings below each other, (frames, E) float64."""
    return np.concatenate([embedding.double().cpu().numpy() for embedding in embeddings])

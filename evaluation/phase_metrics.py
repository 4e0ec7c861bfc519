"""What a linear probe reads off single embeddings: the step at a frame, and the progress of the recording."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from evaluation.columns import describes
from evaluation.linear_svm import classify, fit_linear_svm
from models.heads.estimates import BACKGROUND
from utils.tensorops import Action

# Columns of phase_classification.csv -> share of the training recordings that give their labels.
LABELLED_SHARES = {'accuracy_10': 0.1, 'accuracy_50': 0.5, 'accuracy_100': 1.0}
DRAWS = 5  # of labelled recordings: one recording in ten is often a single one, and recordings differ
MAX_FITTED_FRAMES = 5000  # that a classifier is fitted to; its time grows faster than they do
RIDGE_PENALTY = 1.0
SEED = 0


class Probe:
    """A linear classifier of the step at a frame, fitted to standardized embeddings.

    Args:
        frames: (n, E), n >= 1.
        labels: (n,), the step at each, or ``BACKGROUND``.
    """

    def __init__(self, frames: np.ndarray, labels: np.ndarray) -> None:
        self._mean, self._std = _mean_and_std(frames)
        self._names, self._weights = fit_linear_svm((frames - self._mean) / self._std, labels)

    def predict(self, frames: np.ndarray) -> np.ndarray:
        """Return the labels (m,) of frames (m, E)."""
        return classify((frames - self._mean) / self._std, self._names, self._weights)


def fit_probe(embeddings: Sequence[Tensor], labels: Sequence[np.ndarray], rng: np.random.Generator) -> Probe:
    """Fit a classifier to recordings (T_i, E) and labels (T_i,): ``MAX_FITTED_FRAMES`` frames drawn at most."""
    frames, names = stack_frames(embeddings), np.concatenate(labels)
    kept = rng.permutation(len(names))[:MAX_FITTED_FRAMES]
    return Probe(frames[kept], names[kept])


def frame_labels(actions: Sequence[Action], num_frames: int) -> np.ndarray:
    """Return the step at each frame, ``BACKGROUND`` outside of actions: (num_frames,) of strings."""
    labels = np.full(num_frames, BACKGROUND, dtype=object)
    for action in actions:
        labels[action.start:action.end + 1] = action.name
    return labels.astype(str)


@describes('phase_classification',
           accuracy_10=('higher', 'fraction of test frames whose step a linear classifier names, having seen 10 % of '
                                  'the labeled recordings'),
           accuracy_50=('higher', 'the same, having seen 50 %'),
           accuracy_100=('higher', 'the same, having seen all'))
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
    train_labels, test_labels = (
        [frame_labels(actions, len(embedding)) for actions, embedding in zip(of_part, part, strict=True)]
        for of_part, part in ((train_actions, train), (test_actions, test)))
    return phase_accuracies(fit_phase_probes(train, train_labels), test, test_labels)


def fit_phase_probes(train: Sequence[Tensor], labels: Sequence[np.ndarray]) -> dict[str, list[Probe]]:
    """Fit the classifiers of :func:`phase_classification`: column of the table -> one for each draw of recordings.

    Args:
        train: (T_i, E) of a task's training recordings, one at least.
        labels: (T_i,), from :func:`frame_labels`.
    """
    rng, probes = np.random.default_rng(SEED), {}
    for column, share in LABELLED_SHARES.items():
        count = max(1, round(share * len(train)))
        probes[column] = []
        for _ in range(DRAWS if count < len(train) else 1):
            chosen = rng.permutation(len(train))[:count]
            probes[column].append(fit_probe([train[index] for index in chosen], [labels[index] for index in chosen],
                                            rng))
    return probes


def phase_accuracies(probes: Mapping[str, Sequence[Probe]], test: Sequence[Tensor],
                     labels: Sequence[np.ndarray]) -> dict[str, float]:
    """Return column -> mean accuracy of its classifiers on test recordings (T_j, E) with labels (T_j,)."""
    frames, truth = stack_frames(test), np.concatenate(labels)
    return {column: float(np.mean([float(np.mean(probe.predict(frames) == truth)) for probe in fitted]))
            for column, fitted in probes.items()}


@describes('phase_classification',
           accuracy_majority=('', 'the same for always answering the most frequent label: to be beaten'))
def majority_accuracy(train_labels: Sequence[np.ndarray], test_labels: Sequence[np.ndarray]) -> float:
    """Return the accuracy of always answering the most frequent label of the training frames, in [0, 1].

    Args:
        train_labels: (T_i,) of a task's training recordings, from :func:`frame_labels`.
        test_labels: (T_j,) of its test recordings.
    """
    names, counts = np.unique(np.concatenate(train_labels), return_counts=True)
    return float(np.mean(np.concatenate(test_labels) == names[counts.argmax()]))


@describes('phase_progression',
           r2=('higher', 'how well a linear regression reads the progress of the recording off a single frame: 1 is '
                         'exact, 0 is no better than the mean'))
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
    return ProgressRegression(train, train_progress).score(test, test_progress)


class ProgressRegression:
    """The regression of :func:`phase_progression`, fitted to the training recordings.

    Args:
        train: (T_i, E) of a task's training recordings, one at least.
        progress: (T_i,) of the whole recording.
    """

    def __init__(self, train: Sequence[Tensor], progress: Sequence[Tensor]) -> None:
        known, frames = np.concatenate([one.numpy() for one in progress]), stack_frames(train)
        self._mean, self._std = _mean_and_std(frames)
        self._constant, frames = known.mean(), (frames - self._mean) / self._std
        # The penalty spares the constant: standardized columns and centered targets need none.
        self._weights = np.linalg.solve(frames.T @ frames + RIDGE_PENALTY * np.eye(frames.shape[1]),
                                        frames.T @ (known - self._constant))

    def score(self, test: Sequence[Tensor], progress: Sequence[Tensor]) -> float:
        """Return R^2 over the frames of test recordings (T_j, E); NaN if they all have one progress (T_j,)."""
        truth = np.concatenate([one.numpy() for one in progress])
        if np.ptp(truth) == 0:
            return float('nan')
        residual = truth - ((stack_frames(test) - self._mean) / self._std @ self._weights + self._constant)
        return float(1 - np.sum(residual ** 2) / np.sum((truth - truth.mean()) ** 2))


def stack_frames(embeddings: Sequence[Tensor]) -> np.ndarray:
    """Return the frames of all recordings below each other, (frames, E) float64."""
    return np.concatenate([embedding.double().cpu().numpy() for embedding in embeddings])


def _mean_and_std(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std of each column of (n, E); the std of a constant column is 1."""
    mean, std = frames.mean(axis=0), frames.std(axis=0)
    rounding = 10 * np.finfo(np.float64).eps * np.maximum(np.abs(mean), np.abs(frames).max(axis=0))
    return mean, np.where(std > rounding, std, 1.0)

"""Linear probes on single embeddings: the step at a frame, and the progress of the recording."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from evaluation.columns import describes
from evaluation.linear_svm import classify, fit_linear_svm
from recordings.background import BACKGROUND
from utils.tensorops import Action

# Column of phase_classification.csv -> fraction of the training recordings that are labeled.
LABELED_FRACTIONS = {'accuracy_10': 0.1, 'accuracy_50': 0.5, 'accuracy_100': 1.0}
DRAWS = 5  # random draws of labeled recordings: 10 % are often a single recording, and recordings vary
MAX_FITTED_FRAMES = 5000  # to fit a classifier to; the fitting time grows faster than the number of frames
RIDGE_PENALTY = 1.0
SEED = 0


class Probe:
    """Linear classifier of the step at a frame, fitted to standardized embeddings.

    Args:
        frames: (n, E), n >= 1.
        labels: (n,), the step at each frame, or ``BACKGROUND``.
    """

    def __init__(self, frames: np.ndarray, labels: np.ndarray) -> None:
        # Standardized, so that the penalty treats all dimensions alike, whatever the scale of the embedding.
        self._mean, self._std = _mean_and_std([torch.from_numpy(frames)])
        self._names, self._weights = fit_linear_svm((frames - self._mean) / self._std, labels)

    def predict(self, frames: np.ndarray) -> np.ndarray:
        """Return the predicted labels (m,) of frames (m, E)."""
        return classify((frames - self._mean) / self._std, self._names, self._weights)


def fit_probe(embeddings: Sequence[Tensor], labels: Sequence[np.ndarray], rng: np.random.Generator) -> Probe:
    """Fit a classifier to recordings (T_i, E) and labels (T_i,), on at most ``MAX_FITTED_FRAMES`` random frames."""
    names = np.concatenate(labels)  # (N,)
    kept = rng.permutation(len(names))[:MAX_FITTED_FRAMES]
    # Only the drawn frames are stacked: (n, E) instead of (N, E) numbers of eight bytes.
    starts = np.cumsum([0, *map(len, embeddings)])
    recording = np.searchsorted(starts, kept, side='right') - 1  # (n,), of each drawn frame
    frames = np.empty((len(kept), embeddings[0].shape[1]))
    for index in np.unique(recording):
        drawn = recording == index
        frames[drawn] = _as_array(embeddings[index])[kept[drawn] - starts[index]]
    return Probe(frames, names[kept])


def frame_labels(actions: Sequence[Action], num_frames: int) -> np.ndarray:
    """Return the step at each frame, or ``BACKGROUND`` outside of actions: (num_frames,) strings."""
    labels = np.full(num_frames, BACKGROUND, dtype=object)  # not str, whose fixed length would cut off longer names
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
    """Return the accuracy of a linear SVM of the step at each test frame, by the fraction of labels used to fit it.

    Labels are the names of the steps, and background, because a classifier of whole recordings must recognize it, too.
    A step that occurs in no labeled recording cannot be predicted, and counts as wrong.

    As in the reference, a fraction of the labels means a fraction of the recordings (at least one), not of the frames
    of each recording, because adjacent frames are nearly equal. Accuracies at fractions below 1 are means over
    ``DRAWS`` seeded draws of recordings. Embeddings are standardized with mean and std of the labeled frames; if there
    are more than ``MAX_FITTED_FRAMES`` labeled frames, that many are drawn.

    Args:
        train: (T_i, E), embeddings of a task's training recordings; at least one.
        train_actions: actions of each training recording.
        test: (T_j, E), embeddings of the task's test recordings.
        test_actions: actions of each test recording.

    Returns:
        'accuracy_10', 'accuracy_50', 'accuracy_100' -> fraction of correct test frames, all recordings pooled, in
        [0, 1].

    Reference:
        Dwibedi et al., Temporal Cycle-Consistency Learning, CVPR 2019; we add background, which their data lack.
    """
    train_labels, test_labels = (
        [frame_labels(actions, len(embedding)) for actions, embedding in zip(of_part, part, strict=True)]
        for of_part, part in ((train_actions, train), (test_actions, test)))
    return phase_accuracies(fit_phase_probes(train, train_labels), test, test_labels)


def fit_phase_probes(train: Sequence[Tensor], labels: Sequence[np.ndarray]) -> dict[str, list[Probe]]:
    """Fit the classifiers of :func:`phase_classification`: column of the table -> a classifier per draw of recordings.

    Args:
        train: (T_i, E), embeddings of a task's training recordings; at least one.
        labels: (T_i,), from :func:`frame_labels`.
    """
    # One generator for all draws in a fixed order: the same recordings are drawn for every checkpoint.
    rng, probes = np.random.default_rng(SEED), {}
    for column, fraction in LABELED_FRACTIONS.items():
        count = max(1, round(fraction * len(train)))
        probes[column] = []
        # All recordings can be drawn in only one way, so further draws would hardly differ.
        for _ in range(DRAWS if count < len(train) else 1):
            chosen = rng.permutation(len(train))[:count]
            probes[column].append(fit_probe([train[index] for index in chosen], [labels[index] for index in chosen],
                                            rng))
    return probes


def phase_accuracies(probes: Mapping[str, Sequence[Probe]], test: Sequence[Tensor],
                     labels: Sequence[np.ndarray]) -> dict[str, float]:
    """Return column -> mean accuracy of the column's classifiers on test recordings (T_j, E) with labels (T_j,)."""
    right = {column: np.zeros(len(fitted)) for column, fitted in probes.items()}  # frames that a classifier names
    for embedding, truth in zip(test, labels, strict=True):
        frames = _as_array(embedding)  # (T, E): the frames of one recording at a time are in memory in eight bytes
        for column, fitted in probes.items():
            right[column] += [np.sum(probe.predict(frames) == truth) for probe in fitted]
    return {column: float(np.mean(counts / sum(map(len, labels)))) for column, counts in right.items()}


@describes('phase_classification',
           accuracy_majority=('', 'the same for always answering the most frequent label: to be beaten'))
def majority_accuracy(train_labels: Sequence[np.ndarray], test_labels: Sequence[np.ndarray]) -> float:
    """Return the accuracy, in [0, 1], of always predicting the most frequent label of the training frames.

    Args:
        train_labels: (T_i,), labels of a task's training recordings, from :func:`frame_labels`.
        test_labels: (T_j,), labels of the task's test recordings.
    """
    names, counts = np.unique(np.concatenate(train_labels), return_counts=True)
    return float(np.mean(np.concatenate(test_labels) == names[counts.argmax()]))


@describes('phase_progression',
           r2=('higher', 'how well a linear regression reads the progress of the recording off a single frame: 1 is '
                         'exact, 0 is no better than the mean'))
def phase_progression(train: Sequence[Tensor], train_progress: Sequence[Tensor], test: Sequence[Tensor],
                      test_progress: Sequence[Tensor]) -> float:
    """Return R^2 of a linear regression of a recording's true progress on single embeddings.

    Args:
        train: (T_i, E), embeddings of a task's training recordings; at least one.
        train_progress: (T_i,), progress of the whole recording, from ``get_trueprogress``.
        test: (T_j, E), embeddings of the task's test recordings.
        test_progress: (T_j,), progress of the whole recording.

    Returns:
        R^2 over all test frames, pooled, of a ridge regression (penalty 1, on embeddings standardized with mean and
        std of the training frames; the penalty damps directions with little variance in training). At most 1, 0 if no
        better than the mean of the test frames, negative if worse; NaN if all test frames have the same progress.

    Reference:
        Dwibedi et al., CVPR 2019; there, progress is defined by annotated phases, and the regression has no penalty.
    """
    return ProgressRegression(train, train_progress).score(test, test_progress)


class ProgressRegression:
    """Regression of :func:`phase_progression`, fitted to the training recordings.

    Args:
        train: (T_i, E), embeddings of a task's training recordings; at least one.
        progress: (T_i,), progress of the whole recording.
    """

    def __init__(self, train: Sequence[Tensor], progress: Sequence[Tensor]) -> None:
        self._mean, self._std = _mean_and_std(train)
        self._constant, dim = np.concatenate([one.numpy() for one in progress]).mean(), train[0].shape[1]
        # The penalty excludes the constant: standardized columns and centered targets do not need a constant term.
        # Normal equations (X^T X + I) w = X^T (y - mean), with X (N, E), summed over recordings: an (E, E) system
        # whatever the number of frames.
        gram, targets = RIDGE_PENALTY * np.eye(dim), np.zeros(dim)
        for embedding, known in zip(train, progress, strict=True):
            frames = (_as_array(embedding) - self._mean) / self._std  # (T, E)
            gram += frames.T @ frames
            targets += frames.T @ (known.numpy() - self._constant)
        self._weights = np.linalg.solve(gram, targets)

    def score(self, test: Sequence[Tensor], progress: Sequence[Tensor]) -> float:
        """Return R^2 over the frames of test recordings (T_j, E); NaN if their progress (T_j,) is constant."""
        truth = np.concatenate([one.numpy() for one in progress])
        if np.ptp(truth) == 0:
            return float('nan')
        # (T, E) @ (E,) -> (T,) of each recording, then (N,)
        predicted = np.concatenate([(_as_array(one) - self._mean) / self._std @ self._weights for one in test])
        residual = truth - (predicted + self._constant)
        # Relative to the mean of the test frames; predicting the mean of the training frames scores 0 or less.
        return float(1 - np.sum(residual ** 2) / np.sum((truth - truth.mean()) ** 2))


def _as_array(embedding: Tensor) -> np.ndarray:
    """Return the embeddings (T, E) of a recording in float64."""
    return embedding.double().cpu().numpy()


def _mean_and_std(recordings: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std of each column of the stacked recordings (n_i, E); the std of a constant column is 1."""
    # Recording by recording: stacking all of them in eight bytes would take more memory than all else.
    count, frames = sum(map(len, recordings)), (_as_array(one) for one in recordings)
    mean = sum(one.sum(axis=0) for one in frames) / count
    variance, largest = 0.0, np.abs(mean)
    for one in map(_as_array, recordings):
        variance = variance + ((one - mean) ** 2).sum(axis=0) / count
        largest = np.maximum(largest, np.abs(one).max(axis=0))
    # The std of a constant column is rounding error instead of 0; dividing by it would magnify noise to scale 1.
    std, rounding = np.sqrt(variance), 10 * np.finfo(np.float64).eps * largest
    return mean, np.where(std > rounding, std, 1.0)

"""Metrics of embeddings, which do not require a progress head; each is an entry of ``METRICS``."""

from collections.abc import Callable

from evaluation.alignment_metrics import (
    coefficient_of_variation,
    enclosed_area_error,
    kendalls_tau,
    kendalls_tau_wild,
    overall_progress_error,
    path_lengths,
)
from evaluation.embedded_task import EmbeddedTask
from evaluation.phase_metrics import ProgressRegression, fit_phase_probes, majority_accuracy, phase_accuracies
from utils.addresses import resolve
from utils.tables import Row

Scorer = Callable[[EmbeddedTask], Row]  # embedded test recordings -> column -> value
HERE = 'evaluation.embedding_metrics'
# Name of the table -> its metric, 'module:name': a function of the embedded training recordings that returns a Scorer.
METRICS = {
    'phase_classification': f'{HERE}:phase_classification',
    'phase_progression': f'{HERE}:phase_progression',
    'kendalls_tau': f'{HERE}:tau',
    'kendalls_tau_wild': f'{HERE}:tau_wild',
    'enclosed_area_error': f'{HERE}:area_error',
    'ogpe': f'{HERE}:progress_by_distance',
}


def alignment_scorer(train: EmbeddedTask) -> Callable[[EmbeddedTask], dict[str, Row]]:
    """Return a function that computes a task's rows of the tables without a progress head, except the task's name.

    Args:
        train: recordings that probes and scales are fitted to.

    Returns:
        Function of test recordings that returns name of the table -> column -> value.
    """
    # Fit once, score often: all test recordings, then each group, are scored with the same probes.
    scorers = {name: resolve(metric, f'evaluation/embedding_metrics.py: METRICS[{name!r}]')(train)
               for name, metric in METRICS.items()}
    return lambda test: {name: score(test) for name, score in scorers.items()}


def phase_classification(train: EmbeddedTask) -> Scorer:
    """Score the accuracy of a linear probe of the label, next to always answering the most frequent one."""
    labels = train.labels
    probes = fit_phase_probes(train.embeddings, labels)
    return lambda test: {**phase_accuracies(probes, test.embeddings, test.labels),
                         'accuracy_majority': majority_accuracy(labels, test.labels)}


def phase_progression(train: EmbeddedTask) -> Scorer:
    """Score a linear regression of the recording's progress."""
    regression = ProgressRegression(train.embeddings, train.progress)
    return lambda test: {'r2': regression.score(test.embeddings, test.progress)}


def tau(train: EmbeddedTask) -> Scorer:
    """Score the order of nearest neighbors between recordings; nothing is fitted."""
    return lambda test: {'kendalls_tau': kendalls_tau(test.embeddings)}


def tau_wild(train: EmbeddedTask) -> Scorer:
    """Score the order of nearest neighbors within the same actions; nothing is fitted."""
    return lambda test: {'kendalls_tau_wild': kendalls_tau_wild(test.embeddings, test.actions)}


def area_error(train: EmbeddedTask) -> Scorer:
    """Score the area between alignment paths; nothing is fitted."""
    return lambda test: {'enclosed_area_error': enclosed_area_error(test.embeddings, test.actions)}


def progress_by_distance(train: EmbeddedTask) -> Scorer:
    """Score the progress of the recording by cumulative distance, scaled to the training recordings' mean total."""
    # Path lengths are in units of the embedding, so their mean over training recordings sets the scale.
    totals = path_lengths(train.embeddings)
    return lambda test: {'ogpe': overall_progress_error(test.embeddings, test.progress, float(totals.mean())),
                         'CoV': coefficient_of_variation(totals)}

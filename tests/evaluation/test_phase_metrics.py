"""Phase classification and progression: by hand, and that nothing is scored on what it was fitted to."""

import numpy as np
import pytest
import torch

from evaluation import phase_metrics
from evaluation.linear_svm import fit_linear_svm
from evaluation.phase_metrics import frame_labels, majority_accuracy, phase_classification, phase_progression
from utils.tensorops import Action

SHARES = ('accuracy_10', 'accuracy_50', 'accuracy_100')


def line(*positions):
    return torch.tensor([[float(position)] for position in positions])


def steps(names):
    """Actions of one frame each; '.' is background."""
    return [Action(name, frame, frame) for frame, name in enumerate(names) if name != '.']


def noise(recordings, frames, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(frames, width, generator=generator) for _ in range(recordings)]


def coins(recordings, frames, seed):
    """Labels a and b by chance."""
    rng = np.random.default_rng(seed)
    return [steps(rng.choice(['a', 'b'], frames)) for _ in range(recordings)]


def test_a_frame_has_the_label_of_its_action():
    labels = frame_labels([Action('pour', 1, 2), Action('stir', 4, 9)], 6)
    assert labels.tolist() == ['background', 'pour', 'pour', 'background', 'stir', 'stir']
    assert frame_labels([], 2).tolist() == ['background', 'background']


def test_accuracy_by_hand():
    # Two clusters and background: of the five test frames one is mislabelled, and a c was never seen.
    train, test = line(0, 1, 20, 21, 40, 41), [line(0, 20), line(41, 1, 40)]
    accuracy = phase_classification([_spread(train)], [steps('aabb..')], [_spread(frames) for frames in test],
                                    [steps('aa'), steps('.c.')])
    assert accuracy == pytest.approx(dict.fromkeys(SHARES, 3 / 5))


def _spread(positions):
    """Three clusters along a line, on a curve: a linear classifier can tell the middle one."""
    return torch.cat([positions, (positions - 20).abs()], dim=1)


def test_a_share_of_the_labels_is_a_share_of_the_recordings():
    # Ten recordings, each of a step of its own: who has seen n of them can name n of the ten.
    clusters = torch.eye(10)
    train = [cluster.expand(3, -1) for cluster in clusters]
    names = 'abcdefghij'
    accuracy = phase_classification(train, [steps(name * 3) for name in names], [clusters], [steps(names)])
    assert accuracy == pytest.approx({'accuracy_10': 0.1, 'accuracy_50': 0.5, 'accuracy_100': 1})


@pytest.mark.parametrize('recordings', [1, 2, 3])
def test_of_a_few_recordings_at_least_one_is_labelled(recordings):
    accuracy = phase_classification([line(0, 9)] * recordings, [steps('ab')] * recordings, [line(9, 0)], [steps('ba')])
    assert accuracy == dict.fromkeys(SHARES, 1)


def test_the_majority_of_the_training_frames_by_hand():
    train, test = [frame_labels(steps(names), 4) for names in ('aab.', '.aab')], frame_labels(steps('abb..'), 5)
    assert majority_accuracy(train, [test, test[:1]]) == pytest.approx(2 / 6)


def test_where_only_one_label_was_seen_it_is_the_answer():
    accuracy = phase_classification([line(3, 4)], [steps('aa')], [line(3, 4, 5, 6)], [steps('aab.')])
    assert accuracy == dict.fromkeys(SHARES, 0.5)


def test_the_classifier_is_scored_on_recordings_it_was_not_fitted_to():
    # The two parts contradict each other: whatever was fitted to a test frame would get some of them right.
    train, test = [line(0, 1, 9, 10)] * 3, [line(0, 1, 9, 10)] * 2
    accuracy = phase_classification(train, [steps('aabb')] * 3, test, [steps('bbaa')] * 2)
    assert accuracy == dict.fromkeys(SHARES, 0)


def test_labels_by_chance_are_named_by_chance_though_the_fitted_ones_are_known_by_heart():
    train, labels = noise(4, 12, 64, seed=1), coins(4, 12, seed=2)
    test, others = noise(30, 12, 64, seed=3), coins(30, 12, seed=4)
    assert phase_classification(train, labels, train, labels)['accuracy_100'] == 1
    accuracy = phase_classification(train, labels, test, others)
    assert [accuracy[share] for share in SHARES] == pytest.approx([0.5] * 3, abs=0.1)


def test_scale_and_offset_of_the_embeddings_do_not_matter():
    train, test = noise(6, 20, 5, seed=1), noise(3, 20, 5, seed=2)
    labels, others = coins(6, 20, seed=3), coins(3, 20, seed=4)
    progress = [torch.linspace(0, 1, 20, dtype=torch.float64)] * 6
    scale, offset = torch.tensor([1e-3, 1, 7, 1e3, 40]), torch.tensor([0, 5, -300, 1, 1e4])

    def moved(embeddings):
        return [embedding.double() * scale + offset for embedding in embeddings]

    assert phase_classification(moved(train), labels, moved(test), others) == pytest.approx(
        phase_classification(train, labels, test, others), abs=0.02)
    assert phase_progression(moved(train), progress, moved(test), progress[:3]) == pytest.approx(
        phase_progression(train, progress, test, progress[:3]))


def test_draws_are_seeded():
    arguments = noise(10, 8, 3, seed=1), coins(10, 8, seed=2), noise(2, 8, 3, seed=3), coins(2, 8, seed=4)
    assert phase_classification(*arguments) == phase_classification(*arguments)


def test_a_classifier_is_fitted_to_a_bounded_number_of_frames(monkeypatch):
    fitted = []

    def fit(frames, labels):
        fitted.append(len(labels))
        return fit_linear_svm(frames, labels)

    monkeypatch.setattr(phase_metrics, 'fit_linear_svm', fit)
    monkeypatch.setattr(phase_metrics, 'MAX_FITTED_FRAMES', 30)
    phase_classification(noise(10, 8, 3, seed=1), coins(10, 8, seed=2), noise(1, 8, 3, seed=3), coins(1, 8, seed=4))
    assert fitted == [8] * phase_metrics.DRAWS + [30] * phase_metrics.DRAWS + [30]


def progress(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_r2_by_hand():
    # Standardised -1 and 1; slope 1 / (2 + 1) with penalty 1 through the mean: 0.5 and 1.5 at 0 and 3.
    train, test = [line(10), line(14)], [line(12), line(18)]
    r2 = phase_progression(train, [progress(0), progress(1)], test, [progress(0.25), progress(1)])
    assert r2 == pytest.approx(1 - (0.25 ** 2 + 0.5 ** 2) / (2 * 0.375 ** 2))


def test_embeddings_that_are_linear_in_progress_tell_it():
    frames = torch.linspace(0, 1, 500, dtype=torch.float64)
    embedding = torch.stack([3 - 7 * frames, torch.zeros_like(frames)], dim=1)
    assert phase_progression([embedding], [frames], [embedding[::3]], [frames[::3]]) == pytest.approx(1, abs=1e-4)


def test_the_regressor_is_scored_on_recordings_it_was_not_fitted_to():
    up, down = torch.linspace(0, 1, 50, dtype=torch.float64), torch.linspace(1, 0, 50, dtype=torch.float64)
    embedding = up.unsqueeze(1)
    assert phase_progression([embedding], [up], [embedding], [down]) < -2
    train, test = noise(2, 30, 100, seed=1), noise(20, 30, 100, seed=2)
    ramp = torch.linspace(0, 1, 30, dtype=torch.float64)
    assert phase_progression(train, [ramp] * 2, train, [ramp] * 2) > 0.9, 'overfitted'
    assert phase_progression(train, [ramp] * 2, test, [ramp] * 20) < 0


def test_without_a_change_of_progress_there_is_no_r2():
    assert np.isnan(phase_progression([line(0, 1)], [progress(0.5, 1)], [line(0, 1)], [progress(0, 0)]))

"""Segmentation metrics by hand, and against a transcript of MS-TCN's definitions frame by frame."""

import numpy as np
import pytest

from evaluation import segmentation_metrics
from evaluation.segmentation_metrics import Segmentation, detection_delays, label_runs
from utils.tensorops import Action


def labels(text):
    """One letter per frame; '.' is background."""
    return np.array(['background' if letter == '.' else letter for letter in text])


def row_of(recognized, truth, actions=None):
    """The row over recordings, given the labels of each."""
    scores = Segmentation()
    for found, true, theirs in zip(recognized, truth, actions or [[]] * len(truth), strict=True):
        scores.add(found, true, theirs)
    return scores.row()


@pytest.fixture
def f1(monkeypatch):
    """The F1 score for any overlap."""
    def score(recognized, truth, overlap):
        monkeypatch.setattr(segmentation_metrics, 'OVERLAPS', {'f1': overlap})
        return row_of(recognized, truth)['f1']

    return score


def test_runs_leave_background_out():
    runs = label_runs(labels('.aab..b'))
    assert (runs.labels.tolist(), runs.starts.tolist(), runs.ends.tolist()) == (['a', 'b', 'b'], [1, 3, 6], [3, 4, 7])
    assert label_runs(labels('...')).labels.tolist() == []


def test_accuracy_counts_frames_of_all_recordings():
    recognized, truth = [labels('aab.'), labels('c')], [labels('aa..'), labels('b')]
    row = row_of(recognized, truth)
    assert (row['frame_accuracy'], row['action_frame_accuracy']) == pytest.approx((3 / 5, 2 / 3))
    assert np.isnan(row_of([labels('a')], [labels('.')])['action_frame_accuracy'])


def test_edit_by_hand():
    # Runs a b a against a b: one of three is too many. Runs of the second recording agree, whatever their lengths.
    row = row_of([labels('aabba.'), labels('a.bb'), labels('.')], [labels('aabbb.'), labels('aaab'), labels('.')])
    assert row['edit'] == pytest.approx((100 * (1 - 1 / 3) + 100) / 2), 'a recording without runs does not count'
    assert np.isnan(row_of([labels('..')], [labels('..')])['edit'])
    assert row_of([labels('a.')], [labels('..')])['edit'] == 0


def test_f1_by_hand(f1):
    # True a is 0-3, b is 4-7. Found: a 0-1, b 2-7.
    truth, recognized = [labels('aaaabbbb')], [labels('aabbbbbb')]
    # Overlaps: a 2 / 4, b 4 / 6.
    assert f1(recognized, truth, 0.5) == pytest.approx(100)
    assert f1(recognized, truth, 0.55) == pytest.approx(100 * 2 * 1 / 4)
    assert f1(recognized, truth, 0.7) == 0


def test_f1_counts_a_true_segment_once_and_pools_recordings(f1):
    # The second a finds the first one's segment taken: one hit, one false alarm. The other recording has a miss.
    truth, recognized = [labels('aaaaaa.'), labels('bbb.')], [labels('aaa.aa.'), labels('....')]
    assert f1(recognized, truth, 0.1) == pytest.approx(100 * 2 * 1 / (2 + 2))
    assert f1([labels('a.')], [labels('..')], 0.1) == 0


def mstcn(recognized, truth, overlap):
    """Edit score and true positives, false positives, and misses of one recording, frame by frame and segment by
    segment, as the paper's evaluation counts them."""
    def segments(frames):
        found, last = [], None
        for index, label in enumerate(frames):
            if label != last:
                if last not in (None, 'background'):
                    found[-1][2] = index
                if label != 'background':
                    found.append([label, index, None])
                last = label
        if last != 'background':
            found[-1][2] = len(frames)
        return found

    first, second = segments(recognized), segments(truth)
    table = np.zeros((len(first) + 1, len(second) + 1))
    table[:, 0], table[0] = range(len(first) + 1), range(len(second) + 1)
    for i, j in np.ndindex(len(first), len(second)):
        same = first[i][0] == second[j][0]
        table[i + 1, j + 1] = table[i, j] if same else 1 + min(table[i, j], table[i, j + 1], table[i + 1, j])
    hit, true_positives = [False] * len(second), 0
    for label, start, end in first:
        ratios = [(min(end, e) - max(start, s)) / (max(end, e) - min(start, s)) * (label == name)
                  for name, s, e in second]
        best = int(np.argmax(ratios))
        if ratios[best] >= overlap and not hit[best]:
            hit[best], true_positives = True, true_positives + 1
    return 100 * (1 - table[-1, -1] / max(len(first), len(second))), true_positives, len(first), len(second)


def test_random_labels_score_as_in_the_published_code(f1):
    rng = np.random.default_rng(0)
    pairs = [[np.repeat(labels(''.join(rng.choice(list('abc.'), 30))), rng.integers(1, 6, 30))[:60] for _ in range(2)]
             for _ in range(20)]
    recognized, truth = zip(*pairs, strict=True)
    for overlap in (0.1, 0.25, 0.5):
        counts = np.array([mstcn(*pair, overlap) for pair in pairs])
        precision, recall = counts[:, 1].sum() / counts[:, 2].sum(), counts[:, 1].sum() / counts[:, 3].sum()
        assert f1(recognized, truth, overlap) == pytest.approx(
            100 * 2 * precision * recall / (precision + recall))
    assert row_of(recognized, truth)['edit'] == pytest.approx(counts[:, 0].mean())


def test_delays_by_hand():
    actions = [Action('a', 0, 3), Action('b', 4, 6), Action('b', 7, 8), Action('c', 10, 12)]
    truth, recognized = labels('aaaabbbbb.ccc'), labels('.aaaaabb..ab.')
    # a one frame late, b two, the second b is no change, and c is never recognized in its three frames.
    assert detection_delays(recognized, truth, actions).tolist() == [1, 2, 3]
    assert detection_delays(labels('aab'), labels('aab'), [Action('a', 0, 1), Action('b', 2, 9)]).tolist() == [0, 0]
    assert detection_delays(labels('aaa'), labels('aab'), [Action('b', 2, 9)]).tolist() == [1], 'within the features'


def test_quantiles_of_delays_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 30):
        delays = rng.integers(0, 9, count)
        # Each step is recognized so many frames late; background separates the steps.
        truth = [labels('.' + 'a' * 10)] * count
        recognized = [labels('.' * (1 + delay) + 'a' * (10 - delay)) for delay in delays]
        row = row_of(recognized, truth, [[Action('a', 1, 10)]] * count)
        assert [row['delay_median'], row['delay_p90']] == pytest.approx(np.quantile(delays, [0.5, 0.9]).tolist())


def test_the_row_of_an_oracle_and_without_actions():
    truth, actions = [labels('aa.bb.')], [[Action('a', 0, 1), Action('b', 3, 4)]]
    assert row_of(truth, truth, actions) == {
        'frame_accuracy': 1, 'edit': 100, 'f1_10': 100, 'f1_25': 100, 'f1_50': 100, 'delay_median': 0, 'delay_p90': 0,
        'action_frame_accuracy': 1}
    row = row_of([labels('..')], [labels('..')])
    assert row['frame_accuracy'] == 1 and np.isnan(row['delay_median']) and np.isnan(row['edit'])

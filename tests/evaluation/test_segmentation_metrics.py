"""Segmentation metrics by hand, and against a transcript of MS-TCN's definitions frame by frame."""

import numpy as np
import pytest

from evaluation.segmentation_metrics import (
    action_frame_accuracy,
    detection_delays,
    edit_score,
    frame_accuracy,
    label_runs,
    segment_f1,
    segmentation_row,
)
from utils.tensorops import Action


def labels(text):
    """One letter per frame; '.' is background."""
    return np.array(['background' if letter == '.' else letter for letter in text])


def test_runs_leave_background_out():
    runs = label_runs(labels('.aab..b'))
    assert (runs.labels.tolist(), runs.starts.tolist(), runs.ends.tolist()) == (['a', 'b', 'b'], [1, 3, 6], [3, 4, 7])
    assert label_runs(labels('...')).labels.tolist() == []


def test_accuracy_counts_frames_of_all_recordings():
    recognized, truth = [labels('aab.'), labels('c')], [labels('aa..'), labels('b')]
    assert frame_accuracy(recognized, truth) == pytest.approx(3 / 5)
    assert action_frame_accuracy(recognized, truth) == pytest.approx(2 / 3)
    assert np.isnan(action_frame_accuracy([labels('a')], [labels('.')]))


def test_edit_by_hand():
    # Runs a b a against a b: one of three is too many. Runs of the second recording agree, whatever their lengths.
    assert edit_score([labels('aabba.'), labels('a.bb')], [labels('aabbb.'), labels('aaab')]) == pytest.approx(
        (100 * (1 - 1 / 3) + 100) / 2)
    assert np.isnan(edit_score([labels('..')], [labels('..')]))
    assert edit_score([labels('a.')], [labels('..')]) == 0


def test_f1_by_hand():
    # True a is 0-3, b is 4-7. Found: a 0-1, b 2-7.
    truth, recognized = [labels('aaaabbbb')], [labels('aabbbbbb')]
    # Overlaps: a 2 / 4, b 4 / 6.
    assert segment_f1(recognized, truth, 0.5) == pytest.approx(100)
    assert segment_f1(recognized, truth, 0.55) == pytest.approx(100 * 2 * 1 / 4)
    assert segment_f1(recognized, truth, 0.7) == 0


def test_f1_counts_a_true_segment_once_and_pools_recordings():
    # The second a finds the first one's segment taken: one hit, one false alarm. The other recording has a miss.
    truth, recognized = [labels('aaaaaa.'), labels('bbb.')], [labels('aaa.aa.'), labels('....')]
    assert segment_f1(recognized, truth, 0.1) == pytest.approx(100 * 2 * 1 / (2 + 2))
    assert segment_f1([labels('a.')], [labels('..')], 0.1) == 0


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


def test_random_labels_score_as_in_the_published_code():
    rng = np.random.default_rng(0)
    pairs = [[np.repeat(labels(''.join(rng.choice(list('abc.'), 30))), rng.integers(1, 6, 30))[:60] for _ in range(2)]
             for _ in range(20)]
    recognized, truth = zip(*pairs, strict=True)
    for overlap in (0.1, 0.25, 0.5):
        counts = np.array([mstcn(*pair, overlap) for pair in pairs])
        precision, recall = counts[:, 1].sum() / counts[:, 2].sum(), counts[:, 1].sum() / counts[:, 3].sum()
        assert segment_f1(recognized, truth, overlap) == pytest.approx(
            100 * 2 * precision * recall / (precision + recall))
    assert edit_score(recognized, truth) == pytest.approx(counts[:, 0].mean())


def test_delays_by_hand():
    actions = [Action('a', 0, 3), Action('b', 4, 6), Action('b', 7, 8), Action('c', 10, 12)]
    truth, recognized = labels('aaaabbbbb.ccc'), labels('.aaaaabb..ab.')
    # a one frame late, b two, the second b is no change, and c is never recognized in its three frames.
    assert detection_delays(recognized, truth, actions).tolist() == [1, 2, 3]
    assert detection_delays(labels('aab'), labels('aab'), [Action('a', 0, 1), Action('b', 2, 9)]).tolist() == [0, 0]
    assert detection_delays(labels('aaa'), labels('aab'), [Action('b', 2, 9)]).tolist() == [1], 'within the features'


def test_the_row_of_an_oracle_and_without_actions():
    truth, actions = [labels('aa.bb.')], [[Action('a', 0, 1), Action('b', 3, 4)]]
    assert segmentation_row(truth, truth, actions) == {
        'frame_accuracy': 1, 'edit': 100, 'f1_10': 100, 'f1_25': 100, 'f1_50': 100, 'delay_median': 0, 'delay_p90': 0,
        'action_frame_accuracy': 1}
    row = segmentation_row([labels('..')], [labels('..')], [[]])
    assert row['frame_accuracy'] == 1 and np.isnan(row['delay_median']) and np.isnan(row['edit'])

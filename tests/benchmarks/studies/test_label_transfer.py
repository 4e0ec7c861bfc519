"""The study of label transfer: each way by hand, its measures, and the tables on a small dataset."""

import numpy as np
import pytest
import torch

from benchmarks.studies import label_transfer
from benchmarks.studies.label_transfer import NO_PART, Labeled, Transferred
from tools.demo import DemoSettings, write_demo

REFERENCE = Labeled('a', ['cut', 'cut', '0', 'stir'], torch.tensor([[0.0], [1], [5], [9]]))
OTHER = Labeled('b', ['stir', 'cut', 'fry', '0', 'cut', '0', 'cut', 'stir'],
                torch.tensor([[8.0], [0], [1], [5], [1], [5], [0], [9]]))


def test_the_controls_by_hand():
    assert label_transfer.by_most_frequent(REFERENCE, OTHER).given.tolist() == ['cut'] * 8
    assert label_transfer.by_relative_time(REFERENCE, OTHER).given.tolist() == ['cut'] * 4 + ['0'] * 2 + ['stir'] * 2
    nearest = label_transfer.by_nearest_neighbor(REFERENCE, OTHER)
    assert nearest.given.tolist() == ['stir', 'cut', 'cut', '0', 'cut', '0', 'cut', 'stir']
    assert nearest.true.tolist() == OTHER.labels and nearest.known.tolist() == [True] * 2 + [False] + [True] * 5
    assert label_transfer.measures(nearest) == {
        'all frames': 7 / 8, 'frames of steps': 5 / 6, 'frames of known labels': 1, 'unmatched': 0,
        'right if matched': 7 / 8, 'unseen found': 0}


def cheapest(costs, row, column):
    """Cost of the cheapest path to a cell, by recursion."""
    if row < 0 or column < 0:
        return 0 if row == column == -1 else np.inf
    return costs[row, column] + min(cheapest(costs, row - 1, column), cheapest(costs, row, column - 1),
                                    cheapest(costs, row - 1, column - 1))


def test_time_warping_takes_the_cheapest_path():
    costs = np.array([[0.0, 1, 5, 9], [4, 0, 0, 9], [9, 9, 1, 9], [9, 9, 3, 0]])
    assert label_transfer.warp(costs) == [0, 1, 2, 3]
    assert label_transfer.warp(np.zeros((1, 3))) == [0] and label_transfer.warp(np.zeros((3, 1))) == [0, 0, 0]
    for seed in range(5):
        costs = np.random.default_rng(seed).uniform(size=(4, 5))
        first = [*label_transfer.warp(costs), 5]
        # Each row is left at the first column of the next one, or at the column before it.
        best = min(sum(costs[row, first[row]:last + 1].sum() for row, last in enumerate([*lasts, 4])) for lasts in
                   np.ndindex(5, 5, 5) if all(first[row] <= last <= first[row + 1] <= last + 1
                                              for row, last in enumerate(lasts)))
        assert best == pytest.approx(cheapest(costs, 3, 4))


def test_an_unmatched_frame_is_right_if_its_label_is_unseen():
    given, true = [NO_PART, NO_PART, 'cut', 'stir'], ['fry', 'cut', 'cut', 'cut']
    result = Transferred(np.array(given, object), np.array(true, object), np.array([False, True, True, True]),
                         np.array([0.8, 0.6, 1, 0.95]))
    assert label_transfer.right(result).tolist() == [True, False, True, False]
    found = label_transfer.measures(result)
    assert (found['all frames'], found['unmatched'], found['right if matched'], found['unseen found']) == (
        0.5, 0.5, 0.5, 1)
    assert label_transfer.calibration([result]) == {
        '0 to 0.5': '-', '0.5 to 0.7': '0.00 of 1', '0.7 to 0.9': '1.00 of 1', '0.9 to 0.99': '0.00 of 1',
        '0.99 to 1': '1.00 of 1'}


def test_the_study_prints_a_row_for_each_way(tmp_path, monkeypatch, capsys):
    paths = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=8))
    for variable, path in paths.items():
        monkeypatch.setenv(variable, str(path))
    monkeypatch.setattr(label_transfer.logging, 'disable', lambda level: None)
    splits = str(paths['JSON_DPATH'] / 'tiny.splits.json')
    assert label_transfer.main(['--dataset', 'tiny', '--splits', splits, '--pairs', '2']) == 0
    lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in capsys.readouterr().out.splitlines()
             if line.startswith('|')]
    accuracy = {line[0]: float(line[2]) for line in lines[2:8]}
    # Two training people and one test person: two pairs per task, one with the chosen reference.
    assert [line[:2] for line in lines[2:8]] == [
        ['most frequent label', '6'], ['relative time', '6'], ['nearest neighbor, raw features', '6'],
        ['time warping, raw features', '6'], ['alignment, raw features', '6'],
        ['alignment, raw features, reference chosen', '3']]
    assert accuracy['alignment, raw features'] > accuracy['relative time']
    assert [line[0] for line in lines[8:]] == ['alignment of', '-' * len('alignment, raw features, reference chosen'),
                                               'alignment, raw features', 'alignment, raw features, reference chosen']


@pytest.mark.parametrize(('options', 'message'), [
    (['--splits', 'x.json'], '--splits: requires a dataset'), (['--pairs', '0'], "'0' is not an integer >= 1")])
def test_the_study_refuses_what_it_would_not_do(capsys, options, message):
    assert label_transfer.main(options) == 2 and message in capsys.readouterr().err

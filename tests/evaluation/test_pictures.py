"""Pictures: what is drawn, and that odd names and gaps do no harm."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from evaluation import pictures
from evaluation.baselines import BASELINES
from evaluation.pictures import (
    PAIRS_DRAWN,
    draw_alignments,
    draw_error_by_length,
)
from evaluation.progress_metrics import ActionCurves, LengthErrors
from evaluation.progress_picture import RECORDINGS_DRAWN, DrawnRecording, draw_progress, drawn_recordings
from utils.tensorops import Action


def recording(handle, *spans, frames=12):
    actions = [Action(name, start, end) for name, start, end in spans]
    curves = []
    for action in actions:
        visible = min(action.end, frames - 1) - action.start + 1
        true = np.arange(1, visible + 1) / action.length
        curves.append(ActionCurves(action.name, action.length, true, {'head': true / 2}))
    return DrawnRecording(handle, actions, curves, frames)


def test_progress_lies_at_the_frames_of_its_actions(tmp_path, figures):
    path = tmp_path / 'progress.png'
    draw_progress('tea', [recording('a', ('pour', 1, 4), ('stir', 7, 7), ('wait', 10, 13))], path)
    ribbon, panel = figures[0].axes
    drawn = {}
    for line in panel.lines:
        for frame, value in zip(line.get_xdata(), line.get_ydata(), strict=True):
            drawn.setdefault(line.get_color(), {})[frame] = value
    true = {1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 7: 1, 10: 0.25, 11: 0.5}  # the last action ends past the features
    assert list(drawn.values()) == [true, {frame: value / 2 for frame, value in true.items()}]
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['true', 'predicted, starts given', 'pour',
                                                                         'stir', 'wait']
    assert ribbon.get_title() == 'a' and _bars(ribbon) == [(0, 0.5, 4), (0, 6.5, 1), (0, 9.5, 2)]
    assert imread(path).ndim == 3


def _bars(ribbon):
    """Row, left edge and length of the bars of a ribbon."""
    boxes = [path.get_extents() for collection in ribbon.collections for path in collection.get_paths()]
    return [(round(box.y0 + 0.4), box.x0, box.width) for box in boxes]


def test_what_a_head_infers_without_boundaries_is_drawn_with_its_intervals(tmp_path, figures):
    half = np.full(12, 0.5)
    answers = {'step': np.array(['pour'] * 3 + ['background'] * 4 + ['stir'] * 5), 'progress': half,
               'progress_low': half - 0.1, 'progress_high': half + 0.1, 'overall': half}
    draw_progress('tea', [recording('a', ('pour', 1, 4))._replace(answers=answers)], tmp_path / 'progress.png')
    ribbon, within, overall = figures[0].axes
    assert _bars(ribbon) == [(0, 0.5, 4), (1, -0.5, 3), (1, 6.5, 5)]
    assert [label.get_text() for label in ribbon.get_yticklabels()] == ['true', 'recognized']
    assert len(within.lines) == 3 and len(within.collections) == 1 and len(overall.lines) == 2
    assert 'its 90 % interval' in [text.get_text() for text in figures[0].legends[0].texts]


def test_a_few_recordings_that_have_actions_are_drawn(tmp_path, figures):
    recordings = [recording('empty'), *(recording(f'r{index}', ('pour', 0, 3)) for index in range(9))]
    draw_progress('tea', [recordings[index] for index in drawn_recordings(recordings)], tmp_path / 'progress.png')
    titles = [panel.get_title() for panel in figures[0].axes if panel.get_title()]
    assert titles == ['r0', 'r2', 'r4', 'r6'] and RECORDINGS_DRAWN == 4, 'spread over the recordings'
    assert drawn_recordings(recordings[:1]) == []


def test_names_are_text_not_formulas(tmp_path):
    draw_progress('cost $^$', [recording('a $_$', ('pay $\\nothing$', 0, 3))], tmp_path / 'progress.png')
    assert (tmp_path / 'progress.png').exists()


def test_errors_lie_over_the_lengths_of_actions(tmp_path, figures):
    def action(length, **errors):
        true = np.arange(1, length + 1) / length
        return ActionCurves('pour', length, true,
                            {name: true - errors.get(name, 0.5) for name in ('head', *BASELINES)})

    path = tmp_path / 'errors.png'
    tea, cost = LengthErrors(), LengthErrors()
    tea.add([action(1, head=0.1), action(5, head=0.2)])
    cost.add([action(4, head=0.4, average_index=0.3)])
    draw_error_by_length({'tea': tea, 'cost $^$': cost}, path)
    panel, = figures[0].axes
    drawn = {line.get_label(): line for line in panel.lines}
    assert set(drawn) == {'progress head', 'constant', 'average index', 'average index per step (given the step)',
                          'paced per step (given the step)', 'cumulative distance', 'survival',
                          'survival per step (given the step)'}
    assert list(drawn['progress head'].get_ydata()) == pytest.approx([0.1, 0.3])
    assert list(drawn['average index'].get_ydata()) == pytest.approx([0.5, 0.4])
    assert list(drawn['constant'].get_xdata()) == pytest.approx([1, np.sqrt(4 * 7)])
    assert panel.get_xscale() == 'log' and len(figures[0].legends[0].texts) == len(drawn)
    assert [label.get_text() for label in panel.get_xticklabels()] == ['1\nn = 1', '4-7\nn = 2']
    assert imread(path).ndim == 3


def embedded(handle, positions, *spans):
    """A recording whose embeddings lie on a line."""
    return handle, torch.tensor(positions).unsqueeze(1), [Action(*span) for span in spans]


def test_an_alignment_matrix_by_hand(tmp_path, figures):
    path = tmp_path / 'alignment.png'
    draw_alignments('cost $^$', [embedded('one $_$', [0.0, 1, 5], ('pour', 0, 1)),
                                 embedded('two', [4.0, 0, 0.5, 1], ('pour', 0, 3))], path)
    panel, = figures[0].axes
    image, = panel.images
    assert np.array(image.get_array()).tolist() == [[4, 0, 0.5, 1], [3, 1, 0.5, 0], [1, 5, 4.5, 4]]
    assert image.get_extent() == [-0.5, 3.5, -0.5, 2.5] and image.origin == 'lower'
    true, nearest = ([[float(value) for value in pair] for pair in line.get_xydata()] for line in panel.lines)
    assert true == [[0.5, 0], [2.5, 1]]  # the middles of the halves of four frames
    assert nearest == [[1, 0], [3, 1], [0, 2]]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ('frame of two', 'frame of one $_$')
    assert imread(path).ndim == 3


def test_long_recordings_are_drawn_by_evenly_spread_frames(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(pictures, 'MATRIX_SIDE', 2)
    draw_alignments('tea', [embedded('one', [0.0, 1, 2, 3]), embedded('t' * 99, [0.0, 1, 2, 3, 4])], tmp_path / 'a.png')
    panel, = figures[0].axes
    assert panel.get_xlabel() == f'frame of {"t" * 37}...'  # a longer one would cover those of other panels
    assert np.array(panel.images[0].get_array()).tolist() == [[0, 2], [2, 0]]  # frames 0 and 2 of both
    assert panel.images[0].get_extent() == [-0.5, 4.5, -0.5, 3.5]
    assert panel.lines[1].get_xydata().tolist() == [[0, 0], [2, 2]]


def test_a_few_pairs_are_drawn_and_a_single_recording_none(tmp_path, figures):
    recordings = [embedded(f'r{index}', [0.0]) for index in range(5)]
    draw_alignments('tea', recordings, tmp_path / 'a.png')
    assert len(figures[0].axes) == PAIRS_DRAWN
    draw_alignments('tea', recordings[:1], tmp_path / 'none.png')
    assert not (tmp_path / 'none.png').exists()

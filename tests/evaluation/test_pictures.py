"""Pictures of progress: what is drawn, and that odd names and gaps do no harm."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from evaluation.baselines import BASELINES
from evaluation.pictures import RECORDINGS_DRAWN, draw_error_by_length, draw_progress
from evaluation.progress_metrics import ActionCurves
from utils.tensorops import Action


def recording(handle, *spans, frames=12):
    actions = [Action(name, start, end) for name, start, end in spans]
    curves = []
    for action in actions:
        visible = min(action.end, frames - 1) - action.start + 1
        true = np.arange(1, visible + 1) / action.length
        curves.append(ActionCurves(handle, action.length, true, {'head': true / 2}))
    return handle, actions, curves, frames


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    saved, original = [], Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda figure, *rest, **more: saved.append(figure)
                        or original(figure, *rest, **more))
    return saved


def test_progress_lies_at_the_frames_of_its_actions(tmp_path, figures):
    path = tmp_path / 'progress.png'
    draw_progress('tea', [recording('a', ('pour', 1, 4), ('stir', 7, 7), ('wait', 10, 13))], path)
    panel, = figures[0].axes
    drawn = {}
    for line in panel.lines:
        for frame, value in zip(line.get_xdata(), line.get_ydata(), strict=True):
            drawn.setdefault(line.get_color(), {})[frame] = value
    true = {1: 0.25, 2: 0.5, 3: 0.75, 4: 1, 7: 1, 10: 0.25, 11: 0.5}  # the last action ends past the features
    assert list(drawn.values()) == [true, {frame: value / 2 for frame, value in true.items()}]
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['true', 'predicted']
    assert panel.get_title() == 'a' and [text.get_text() for text in panel.texts] == ['pour', 'stir', 'wait']
    assert imread(path).ndim == 3


def test_a_few_recordings_that_have_actions_are_drawn(tmp_path, figures):
    recordings = [recording('empty'), *(recording(f'r{index}', ('pour', 0, 3)) for index in range(9))]
    draw_progress('tea', recordings, tmp_path / 'progress.png')
    assert [panel.get_title() for panel in figures[0].axes] == [f'r{index}' for index in range(RECORDINGS_DRAWN)]
    draw_progress('tea', recordings[:1], tmp_path / 'none.png')
    assert not (tmp_path / 'none.png').exists()


def test_names_are_text_not_formulas(tmp_path):
    draw_progress('cost $^$', [recording('a $_$', ('pay $\\nothing$', 0, 3))], tmp_path / 'progress.png')
    assert (tmp_path / 'progress.png').exists()


def test_errors_lie_over_the_lengths_of_actions(tmp_path, figures):
    def action(handle, length, **errors):
        true = np.arange(1, length + 1) / length
        return ActionCurves(handle, length, true,
                            {name: true - errors.get(name, 0.5) for name in ('head', *BASELINES)})

    path = tmp_path / 'errors.png'
    draw_error_by_length({'tea': [action('a', 1, head=0.1), action('a', 5, head=0.2)],
                          'cost $^$': [action('b', 4, head=0.4, average_index=0.3)]}, path)
    panel, = figures[0].axes
    drawn = {line.get_label(): line for line in panel.lines}
    assert set(drawn) == {'progress head', 'constant', 'average index', 'average index per step (told the step)',
                          'paced per step (told the step)', 'cumulative distance'}
    assert list(drawn['progress head'].get_ydata()) == pytest.approx([0.1, 0.3])
    assert list(drawn['average index'].get_ydata()) == pytest.approx([0.5, 0.4])
    assert list(drawn['constant'].get_xdata()) == pytest.approx([1, np.sqrt(4 * 7)])
    assert panel.get_xscale() == 'log' and len(figures[0].legends[0].texts) == len(drawn)
    assert [label.get_text() for label in panel.get_xticklabels()] == ['1\nn = 1', '4-7\nn = 2']
    assert imread(path).ndim == 3

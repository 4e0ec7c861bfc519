"""The picture of a prediction: what is drawn where."""

import numpy as np
import pytest
from matplotlib.image import imread

from prediction.picture import LABEL_ROWS, draw_prediction
from prediction.recording import Prediction
from utils.tensorops import Action


def prediction(num_frames, *actions, skip_rate=1):
    progress = np.full(num_frames, np.nan)
    for action in actions:
        progress[action.start:action.end + 1] = np.linspace(0.1, 0.9, action.length)
    return Prediction(list(actions), np.arange(num_frames) * skip_rate, progress)


def test_each_action_is_a_line_at_its_frames(tmp_path, figures):
    actions = Action('pour', 1, 4), Action('$odd', 6, 6), Action(None, 8, 9)
    draw_prediction(prediction(12, *actions, skip_rate=2), 'tea $1', tmp_path / 'a.png')
    axes, = figures[0].axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[2, 4, 6, 8], [12], [16, 18]]
    assert axes.lines[0].get_ydata() == pytest.approx(np.linspace(0.1, 0.9, 4))
    assert [line.get_marker() for line in axes.lines] == ['None', '.', 'None']
    assert [text.get_text() for text in axes.texts] == ['pour', '$odd'] and axes.get_title() == 'tea $1'
    assert imread(tmp_path / 'a.png').std() > 0


def test_labels_neither_cover_each_other_nor_leave_the_picture(tmp_path, figures):
    actions = [Action(f'a long label {number}', 3 * number, 3 * number + 1) for number in range(100)]
    draw_prediction(prediction(300, *actions), 'crowded', tmp_path / 'a.png')
    figure = figures[0]
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in figure.axes[0].texts]
    assert len(boxes) > 3 * LABEL_ROWS
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_recording_without_actions_is_drawn(tmp_path):
    draw_prediction(prediction(1), 'nothing', tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size > 0

"""The picture of a prediction: what is drawn where."""

import numpy as np
import pytest
from matplotlib.image import imread

from prediction import FrameProgress, Prediction
from prediction.picture import draw_prediction
from utils.tensorops import Action


def prediction(num_frames, *actions, skip_rate=1, fps=None, boundaries='given', **columns):
    rows = [FrameProgress(frame * skip_rate, None if fps is None else frame * skip_rate / fps, 'background')
            for frame in range(num_frames)]
    for action in actions:
        for frame in range(action.start, action.end + 1):
            progress = (frame - action.start + 1) / action.length
            rows[frame] = rows[frame]._replace(step=action.name, progress=progress)
    rows = [row._replace(**{name: value for name, value in columns.items() if row.progress or 'overall' in name})
            for row in rows]
    return Prediction(boundaries, list(actions), rows)


def bars(ribbon):
    """Left edge and length of the bars of a ribbon."""
    boxes = [path.get_extents() for collection in ribbon.collections for path in collection.get_paths()]
    return [(box.x0, box.width) for box in boxes]


def test_each_action_is_a_bar_and_a_line_at_its_frames(tmp_path, figures):
    actions = Action('pour', 1, 4), Action('$odd', 6, 6), Action(None, 8, 9)
    draw_prediction(prediction(12, *actions, skip_rate=2), 'tea $1', tmp_path / 'a.png')
    ribbon, panel = figures[0].axes
    assert bars(ribbon) == [(1, 8), (11, 2), (15, 4)] and ribbon.get_title() == 'tea $1'
    assert [line.get_xdata().tolist() for line in panel.lines] == [[2, 4, 6, 8], [12], [16, 18]]
    assert panel.lines[0].get_ydata() == pytest.approx([0.25, 0.5, 0.75, 1])
    assert [line.get_marker() for line in panel.lines] == ['None', '.', 'None'] and panel.get_xlabel() == 'frame'
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['predicted', 'pour', '$odd', 'no label']
    assert imread(tmp_path / 'a.png').std() > 0


def test_intervals_and_the_overall_progress_are_drawn_if_the_head_offers_them(tmp_path, figures):
    drawn = prediction(12, Action('pour', 1, 4), Action('stir', 5, 11), fps=2, boundaries='inferred', progress_low=0.1,
                       progress_high=0.9, overall=0.5, overall_low=0.4, overall_high=0.7)
    draw_prediction(drawn, 'tea', tmp_path / 'a.png')
    ribbon, panel, overall = figures[0].axes
    assert np.array(bars(ribbon)) == pytest.approx(np.array([(0.25, 2), (2.25, 3.5)]))
    assert [label.get_text() for label in ribbon.get_yticklabels()] == ['inferred']
    assert [len(axes.collections) for axes in (panel, overall)] == [2, 1] and overall.get_xlabel() == 'seconds'
    assert [text.get_text() for text in figures[0].legends[0].texts] == ['predicted', 'its 90 % interval', 'pour',
                                                                         'stir']


def test_a_recording_of_many_labels_or_none_is_drawn(tmp_path):
    crowded = [Action(f'a long label {number}', 3 * number, 3 * number + 1) for number in range(100)]
    draw_prediction(prediction(300, *crowded), 'crowded', tmp_path / 'a.png')
    draw_prediction(prediction(1), 'nothing', tmp_path / 'b.png')
    assert all((tmp_path / name).stat().st_size > 0 for name in ('a.png', 'b.png'))

"""Picture of a recording: steps as a ribbon, progress within steps and of the whole recording, with intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from prediction.prediction import Prediction
from utils.figures import new_figure, save_figure
from utils.ribbons import (
    LANE_HEIGHTS,
    RECORDING_MARGIN,
    UNIT_AXIS,
    Span,
    add_legend,
    draw_band,
    draw_ribbons,
    label_colors,
    legend_height,
)

NO_LABEL = 'no label'
CURVE_LABELS = ['predicted', 'its 90 % interval']


def draw_prediction(prediction: Prediction, title: str, path: Path) -> None:
    """Draw the prediction for a recording, over seconds if the frame rate is known, otherwise over frames.

    Args:
        prediction: prediction for the recording.
        title: title of the picture.
        path: PNG to write.
    """
    spans = [Span(action.name or NO_LABEL, action.start, action.end + 1) for action in prediction.actions]
    colors = label_colors(span.label for span in spans)
    lanes = ['steps', 'progress', *([] if np.isnan(prediction.overall).all() else ['overall'])]
    heights = [LANE_HEIGHTS[lane] for lane in lanes]
    figure = new_figure(12, sum(heights) + RECORDING_MARGIN + legend_height(len(colors)) + 0.2)
    panels = dict(zip(lanes, figure.subplots(len(lanes), 1, sharex=True, height_ratios=heights), strict=True))
    panels['steps'].set_title(title, parse_math=False)  # names are text, even with a $
    x, name = _horizontal(prediction)
    # Mean distance of rows: the length of a frame in the units of the axis.
    unit = (x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else 1
    draw_ribbons(panels['steps'], {prediction.boundaries: spans}, colors, unit=unit)
    _draw_progress(panels['progress'], prediction, x)
    if 'overall' in panels:
        draw_band(panels['overall'], x, _curve(prediction, 'overall'), 'tab:blue', CURVE_LABELS)
        panels['overall'].set(**UNIT_AXIS, ylabel='overall')
    panels[lanes[-1]].set(xlabel=name, xlim=(x[0] - unit, x[-1] + unit))
    add_legend(figure, panels['progress'], colors)
    save_figure(figure, path)


def _horizontal(prediction: Prediction) -> tuple[np.ndarray, str]:
    """Return the positions (n,) of the rows on the horizontal axis, and the label of the axis."""
    if np.isnan(prediction.time_s).any():
        return prediction.frame.astype(float), 'frame'
    return prediction.time_s, 'seconds'


def _draw_progress(axes: Axes, prediction: Prediction, x: np.ndarray) -> None:
    """Draw each action as its own curve: a single curve would join the end of an action to the start of the next."""
    labels: Sequence[str | None] = CURVE_LABELS
    values = _curve(prediction, 'progress')
    for action in prediction.actions:
        inside = slice(action.start, action.end + 1)
        draw_band(axes, x[inside], [value[inside] for value in values], 'tab:red', labels)
        if action.length == 1:
            axes.lines[-1].set_marker('.')  # a line through one point is invisible
        labels = [None, None]
    axes.set(**UNIT_AXIS, ylabel='progress')


def _curve(prediction: Prediction, name: str) -> list[np.ndarray]:
    """Return a field of the prediction, followed by its bounds if available."""
    values = [getattr(prediction, f'{name}{ending}') for ending in ('', '_low', '_high')]
    return values[:1] if np.isnan(values[1]).all() else values

"""Pictures of a few recordings: steps as color ribbons, progress within steps and of the whole recording."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from evaluation.progress_metrics import ActionCurves
from recordings.background import BACKGROUND
from recordings.json_dataset import Recording
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
    label_spans,
    legend_height,
)
from utils.tensorops import Action

RECORDINGS_DRAWN = 4


class DrawnRecording(NamedTuple):
    """Data to draw of a recording.

    Attributes:
        handle: name of the recording.
        actions: actions in order of time.
        curves: progress curves of the actions, predicted by the head given the starts of the actions.
        num_frames: T.
        answers: estimates of the head without boundaries, field of ``FrameEstimates`` -> (T,); None if the head
            requires boundaries.
    """

    handle: str
    actions: Sequence[Action]
    curves: Sequence[ActionCurves]
    num_frames: int
    answers: Mapping[str, np.ndarray] | None = None


def drawn_recordings(recordings: Sequence[Recording]) -> list[int]:
    """Return the indices of the recordings to draw: a few of those with actions, spread over all of them."""
    with_actions = [index for index, recording in enumerate(recordings) if recording.actions]
    # Spread, because adjacent recordings are often takes of the same person and step.
    count = min(RECORDINGS_DRAWN, len(with_actions))
    return [with_actions[place * len(with_actions) // count] for place in range(count)]


def draw_progress(task: str, drawn: Sequence[DrawnRecording], path: Path) -> None:
    """Draw steps and progress over the frames of recordings.

    Args:
        task: name of the task, for the title.
        drawn: at least one recording with actions, see :func:`drawn_recordings`.
        path: PNG to write.
    """
    colors = _label_colors(drawn)
    lanes = ['steps', 'progress', *(['overall'] if 'overall' in (drawn[0].answers or {}) else [])]
    ribbons = 1 + (drawn[0].answers is not None)  # of the true steps, and of the recognized steps
    heights = [LANE_HEIGHTS[lane] * (ribbons if lane == 'steps' else 1) for lane in lanes]
    figure = new_figure(12, (sum(heights) + RECORDING_MARGIN) * len(drawn) + legend_height(len(colors)) + 0.4)
    figure.suptitle(f'{task}: progress within each action of test recordings', parse_math=False)
    parts = figure.subfigures(len(drawn), 1, squeeze=False)[:, 0]
    for part, recording in zip(parts, drawn, strict=True):
        panels = dict(zip(lanes, part.subplots(len(lanes), 1, sharex=True, height_ratios=heights), strict=True))
        _draw_recording(panels, recording, colors)
    add_legend(figure, parts[0].axes[1], colors)
    save_figure(figure, path)


def _label_colors(recordings: Sequence[DrawnRecording]) -> dict[str, tuple]:
    """Return label -> color, in the order in which labels first appear."""
    names = itertools.chain.from_iterable(
        [*(action.name for action in one.actions), *_recognized(one)] for one in recordings)
    return label_colors(name for name in names if name != BACKGROUND)


def _recognized(recording: DrawnRecording) -> list[str]:
    return [] if recording.answers is None else [str(label) for label in recording.answers['step']]


def _draw_recording(panels: Mapping[str, Axes], recording: DrawnRecording, colors: Mapping[str, tuple]) -> None:
    """Draw the lanes of a recording; names are drawn as text even if they contain a $."""
    panels['steps'].set_title(recording.handle, parse_math=False)
    _draw_steps(panels['steps'], recording, colors)
    _draw_within(panels['progress'], recording)
    if 'overall' in panels:
        axes, answers, frames = panels['overall'], recording.answers, np.arange(recording.num_frames)
        axes.plot(frames, (frames + 1) / recording.num_frames, color='0.65', linewidth=3)
        _draw_filtered(axes, answers, 'overall')
        axes.set(**UNIT_AXIS, ylabel='overall')
    last = list(panels.values())[-1]
    last.set(xlabel='frame', xlim=(-1, recording.num_frames))


def _draw_steps(axes: Axes, recording: DrawnRecording, colors: Mapping[str, tuple]) -> None:
    """Draw the true steps as a ribbon, and below it the recognized steps if there are any."""
    # Spans are half-open, and an annotation may extend past the features.
    ribbons = {'true': [Span(action.name, action.start, min(action.end + 1, recording.num_frames))
                        for action in recording.actions]}
    if recognized := _recognized(recording):
        ribbons['recognized'] = [span for span in label_spans(recognized) if span.label != BACKGROUND]
    draw_ribbons(axes, ribbons, colors)


def _draw_within(axes: Axes, recording: DrawnRecording) -> None:
    """Draw true and predicted progress within the actions."""
    for number, (action, curve) in enumerate(zip(recording.actions, recording.curves, strict=True)):
        # Draw each action as its own line: a single line would join the end of an action to the start of the next.
        frames = range(action.start, action.start + len(curve.true))
        marker = '.' if len(curve.true) == 1 else None  # a line through one point is invisible
        axes.plot(frames, curve.true, color='0.65', linewidth=3, marker=marker, label=None if number else 'true')
        axes.plot(frames, curve.predicted['head'], color='tab:red', linewidth=1.5, marker=marker,
                  label=None if number else 'predicted, starts given')
    if recording.answers is not None:
        _draw_filtered(axes, recording.answers, 'progress')
    axes.set(**UNIT_AXIS, ylabel='progress')


def _draw_filtered(axes: Axes, answers: Mapping[str, np.ndarray], name: str) -> None:
    """Draw the estimates of a head without boundaries, with the 90 % interval if available."""
    values = [answers[field] for field in (name, f'{name}_low', f'{name}_high') if field in answers]
    draw_band(axes, np.arange(len(values[0])), values, 'tab:blue',
              ['predicted, boundaries unknown', 'its 90 % interval'])

"""Pictures of predicted against true progress."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.progress_metrics import ActionCurves
from utils.plotter import new_figure, save_figure
from utils.tensorops import Action

RECORDINGS_DRAWN = 4


def draw_progress(task: str, recordings: Sequence[tuple[str, Sequence[Action], Sequence[ActionCurves], int]],
                  path: Path) -> None:
    """Draw true and predicted progress over the frames of a few recordings.

    Args:
        task: for the title.
        recordings: per recording its handle, its actions, their curves, and its length in frames.
        path: PNG to write.
    """
    drawn = [recording for recording in recordings if recording[1]][:RECORDINGS_DRAWN]
    if not drawn:
        return
    figure = new_figure(12, 2.4 * len(drawn) + 0.6)
    figure.suptitle(f'{task}: progress within each action of test recordings', parse_math=False)
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for axes, (handle, actions, curves, num_frames) in zip(panels, drawn, strict=True):
        for values, label, style in ((_over_frames(actions, [curve.true for curve in curves], num_frames),
                                      'true', {'color': '0.6', 'linewidth': 3}),
                                     (_over_frames(actions, [curve.predicted['head'] for curve in curves], num_frames),
                                      'predicted', {'color': 'tab:red', 'linewidth': 1.5})):
            axes.plot(values, label=label, **style)
        for action in actions:
            axes.text(action.start, 1.03, action.name, fontsize=7, clip_on=True, parse_math=False)
        axes.set(ylim=(0, 1.15), xlim=(0, num_frames), ylabel='progress')
        axes.set_title(handle, parse_math=False)
    panels[0].legend(loc='upper right', framealpha=0.9)
    panels[-1].set_xlabel('frame')
    save_figure(figure, path)


def _over_frames(actions: Sequence[Action], curves: Sequence[np.ndarray], num_frames: int) -> np.ndarray:
    """Lay the curves of actions along the recording, with gaps where there is none."""
    values = np.full(num_frames, np.nan)
    for action, curve in zip(actions, curves, strict=True):
        values[action.start:action.start + len(curve)] = curve
    return values

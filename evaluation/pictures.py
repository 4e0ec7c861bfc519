"""Pictures of predicted against true progress."""

from collections.abc import Sequence
from pathlib import Path

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
        for number, (action, curve) in enumerate(zip(actions, curves, strict=True)):
            # A line of its own for each action: one line would join the end of an action to the next one's start.
            frames = range(action.start, action.start + len(curve.true))
            marker = '.' if len(curve.true) == 1 else None  # a line through one point is invisible
            axes.plot(frames, curve.true, color='0.65', linewidth=3, marker=marker, label=None if number else 'true')
            axes.plot(frames, curve.predicted['head'], color='tab:red', linewidth=1.5, marker=marker,
                      label=None if number else 'predicted')
            # Two heights, so that the names of short actions do not cover each other.
            axes.text(action.start, 1.06 + 0.13 * (number % 2), action.name, fontsize=7, clip_on=True,
                      parse_math=False)
        axes.set(ylim=(0, 1.32), xlim=(0, num_frames), yticks=[0, 0.5, 1], ylabel='progress')
        axes.set_title(handle, parse_math=False)  # names are text, also where they hold a $
    figure.legend(*panels[0].get_legend_handles_labels(), loc='upper right')
    panels[-1].set_xlabel('frame')
    save_figure(figure, path)

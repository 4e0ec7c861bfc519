"""Picture of a recording's predicted progress."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from prediction.recording import Prediction
from utils.plotter import new_figure, save_figure

WIDTH, LETTER = 12.0, 0.07  # inches, of the picture and of a letter of a label
LABEL_ROWS, ROW_HEIGHT = 3, 0.1  # labels that would cover each other stand above each other
FIRST_ROW = 1.05  # progress at which the labels begin
SHADES = ('0.88', '0.94')  # of the actions, by turns


def draw_prediction(prediction: Prediction, title: str, path: Path) -> None:
    """Draw the predicted progress over the frames of a recording.

    Args:
        prediction: of the recording.
        title: of the picture.
        path: PNG to write.
    """
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    for number, action in enumerate(prediction.actions):
        frames = prediction.frames[action.start:action.end + 1]
        axes.fill_between([frames[0] - 0.5, frames[-1] + 0.5], 1, color=SHADES[number % 2], linewidth=0)
        axes.plot(frames, prediction.progress[action.start:action.end + 1], color='tab:red', linewidth=1.5,
                  marker='.' if len(frames) == 1 else None)  # a line through one point is invisible
    last = prediction.frames[-1]
    rows = _write_labels(axes, [(prediction.frames[action.start], action.name) for action in prediction.actions
                                if action.name], last + 1)
    axes.set(xlim=(-0.5, last + 0.5), ylim=(0, FIRST_ROW + ROW_HEIGHT * rows), yticks=[0, 0.25, 0.5, 0.75, 1],
             xlabel='frame', ylabel='progress of the action')
    axes.spines[['top', 'right']].set_visible(False)
    axes.set_title(title, parse_math=False)  # names are text, also where they hold a $
    save_figure(figure, path)


def _write_labels(axes: Axes, labels: Sequence[tuple[int, str]], num_frames: int) -> int:
    """Write each label above the start of its action, in the first row where it has room; without room, not at all.

    Args:
        axes: of the picture.
        labels: first frame and text of each action.
        num_frames: of the recording.

    Returns:
        Rows that were needed.
    """
    letter = LETTER * num_frames / (WIDTH - 1)  # in frames
    free_from = [float('-inf')] * LABEL_ROWS
    for start, label in labels:
        start = min(start, num_frames - len(label) * letter)  # the last ones would run out of the picture
        row = next((row for row, free in enumerate(free_from) if free <= start), None)
        if row is not None:
            axes.text(start, FIRST_ROW + ROW_HEIGHT * row, label, fontsize=8, clip_on=True, parse_math=False)
            free_from[row] = start + (len(label) + 1) * letter
    return sum(free > float('-inf') for free in free_from)

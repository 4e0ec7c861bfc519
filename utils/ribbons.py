"""What pictures of recordings share: steps as color ribbons, curves with a band, a legend of both."""

import itertools
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from utils.text import short_name

NUM_COLORS = 20  # of the palette; more labels share them
LANE_HEIGHTS = {'steps': 0.35, 'progress': 1.5, 'overall': 1.0}  # inches; of the steps, for each ribbon
RECORDING_MARGIN, LEGEND_HEIGHT, LEGEND_COLUMNS = 0.75, 0.25, 5
LEGEND_LETTERS = 60  # of a label in the legend; the end of a longer one is left out
UNIT_AXIS = {'ylim': (0, 1.05), 'yticks': [0, 0.5, 1]}  # of a curve in [0, 1]


class Span(NamedTuple):
    """Frames of one label.

    Attributes:
        label: the label.
        start: first frame.
        end: the frame after the last one.
    """

    label: str
    start: int
    end: int


def label_spans(labels: Sequence[str]) -> list[Span]:
    """Return the runs of equal labels (T,)."""
    starts = [frame for frame, label in enumerate(labels) if not frame or label != labels[frame - 1]]
    return [Span(labels[start], start, end) for start, end in itertools.pairwise([*starts, len(labels)])]


def label_colors(labels: Iterable[str]) -> dict[str, tuple]:
    """Return label -> color, in the order in which labels first appear."""
    from matplotlib import colormaps

    palette = colormaps['tab20'].colors
    return {label: palette[index % NUM_COLORS] for index, label in enumerate(dict.fromkeys(labels))}


def legend_height(num_colors: int) -> float:
    """Return the height in inches that :func:`add_legend` needs below the lanes."""
    return LEGEND_HEIGHT * (2 + (num_colors - 1) // LEGEND_COLUMNS)


def draw_ribbons(axes: Axes, ribbons: Mapping[str, Sequence[Span]], colors: Mapping[str, tuple], *,
                 unit: float = 1, upright: bool = False) -> None:
    """Draw ribbons of steps below each other, or upright and next to each other.

    Args:
        axes: of their lane.
        ribbons: name -> its spans.
        colors: label -> color.
        unit: length of a frame on the axis of time.
        upright: True if time runs upwards, False if it runs to the right.
    """
    if upright:
        for column, spans in enumerate(ribbons.values()):
            axes.bar([column] * len(spans), [unit * (end - start) for _, start, end in spans], 0.8,
                     [unit * (start - 0.5) for _, start, _ in spans], color=[colors[name] for name, _, _ in spans],
                     edgecolor='white', linewidth=0.5)
        axes.set(xlim=(-0.5, len(ribbons) - 0.5))
        axes.set_xticks(range(len(ribbons)), list(ribbons), rotation=90)
        return
    for row, spans in enumerate(ribbons.values()):
        # A frame extends half a frame to both sides of its position.
        axes.broken_barh([(unit * (start - 0.5), unit * (end - start)) for _, start, end in spans], (row - 0.4, 0.8),
                         facecolors=[colors[name] for name, _, _ in spans], edgecolor='white', linewidth=0.5)
    # The vertical axis points down: the first ribbon is on top.
    axes.set(yticks=range(len(ribbons)), yticklabels=list(ribbons), ylim=(len(ribbons) - 0.5, -0.5))


def draw_band(axes: Axes, x: np.ndarray, values: Sequence[np.ndarray], color: str,
              labels: Sequence[str | None]) -> None:
    """Draw a curve, and the band between two others if there are any.

    Args:
        axes: of the lane.
        x: (n,).
        values: the curve (n,), or the curve and the bounds of the band (n,); NaN is a gap.
        color: of curve and band.
        labels: of curve and band in the legend; None if it does not contain them.
    """
    axes.plot(x, values[0], color=color, linewidth=1.2, label=labels[0])
    if len(values) > 1:
        axes.fill_between(x, values[1], values[2], color=color, alpha=0.2, linewidth=0, label=labels[1])


def add_legend(figure: Figure, axes: Axes, colors: Mapping[str, tuple]) -> None:
    """Explain the curves of a lane and the colors of the steps below all lanes; names are text, even with a $.

    Long names take fewer columns, and the figure grows by the rows that are added.
    """
    handles, labels = axes.get_legend_handles_labels()
    handles += [Patch(color=color) for color in colors.values()]
    labels = [short_name(label, LEGEND_LETTERS) for label in (*labels, *colors)]
    for columns in range(LEGEND_COLUMNS, 0, -1):
        legend = figure.legend(handles, labels, loc='outside lower center', ncols=columns, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
        with warnings.catch_warnings(action='ignore'):  # of missing letters, which save_figure takes from other fonts
            width = legend.get_window_extent().width
        if columns == 1 or width <= figure.bbox.width:
            break
        legend.remove()
    added = math.ceil(len(labels) / columns) - math.ceil(len(labels) / LEGEND_COLUMNS)
    figure.set_figheight(figure.get_figheight() + LEGEND_HEIGHT * added)

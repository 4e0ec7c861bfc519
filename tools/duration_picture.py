"""Draw histograms of the durations of actions, one panel per task."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from utils.figures import new_figure, save_figure
from utils.text import short_name

MAX_PANELS, COLUMNS = 24, 4
TITLE_LETTERS = 40  # of a task, above its panel
BINS = 16  # approximate number of bins; every bin spans a whole number of frames
WIDE = 10  # ratio of longest to shortest duration from which the axis is logarithmic


def draw_durations(name: str, tasks: Mapping[str, Sequence[int]], path: Path) -> None:
    """Draw the durations of actions, with a shared axis so that tasks can be compared.

    Args:
        name: name of the dataset, for the title.
        tasks: task -> durations of its actions in feature frames; if there are more than ``MAX_PANELS`` tasks, those
            with most actions are drawn. At least one task must have an action.
        path: PNG to write.

    Raises:
        UserError: the picture cannot be written.
    """
    filled = {task: durations for task, durations in tasks.items() if durations}
    drawn = sorted(filled, key=lambda task: -len(filled[task]))[:MAX_PANELS] if len(filled) > MAX_PANELS else filled
    everything = [duration for task in drawn for duration in filled[task]]
    wide = max(everything) >= WIDE * min(everything)
    edges = _bin_edges(min(everything), max(everything), wide)
    columns = len(drawn) if len(drawn) <= 3 else min(COLUMNS, math.ceil(math.sqrt(len(drawn))))
    rows = math.ceil(len(drawn) / columns)
    figure = new_figure(max(6.4, 3.6 * columns), 2.5 * rows + 0.9)
    some = f', the {MAX_PANELS} tasks with most actions of {len(filled)}' if len(filled) > MAX_PANELS else ''
    figure.suptitle(f'{name}: durations of actions{some}', parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, task in zip(panels, drawn, strict=False):
        _draw_task(axes, task, filled[task], edges)
        if wide:
            axes.set_xscale('log')
            axes.set_xticks(_ticks(max(everything)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(edges[0] / 1.1, edges[-1] * 1.1)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(drawn):]:
        axes.remove()
    for axes in panels[max(0, len(drawn) - columns):len(drawn)]:
        axes.tick_params(labelbottom=True)  # the lowest panel of each column, also if the last row is incomplete
    figure.supxlabel('feature frames' + (', logarithmic' if wide else ''), fontsize='medium')
    figure.supylabel('actions', fontsize='medium')
    save_figure(figure, path)


def _bin_edges(shortest: int, longest: int, wide: bool) -> np.ndarray:
    """Return edges halfway between whole numbers of frames; bins of a wide range grow with the duration.

    With evenly spaced logarithms, neighboring bins would span one and two whole numbers in turn, like a comb.
    """
    growth = (longest / shortest) ** (1 / BINS) - 1
    bin_width = max(1, math.ceil((longest - shortest + 1) / BINS))
    edges = [shortest - 0.5]
    while edges[-1] < longest:
        edges.append(edges[-1] + (max(1, round(edges[-1] * growth)) if wide else bin_width))
    return np.array(edges)


def _ticks(longest: int) -> list[int]:
    """Return 1, 2, 5, 10, ... frames; only powers of 10 if the labels would overlap."""
    steps = (1, 2, 5) if longest < 1000 else (1,)
    return [step * 10**power for power in range(math.ceil(math.log10(longest)) + 1) for step in steps]


def _draw_task(axes: Axes, task: str, durations: Sequence[int], edges: np.ndarray) -> None:
    """Draw the histogram of one task with its median."""
    median = float(np.median(durations))
    axes.hist(durations, edges, color='tab:blue', alpha=0.75, edgecolor='white', linewidth=0.5)
    axes.axvline(median, color='tab:red', linewidth=1.5)
    title = short_name(task, TITLE_LETTERS)
    axes.set_title(f'{title}\n{len(durations)} actions, median {median:g} (red)', fontsize='medium', parse_math=False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.grid(alpha=0.3, axis='y')

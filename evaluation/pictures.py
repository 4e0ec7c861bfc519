"""Pictures of the error by length of actions, and of alignments."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from evaluation.alignment_metrics import nearest_frames, true_alignment
from evaluation.baselines import BASELINES, LABEL_FREE
from evaluation.progress_metrics import LengthErrors, errors_by_length, length_bins
from losses.distances import euclidean_distances
from utils.figures import new_figure, save_figure
from utils.tensorops import Action
from utils.text import short_name

PAIRS_DRAWN = 3
NAME_LETTERS = 40  # of a recording, at an axis of its matrix
MATRIX_SIDE = 600  # frames of a recording drawn at most, evenly spread: about the pixels that a matrix gets
BASELINE_COLORS = ('0.6', 'tab:blue', 'tab:cyan', 'tab:green', 'tab:orange', 'tab:purple', 'tab:pink')  # in order


def draw_error_by_length(tasks: Mapping[str, LengthErrors], path: Path) -> None:
    """Draw the mean absolute error of head and baselines by length of actions, mean over tasks.

    Args:
        tasks: task -> errors over its test recordings; at least one action.
        path: PNG to write.
    """
    bins = length_bins(list(tasks.values()))
    # Geometric middles, because each bin is twice as wide as the previous one and the axis is logarithmic.
    middles = [math.sqrt(shortest * longest) for shortest, longest in bins]
    figure = new_figure(max(9, len(bins)), 5.4)  # an inch for the label of a bin
    axes = figure.subplots()
    for name, color in zip(BASELINES, BASELINE_COLORS, strict=True):
        # Dashed baselines know the step, which the head does not: they show what this knowledge is worth.
        told = name not in LABEL_FREE
        axes.plot(middles, errors_by_length(list(tasks.values()), name, list(bins)), color=color, marker='o',
                  markersize=4, linestyle='--' if told else '-',
                  label=name.replace('_', ' ') + (' (given the step)' if told else ''))
    # Drawn last, so that no baseline hides the head.
    axes.plot(middles, errors_by_length(list(tasks.values()), 'head', list(bins)), color='tab:red', marker='o',
              linewidth=3, label='progress head')
    axes.set_xscale('log', base=2)
    labels = [f'{shortest}-{longest}' if shortest < longest else f'{shortest}' for shortest, longest in bins]
    axes.set_xticks(middles, [f'{label}\nn = {count}' for label, count in zip(labels, bins.values(), strict=True)])
    axes.minorticks_off()
    axes.set(ylim=(0, None), xlabel='length of the action (frames); n: number of actions', ylabel='mean absolute error',
             title='Error of the progress within actions of test recordings, mean over tasks')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside lower center', ncols=3, fontsize=8)
    save_figure(figure, path)


def draw_alignments(task: str, recordings: Sequence[tuple[str, Tensor, Sequence[Action]]], path: Path) -> None:
    """Draw the alignment matrices of a few pairs of recordings; draw nothing if there is no pair.

    A matrix shows the distance of each frame of a recording to each frame of the other recording. Dots mark the nearest
    neighbor of each frame, and the true alignment of the frames of common actions (:func:`true_alignment`).

    Args:
        task: name of the task, for the title.
        recordings: handle, embeddings (T, E), and actions of each recording.
        path: PNG to write.
    """
    pairs = list(itertools.combinations(recordings, 2))[:PAIRS_DRAWN]
    if not pairs:
        return
    figure = new_figure(4.3 * len(pairs) + 0.4, 5.2)
    figure.suptitle(f'{task}\ndistances between the frames of test recordings', parse_math=False)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (one, other) in zip(panels, pairs, strict=True):
        _draw_alignment(axes, one, other)
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=2, markerscale=2)
    save_figure(figure, path)


def _draw_alignment(axes: Axes, one: tuple[str, Tensor, Sequence[Action]],
                    other: tuple[str, Tensor, Sequence[Action]]) -> None:
    """Draw the alignment matrix of two (handle, embeddings, actions); the first recording's frames run upwards."""
    # Rows of the matrix are frames of the first recording, columns frames of the other one.
    rows, columns = (_drawn_frames(len(embedding)) for _, embedding, _ in (one, other))
    distances = euclidean_distances(one[1][rows], other[1][columns]).cpu().numpy()
    # Cells extend half a frame to both sides of their frame.
    edges = [(-0.5, len(embedding) - 0.5) for _, embedding, _ in (other, one)]  # of x, then y
    # Large distances are gray, not black, so that the dots are visible everywhere.
    axes.imshow(distances, cmap='Greys', vmin=0, vmax=1.6 * (distances.max() or 1), origin='lower', aspect='auto',
                interpolation='nearest', extent=(*edges[0], *edges[1]))
    frames, partners = true_alignment(one[2], other[2], len(one[1]))
    axes.plot(partners, frames, '.', color='tab:blue', markersize=4, label='where the frame belongs')
    # Neighbors are searched among all frames of the other recording, not only among those drawn.
    axes.plot(nearest_frames(one[1][rows], other[1]), rows, '.', color='tab:red', markersize=3,
              label='nearest neighbor')
    axes.set(xlim=edges[0], ylim=edges[1])
    axes.set_xlabel(f'frame of {short_name(other[0], NAME_LETTERS)}', parse_math=False)
    axes.set_ylabel(f'frame of {short_name(one[0], NAME_LETTERS)}', parse_math=False)


def _drawn_frames(num_frames: int) -> np.ndarray:
    """Return the indices of the drawn frames of a recording, evenly spaced: (min(num_frames, limit),)."""
    count = min(num_frames, MATRIX_SIDE)
    return (np.arange(count) * num_frames) // count

"""Picture of an alignment: matrix of distances with the matches, and the steps of both recordings as ribbons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from alignment.labels import Labels
from alignment.matching import FrameMatches
from losses.distances import euclidean_distances
from utils.figures import new_figure, save_figure
from utils.ribbons import Span, add_legend, draw_ribbons, label_colors, label_spans, legend_height
from utils.text import short_name

MATRIX_SIDE = 600  # frames of a recording drawn at most, evenly spread: about the pixels that a matrix gets
NAME_LETTERS = 75  # of both names on one line of the title, and of a longer name at all
SIDE, RIBBON, GAP = 6.0, 0.28, 0.9  # inches: of the matrix, of a ribbon, for labels of axes


@dataclass(frozen=True)
class DrawnAlignment:
    """An alignment to draw.

    Attributes:
        reference: name of the reference.
        name: name of the recording.
        embeddings: (S, E) of the reference and (T, E) of the recording.
        matches: matches of the recording's frames.
        reference_labels: labels of the reference's frames; None if it is not annotated.
        ribbons: title -> labels of the recording's frames: carried over, and given if they are known.
        background: labels that are drawn as gaps.
    """

    reference: str
    name: str
    embeddings: tuple[Tensor, Tensor]
    matches: FrameMatches
    reference_labels: Labels | None
    ribbons: dict[str, Labels]
    background: Sequence[str] = ()


def draw_alignment(drawn: DrawnAlignment, path: Path) -> None:
    """Draw the matrix of distances; the reference's frames run to the right, the recording's upwards.

    Args:
        drawn: the alignment.
        path: PNG to write.
    """
    spans = {title: _steps(labels, drawn.background) for title, labels in drawn.ribbons.items()}
    top = {'steps': _steps(drawn.reference_labels, drawn.background)} if drawn.reference_labels else {}
    colors = label_colors(span.label for found in (*top.values(), *spans.values()) for span in found)
    # A ribbon lane without ribbons keeps a little room, so that the layout is always the same.
    across, up = RIBBON * max(0.1, len(spans)), RIBBON * max(0.1, len(top))
    figure = new_figure(SIDE + across + 2 * GAP, SIDE + up + GAP + legend_height(len(colors) + 2))
    name, reference = (short_name(text, NAME_LETTERS) for text in (drawn.name, drawn.reference))
    between = '\n' if len(name + reference) > NAME_LETTERS else ' '
    figure.suptitle(f'{name}{between}aligned to {reference}', parse_math=False)
    grid = figure.add_gridspec(2, 2, width_ratios=(across, SIDE), height_ratios=(up, SIDE))
    matrix = figure.add_subplot(grid[1, 1])
    above, left = figure.add_subplot(grid[0, 1], sharex=matrix), figure.add_subplot(grid[1, 0], sharey=matrix)
    _draw_matrix(figure, matrix, drawn)
    if top:
        draw_ribbons(above, top, colors)
    if spans:
        draw_ribbons(left, spans, colors, upright=True)
    for axes, side in ((above, 'labelbottom'), (left, 'labelleft')):
        axes.tick_params(**{side: bool(axes is left)}, length=0)
        axes.spines[:].set_visible(False)
    matrix.tick_params(labelleft=False)
    left.set_ylabel(f'frame of {name}', parse_math=False)
    add_legend(figure, matrix, colors)
    save_figure(figure, path)


def _steps(labels: Labels, background: Sequence[str]) -> list[Span]:
    return [span for span in label_spans(labels) if span.label is not None and span.label not in background]


def _draw_matrix(figure: Figure, axes: Axes, drawn: DrawnAlignment) -> None:
    """Draw distances in gray, matches as dots in the color of their confidence, and bands at unmatched frames."""
    reference, embedding = drawn.embeddings
    rows, columns = _drawn_frames(len(embedding)), _drawn_frames(len(reference))
    distances = euclidean_distances(embedding[rows], reference[columns]).cpu().numpy()
    edges = (-0.5, len(reference) - 0.5, -0.5, len(embedding) - 0.5)  # cells extend half a frame to both sides
    # Large distances are gray, not black, so that the dots are visible everywhere.
    axes.imshow(distances, cmap='Greys', vmin=0, vmax=1.6 * (distances.max() or 1), origin='lower', aspect='auto',
                interpolation='nearest', extent=edges)
    matches = drawn.matches
    for number, (start, end) in enumerate(_runs(~matches.matched)):
        axes.axhspan(start - 0.5, end - 0.5, color='tab:red', alpha=0.25, linewidth=0,
                     label=None if number else 'unmatched')
    own = np.flatnonzero(matches.matched)
    dots = axes.scatter(matches.frames[own], own, s=7, c=matches.confidence[own], cmap='viridis', vmin=0, vmax=1,
                        label='match')
    figure.colorbar(dots, ax=axes, label='confidence', shrink=0.6)
    axes.set(xlim=edges[:2], ylim=edges[2:])
    axes.set_xlabel(f'frame of {short_name(drawn.reference, NAME_LETTERS)}', parse_math=False)


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return start and end (exclusive) of each run of True."""
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def _drawn_frames(num_frames: int) -> Sequence[int]:
    """Return the indices of the drawn frames of a recording, evenly spaced: (min(num_frames, limit),)."""
    count = min(num_frames, MATRIX_SIDE)
    return (np.arange(count) * num_frames) // count

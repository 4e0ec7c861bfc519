"""Loss curves of a run as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.files import atomic_path

Curves = Mapping[str, Sequence[float]]
NOTHING_TO_DRAW = 'no recordings'
PICTURE_DPI = 150
MARK_STYLES = ('-', '-.', ':', '--')
LARGEST_RATIO = 20  # between curves that share a linear axis
DUAL_LOSS_PICTURE = 'dual_loss_comparison.png'


def new_figure(width: float, height: float) -> Figure:
    """Return a figure that no window or global state knows of; sizes in inches."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=PICTURE_DPI)


def plot_dual_losses(train_losses: Curves, val_losses: Curves, output_folder: Path | str, *,
                     marked: Mapping[str, int] | None = None) -> None:
    """Draw total, alignment and weighted progress loss of training and validation side by side.

    The red curve is total minus alignment, so that blue = green + red at every epoch; an empty 'progress_loss' list
    draws none.

    Args:
        train_losses: 'total_loss', 'alignment_loss', 'progress_loss' (unweighted), one value per epoch.
        val_losses: the same keys.
        output_folder: folder that takes dual_loss_comparison.png.
        marked: what to mark -> its epoch, counted from 1.
    """
    figure = new_figure(14, 5)
    for axes, losses, title in zip(figure.subplots(1, 2), (train_losses, val_losses),
                                   ('Training losses', 'Validation losses'), strict=True):
        total, alignment = losses.get('total_loss', ()), losses.get('alignment_loss', ())
        curves = [('Total (combined)', total, 'tab:blue', '-'), ('Alignment only', alignment, 'tab:green', '--')]
        if len(losses.get('progress_loss', ())):
            weighted = [whole - part for whole, part in zip(total, alignment, strict=True)]
            curves.append(('Progress (weighted)', weighted, 'tab:red', ':'))
        if total:
            _mark_epochs(axes, marked or {})
        _draw_curves(axes, curves, title)
    save_figure(figure, Path(output_folder) / DUAL_LOSS_PICTURE)


def _mark_epochs(axes: Axes, marked: Mapping[str, int]) -> None:
    """Draw a vertical line at each marked epoch; names of the same epoch share it."""
    for epoch, style in zip(dict.fromkeys(marked.values()), MARK_STYLES, strict=False):
        names = ', '.join(name for name, other in marked.items() if other == epoch)
        axes.axvline(epoch, color='gray', linestyle=style, linewidth=1.2, label=f'{names} (epoch {epoch})')


def plot_epoch_losses(losses: Curves, title: str, path: Path | str) -> None:
    """Draw each raw loss over the epochs in a panel of its own, since their scales differ.

    Args:
        losses: name -> one value per epoch; empty ones are left out.
        title: of the picture.
        path: PNG to write.
    """
    drawn = {name: values for name, values in losses.items() if len(values)} or {'total_loss': ()}
    figure = new_figure(5 * len(drawn), 4)
    figure.suptitle(title)
    for axes, (name, values) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        _draw_curves(axes, [(name, values, 'tab:blue', '-')], name.replace('_', ' '))
    save_figure(figure, path)


def _scales_differ(curves: Sequence[tuple[str, Sequence[float], str, str]]) -> bool:
    """Say whether on a linear scale a curve would lie on the axis, all of it above 0."""
    drawn = [values for _, values, _, _ in curves if len(values)]
    tops = [max(values) for values in drawn]
    return min(map(min, drawn)) > 0 and max(tops) > LARGEST_RATIO * min(tops)


def _draw_curves(axes: Axes, curves: Sequence[tuple[str, Sequence[float], str, str]], title: str) -> None:
    """Draw (label, values, colour, style) curves over the epochs, counted from 1."""
    for label, values, colour, style in curves:
        # One epoch is a point that a line alone would not show.
        axes.plot(range(1, len(values) + 1), values, style, color=colour, label=label,
                  marker='o' if len(values) == 1 else None)
    axes.set_title(title)
    if not any(len(values) for _, values, _, _ in curves):
        axes.text(0.5, 0.5, NOTHING_TO_DRAW, ha='center', va='center', transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.set(xlabel='Epoch', ylabel='Loss', yscale='log' if _scales_differ(curves) else 'linear')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()

"""Plots of the loss curves of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.figures import new_figure, save_figure

if TYPE_CHECKING:  # matplotlib is slow to import, so training imports it when it draws
    from matplotlib.axes import Axes

Curves = Mapping[str, Sequence[float]]
NOTHING_TO_DRAW = 'no recordings'
MARK_STYLES = ('-', '-.', ':', '--')
LARGEST_RATIO = 20  # between the maxima of curves on a linear axis; otherwise it is logarithmic
DUAL_LOSS_PICTURE = 'dual_loss_comparison.png'


def plot_dual_losses(train_losses: Curves, val_losses: Curves, output_folder: Path | str, *,
                     marked: Mapping[str, int] | None = None) -> None:
    """Plot total, alignment and weighted progress loss of training and validation side by side.

    The red curve is total minus alignment, so that blue = green + red in every epoch. If 'progress_loss' is empty,
    there is no red curve.

    Args:
        train_losses: 'total_loss', 'alignment_loss', 'progress_loss' (unweighted), one value per epoch.
        val_losses: the same keys.
        output_folder: folder of dual_loss_comparison.png.
        marked: what to mark -> its epoch, counted from 1.
    """
    figure = new_figure(14, 5)
    for axes, losses, title in zip(figure.subplots(1, 2), (train_losses, val_losses),
                                   ('Training losses', 'Validation losses'), strict=True):
        total, alignment = losses.get('total_loss', ()), losses.get('alignment_loss', ())
        curves = [('Total (combined)', total, 'tab:blue', '-'), ('Alignment only', alignment, 'tab:green', '--')]
        if len(losses.get('progress_loss', ())):
            # This is lambda * progress at each epoch, whatever lambda was there.
            weighted = [whole - part for whole, part in zip(total, alignment, strict=True)]
            curves.append(('Progress (weighted)', weighted, 'tab:red', ':'))
        if total:
            _mark_epochs(axes, marked or {})
        _draw_curves(axes, curves, title)
    save_figure(figure, Path(output_folder) / DUAL_LOSS_PICTURE)


def _mark_epochs(axes: 'Axes', marked: Mapping[str, int]) -> None:
    """Draw a vertical line at each marked epoch; names of the same epoch share it."""
    for epoch, style in zip(dict.fromkeys(marked.values()), MARK_STYLES, strict=False):
        names = ', '.join(name for name, other in marked.items() if other == epoch)
        axes.axvline(epoch, color='gray', linestyle=style, linewidth=1.2, label=f'{names} (epoch {epoch})')


def plot_epoch_losses(losses: Curves, title: str, path: Path | str) -> None:
    """Plot each raw loss over the epochs in a separate panel, because their scales differ.

    Args:
        losses: name -> one value per epoch; losses without values are not plotted.
        title: title of the figure.
        path: path of the PNG.
    """
    # A figure needs a panel, in which NOTHING_TO_DRAW is then written.
    drawn = {name: values for name, values in losses.items() if len(values)} or {'total_loss': ()}
    figure = new_figure(5 * len(drawn), 4)
    figure.suptitle(title)
    for axes, (name, values) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        _draw_curves(axes, [(name, values, 'tab:blue', '-')], name.replace('_', ' '))
    save_figure(figure, path)


def _scales_differ(curves: Sequence[tuple[str, Sequence[float], str, str]]) -> bool:
    """Return True if a curve would be indistinguishable from the axis on a linear scale, and all values are > 0."""
    drawn = [values for _, values, _, _ in curves if len(values)]
    tops = [max(values) for values in drawn]
    return min(map(min, drawn)) > 0 and max(tops) > LARGEST_RATIO * min(tops)


def _draw_curves(axes: 'Axes', curves: Sequence[tuple[str, Sequence[float], str, str]], title: str) -> None:
    """Plot (label, values, color, style) curves over the epochs, counted from 1."""
    from matplotlib.ticker import MaxNLocator

    for label, values, color, style in curves:
        # A line through a single point is invisible, so mark it.
        axes.plot(range(1, len(values) + 1), values, style, color=color, label=label,
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

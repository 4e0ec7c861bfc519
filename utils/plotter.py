"""Plots of the loss curves of a run, and how every picture is written."""

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.files import atomic_path
from utils.logging import get_logger

if TYPE_CHECKING:  # matplotlib is slow to import, so training imports it when it draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG = get_logger(__name__)
MISSING_GLYPH = re.compile(r'Glyph (\d+) .* missing from')  # matplotlib's warning
Curves = Mapping[str, Sequence[float]]
NOTHING_TO_DRAW = 'no recordings'
PICTURE_DPI = 150
MARK_STYLES = ('-', '-.', ':', '--')
LARGEST_RATIO = 20  # between the maxima of curves on a linear axis; otherwise it is logarithmic
DUAL_LOSS_PICTURE = 'dual_loss_comparison.png'


def new_figure(width: float, height: float) -> 'Figure':
    """Return a figure without a window or global state; sizes are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: 'Figure', path: Path | str) -> None:
    """Write a figure as PNG, atomically.

    Letters that matplotlib's own font lacks, such as Chinese ones, are taken from an installed font that has them.
    Otherwise they are drawn as boxes, and a warning names them.
    """
    from matplotlib.text import Text

    with atomic_path(path) as temporary:
        missing = _write(figure, temporary)
        if missing and (fonts := _fonts_with(missing)):
            for text in figure.findobj(Text):
                text.set_fontfamily([*text.get_fontfamily(), *fonts])
            missing = _write(figure, temporary)
    if missing:
        LOG.warning('%s: no installed font has the letters %s, which are drawn as boxes; install a font that has them',
                    path, ' '.join(sorted(missing)))


def _write(figure: 'Figure', path: Path) -> set[str]:
    """Write a figure, and return the letters that its fonts lack."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        figure.savefig(path, dpi=PICTURE_DPI)
    found = {warning: MISSING_GLYPH.match(str(warning.message)) for warning in caught}
    for warning in (warning for warning, glyph in found.items() if glyph is None):
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    letters = {chr(int(glyph[1])) for glyph in found.values() if glyph}
    return {letter for letter in letters if unicodedata.category(letter) != 'Cc'}  # tabs have no picture


def _fonts_with(letters: set[str]) -> list[str]:
    """Return names of installed fonts that together have as many of the letters as possible."""
    from matplotlib.font_manager import fontManager, get_font

    wanted, names = {ord(letter) for letter in letters}, []
    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        # The last resort has a box for every letter.
        if not wanted or font.name.startswith('Last Resort') or font.style != 'normal':
            continue
        if found := wanted & get_font(font.fname).get_charmap().keys():
            wanted -= found
            names.append(font.name)
    return names


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

"""Figures without a window, written atomically and with all letters that the installed fonts have."""

import re
import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from utils.files import atomic_path
from utils.fonts import fonts_with
from utils.logging import get_logger

if TYPE_CHECKING:  # matplotlib is slow to import, so training imports it when it draws
    from matplotlib.figure import Figure

LOG = get_logger(__name__)
MISSING_GLYPH = re.compile(r'Glyph (\d+) .* missing from')  # matplotlib's warning
PICTURE_DPI = 150


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
        if missing and (fonts := [font.name for font in fonts_with(missing)]):
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

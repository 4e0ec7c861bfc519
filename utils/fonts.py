"""Fonts for the letters of a text: matplotlib's own, or an installed one that has what its own lacks."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from utils.logging import get_logger

if TYPE_CHECKING:  # matplotlib and Pillow are slow to import, and most commands draw nothing
    from matplotlib.font_manager import FontEntry
    from PIL.ImageFont import FreeTypeFont

LOG = get_logger(__name__)


def fonts_with(letters: Collection[str]) -> list['FontEntry']:
    """Return installed fonts that together have as many of the letters as possible, the one with most of them first."""
    from matplotlib.font_manager import fontManager

    wanted, found = {ord(letter) for letter in letters}, []
    # The last resort has a box for every letter.
    fonts = {font: _letters_of(font.fname) & wanted for font in fontManager.ttflist
             if font.style == 'normal' and not font.name.startswith('Last Resort')}
    # By name among equal fonts, so that every run takes the same.
    for font in sorted(fonts, key=lambda font: (-len(fonts[font]), font.name, font.fname)):
        if new := fonts[font] & wanted:
            wanted -= new
            found.append(font)
    return found


class Lettering:
    """Fonts of one size, for texts that are drawn on pictures of videos.

    Args:
        size: height of a letter in pixels.
    """

    def __init__(self, size: int) -> None:
        from matplotlib import get_data_path

        own = str(Path(get_data_path()) / 'fonts/ttf/DejaVuSans.ttf')
        self._size, self._own_letters = size, _letters_of(own)
        # What the own font lacks of a text -> font for that text.
        self._fonts = {frozenset(): self._load(own)}

    def font(self, text: str) -> 'FreeTypeFont':
        """Return a font that has all letters of a text, or else as many as possible; a warning names the others."""
        lacking = frozenset(letter for letter in text if ord(letter) not in self._own_letters)
        if lacking not in self._fonts:
            best = next(iter(fonts_with(lacking)), None)
            missing = sorted(letter for letter in lacking if best is None or ord(letter) not in _letters_of(best.fname))
            if missing:
                LOG.warning('no installed font has all letters of %r: %s are drawn as boxes; install a font that has '
                            'them', text, ' '.join(missing))
            self._fonts[lacking] = self._load(best.fname) if best else self._fonts[frozenset()]
        return self._fonts[lacking]

    def _load(self, path: str) -> 'FreeTypeFont':
        from PIL import ImageFont

        return ImageFont.truetype(path, self._size)


def _letters_of(path: str) -> set[int]:
    """Return the code points of the letters that a font file has."""
    from matplotlib.font_manager import get_font

    return set(get_font(path).get_charmap())

"""Text for terminals and logs: one line, and no character that controls the terminal."""

import unicodedata

# Control characters, surrogates (bytes of a name that is not UTF-8), line and paragraph separators.
UNSHOWN = ('Cc', 'Cs', 'Zl', 'Zp')
# They reverse the order of the letters that follow, so that a line reads differently than it is.
DIRECTIONS = frozenset('\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069')


def printable(text: str, keep: str = '') -> str:
    r"""Replace characters that would control a terminal by their escapes, such as ``\x1b``.

    Args:
        text: any text, for example a label from a file.
        keep: characters that are kept.
    """
    if text.isascii() and text.isprintable():
        return text
    return ''.join(letter if letter in keep or not _controls(letter) else
                   letter.encode('unicode_escape', 'surrogatepass').decode('ascii') for letter in text)


def _controls(letter: str) -> bool:
    return letter in DIRECTIONS or unicodedata.category(letter) in UNSHOWN


def one_line(text: str) -> str:
    """Return a text on one line, with single spaces, as :func:`printable` shows it."""
    return printable(' '.join(text.split()))


def short_text(text: str, limit: int = 100) -> str:
    """Return a text of bounded length for a message; of a longer one, its end is left out."""
    return text if len(text) <= limit else f'{text[:limit - 3]}...'


def short_name(name: str, limit: int) -> str:
    """Return a name from the data as a picture shows it: printable, and of bounded length."""
    return short_text(printable(name), limit)

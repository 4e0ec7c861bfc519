"""Text from outside: what can be written again, and objects that say everything once."""

import unicodedata
from collections.abc import Callable

from utils.errors import UserError


def is_writable(text: str) -> bool:
    """Say whether a text can be written as UTF-8: JSON can hold half characters, which cannot."""
    return text.isascii() or all(unicodedata.category(letter) != 'Cs' for letter in text)


def unique_keys(source: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    """Return an ``object_pairs_hook`` for json, which would let the second of two keys with one name silently win.

    Args:
        source: of the text, for the message of the UserError that a key raises which stands twice.
    """
    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f'{source}: {twice!r:.60} stands twice in one object; expected once: rename or remove one')
        return content
    return build

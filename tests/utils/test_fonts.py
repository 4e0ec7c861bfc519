"""Fonts that have the letters of a text."""

from pathlib import Path

import pytest

from utils.fonts import Lettering, fonts_with

IN_STIX, IN_NONE = '\u231a', '\U000f1234'  # a font of matplotlib's has the watch, no font has a private letter


@pytest.mark.parametrize(('text', 'expected'), [
    ('', 'DejaVuSans'), ('stir milk …', 'DejaVuSans'), (f'{IN_STIX} 5 s', None), (f'a {IN_NONE}', 'DejaVuSans')])
def test_a_text_has_a_font_of_the_size_that_has_its_letters(text, expected):
    font = Lettering(17).font(text)
    assert font.size == 17
    found = Path(font.path).stem
    assert found == expected if expected else found != 'DejaVuSans'


def test_letters_that_no_font_has_are_named_once(caplog):
    lettering = Lettering(12)
    for text in (f'a {IN_NONE}', f'b {IN_NONE}', f'{IN_STIX}'):
        lettering.font(text)
    message, = caplog.messages
    assert IN_NONE in message and IN_STIX not in message and 'install a font' in message


def test_a_letter_of_another_font_is_no_box():
    lettering = Lettering(30)
    own, other = (lettering.font(text).getmask(IN_STIX) for text in ('abc', IN_STIX))
    box = lettering.font('abc').getmask(IN_NONE)
    assert bytes(own) == bytes(box) != bytes(other)


def test_the_font_with_most_letters_comes_first():
    assert fonts_with('') == fonts_with(IN_NONE) == []
    first = fonts_with(IN_STIX + IN_NONE)[0]
    assert first == fonts_with(IN_STIX)[0]

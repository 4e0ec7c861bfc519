"""How pictures are written."""

import logging

from utils.figures import new_figure, save_figure


def test_letters_that_the_font_lacks_come_from_another_one_or_are_named(tmp_path, caplog, monkeypatch, recwarn):
    monkeypatch.setattr(logging.getLogger('progress'), 'propagate', True)
    for name, letters in (('found', '\u231a'), ('missing', '\u231a \U000f1234\tx')):  # STIX, of matplotlib, has U+231A
        figure = new_figure(2, 1)
        figure.subplots().set_title(letters)
        save_figure(figure, tmp_path / f'{name}.png')
    assert (tmp_path / 'found.png').stat().st_size > 0 and not recwarn.list
    assert {record.message for record in caplog.records} == {
        f'{tmp_path}/missing.png: no installed font has the letters \U000f1234, which are drawn as boxes; install a '
        'font that has them'}

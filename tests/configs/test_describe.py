"""The page of settings: complete, and the same as the file in docs/."""

from pathlib import Path

import pytest

from configs import describe, generic_config
from configs.generic_config import CONFIG
from configs.validation import flatten

PAGE = Path(__file__).resolve().parents[2] / 'docs/configuration.md'
SOURCE = '''
CONFIG = EasyDict()

############################
## First
CONFIG.A = 1  # what A is, >= 1

# why B
# has this default
CONFIG.B = None
## Second
CONFIG.C = EasyDict({  # all of them
    'd': [1,
          2],  # beside its end
    # above
    'e': {
        'f': 'x # no comment',  # beside
    },
})
'''


def test_the_page_in_docs_is_up_to_date():
    assert PAGE.read_text() == describe.describe(), f'a default or its comment has changed: run {describe.COMMAND}'


def test_every_setting_is_there_once_and_says_what_it_does():
    settings = [found for _, found in describe.read_settings(Path(generic_config.__file__).read_text())]
    assert [found.key for found in settings if not found.is_section] == list(flatten(CONFIG))
    assert [found.key for found in settings if not (found.comment or found.is_section)] == []


def test_comments_beside_and_above_are_read():
    assert [(heading, *found) for heading, found in describe.read_settings(SOURCE)] == [
        ('First', 'A', 'what A is, >= 1', False), ('First', 'B', 'why B has this default', False),
        ('Second', 'C', 'all of them', True), ('Second', 'C.d', 'beside its end', False),
        ('Second', 'C.e', 'above', True), ('Second', 'C.e.f', 'beside', False)]


@pytest.mark.parametrize(('key', 'words'), [
    ('NUM_EPOCHS', 'a whole number of at least 1'), ('CLIP_GRAD_NORM', 'a number above 0'), ('DEBUG', 'true or false'),
    ('ARCHITECTURE.num_heads', 'a whole number from 1 to 2^20, or null'), ('VERSION', 'text or a whole number'),
    ('PROGRESS_LOSS.head_learning_rate', 'a number above 0, at most 1e6, or null')])
def test_what_a_setting_takes(key, words):
    assert describe.accepted(key, flatten(CONFIG)[key]) == words


@pytest.mark.parametrize(('key', 'option'), [
    ('NUM_EPOCHS', '--epochs'), ('ARCHITECTURE.MCN', '--mcn'), ('LOSS_TYPE.GTCC', '--gtcc'), ('SKIP_RATE', '')])
def test_the_option_of_a_setting(key, option):
    assert describe.option_of(key) == option


def test_the_command_prints_or_writes_the_page(tmp_path, capsys):
    assert describe.main([]) == 0
    assert capsys.readouterr().out == describe.describe()
    assert describe.main(['-o', str(tmp_path / 'page.md')]) == 0
    assert (tmp_path / 'page.md').read_text() == describe.describe()

"""A setting is one entry of the table; everything else is derived from it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.choices import DATASETS, ENCODERS, LOSSES
from configs.generic_config import CONFIG
from configs.options import all_options, name_options, training_parser
from configs.settings import SECTIONS, SETTINGS, TABLE
from configs.stored import changed_settings, complete_config
from configs.validation import check_value, flatten
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ENTRY = "        Setting('NEW.one', 1, at_least(1), 'what it does', option('--new_one'), changes_numbers=False),\n"
USE = '''
from configs.describe import describe
from configs.entry_config import describe_config, parse_training_arguments
from configs.generic_config import CONFIG
from configs.stored import changed_settings
assert CONFIG.NEW.one == 1
config, arguments = parse_training_arguments(['1', '--tcc', '--ego', '--naive', '--new_one', '3'], 'train')
assert config.NEW.one == 3 and changed_settings({'NEW': {'one': 1}}, config) != ['NEW.one']
lines = [line.split() for line in describe_config(config, arguments).splitlines()]
assert ['NEW.one', '3', '--new_one'] in lines
assert '| `NEW.one` * | `1` | a whole number of at least 1 | what it does | `--new_one` |' in describe()
parse_training_arguments(['1', '--tcc', '--ego', '--naive', '--new_one', '0'], 'train')
'''


def test_new_setting_needs_one_line_in_one_file(tmp_path):
    for folder in ('configs', 'utils'):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns('__pycache__'))
    table = tmp_path / 'configs/settings.py'
    heading = "    'Data': (\n"
    table.write_text(table.read_text().replace(heading, heading + ENTRY))
    ended = subprocess.run([sys.executable, '-c', USE], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.stderr.strip().endswith('--new_one: NEW.one is 0, expected a whole number of at least 1')


def test_names_options_and_sections_are_unique_and_exist():
    assert len(SETTINGS) == sum(map(len, TABLE.values())) and list(SETTINGS) == list(flatten(CONFIG))
    options = [option for _, option in all_options()]
    flags = [flag for option in options for flag in option.flags]
    assert len(flags) == len(set(flags)) and all(option.name for option in options)
    assert {key for option in options for key in (*option.takes, *option.also)} <= set(SETTINGS)
    assert all(any(name.startswith(f'{section}.') for name in SETTINGS) for section in SECTIONS)
    assert all(setting.help for setting in SETTINGS.values())


def test_choices_are_complete():
    assert list(CONFIG.LOSS_TYPE) == list(LOSSES)
    assert SETTINGS['BASEARCH.ARCHITECTURE'].kind.choices == tuple(ENCODERS)
    assert set(CONFIG.BASEARCH) == {'ARCHITECTURE', *(encoder.section for encoder in ENCODERS.values())}
    for dataset in DATASETS.values():
        assert all(check_value(key, value, 'here') == value for key, value in dataset.presets.items())


def test_help_begins_with_the_choices_and_shows_defaults():
    shown = training_parser('train').format_help()
    assert [line for line in shown.splitlines() if line.endswith(':') and not line.startswith(' ')] == [
        'positional arguments:', 'options:', 'alignment loss (one of):', 'encoder (one of):', 'dataset (one of):',
        'what is run:', 'data:', 'network:', 'progress head:', 'optimization:', 'run:']
    text = ' '.join(shown.split())
    assert 'passes over the training recordings (default: 50)' in text and '[--progress_lambda X |' in text


@pytest.mark.parametrize(('message', 'expected'), [
    ('A: wrong; set PROGRESS_LOSS.enabled', 'A: wrong; set PROGRESS_LOSS.enabled (--progress)'),
    ('A: wrong; set SKIP_RATE or NUM_EPOCHS to 2', 'A: wrong; set SKIP_RATE or NUM_EPOCHS (--epochs) to 2'),
    ('NUM_EPOCHS: wrong', 'NUM_EPOCHS: wrong')])
def test_messages_name_the_options_of_settings(message, expected):
    assert name_options(message) == expected


def test_stored_configuration_is_completed_and_checked():
    config = complete_config({'NUM_EPOCHS': 3, 'ARCHITECTURE': {'MCN': True, 'other': 1}}, 'file')
    assert changed_settings(CONFIG, config) == ['ARCHITECTURE.MCN', 'ARCHITECTURE.other', 'NUM_EPOCHS']
    assert changed_settings(CONFIG, complete_config({'WORKERS': 2}, 'file')) == []
    assert CONFIG.NUM_EPOCHS == 50  # not modified
    for stored, message in (({'NUM_EPOCHS': 0}, 'file: NUM_EPOCHS is 0'), ({'ARCHITECTURE': 3}, 'expected a section')):
        with pytest.raises(UserError, match=message):
            complete_config(stored, 'file')

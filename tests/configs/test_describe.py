"""The generated page of settings equals the file in docs/."""

from pathlib import Path

import pytest

from configs import describe
from configs.setting import Kind, Setting, option
from configs.settings import SETTINGS

PAGE = Path(__file__).resolve().parents[2] / 'docs/configuration.md'


def row_of(name, page):
    return next(line for line in page.splitlines() if line.startswith(f'| `{name}`'))


def test_page_in_docs_is_up_to_date_and_complete():
    page = describe.describe()
    assert PAGE.read_text() == page, f'the table of settings has changed: run {describe.COMMAND}'
    names = [line.split('`')[1] for line in page.splitlines() if line.startswith('| `')]
    assert [name for name in names if not name.endswith('.*')] == list(SETTINGS)


@pytest.mark.parametrize(('name', 'row'), [
    ('ARCHITECTURE.num_heads', '| `ARCHITECTURE.num_heads` | `null` | a whole number from 1 to 4096, or null | '
                               'heads of the network; null: one per task |  |'),
    ('WORKERS', '| `WORKERS` * | `0` | a whole number from 0 to 256 | loader processes that read ahead; 0 reads one '
                'batch ahead in a thread | `--workers` |')])
def test_row_of_a_setting(name, row):
    assert row_of(name, describe.describe()) == row


def test_row_lists_the_options_that_set_it():
    page = describe.describe()
    for name, options in {'LOSS_TYPE.GTCC': '`--gtcc`', 'PROGRESS_LOSS.coefficient': '`--progress_lambda`',
                          'PROGRESS_LOSS.lambda_curriculum.start': '`--progress_curriculum`', 'SKIP_RATE': ''}.items():
        assert row_of(name, page).endswith(f'| {options} |')


def test_new_entry_of_the_table_is_on_the_page(monkeypatch):
    setting = Setting('A.b', 1, Kind('x|y', (int,)), 'what b does', option('--b'))
    monkeypatch.setattr(describe, 'TABLE', {'New': (setting,)})
    monkeypatch.setattr(describe, 'SECTIONS', {'A': 'all of them'})
    assert describe.describe().endswith('## New\n\n' + '\n'.join(describe.COLUMNS) + '\n| `A.*` | | | all of them | |\n'
                                        '| `A.b` | `1` | x\\|y | what b does |  |\n')


def test_command_prints_or_writes_the_page(tmp_path, capsys):
    assert describe.main([]) == 0
    assert capsys.readouterr().out == describe.describe()
    assert describe.main(['-o', str(tmp_path / 'page.md')]) == 0
    assert (tmp_path / 'page.md').read_text() == describe.describe()

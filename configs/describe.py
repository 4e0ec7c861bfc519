"""Write docs/configuration.md from the table of settings: python -m configs.describe [-o FILE].

A test compares the file in docs/ with the output, so the page is never out of date.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.options import option_names
from configs.setting import Setting
from configs.settings import SECTIONS, TABLE
from utils.command_line import OneLineParser, run_command
from utils.files import atomic_path

COMMAND = 'python -m configs.describe -o docs/configuration.md'
HEAD = f"""# Configuration

Every setting, its default, its values and what it does. `{COMMAND}` writes
this page from the table in `configs/settings.py`: change it there.

- `--set KEY=VALUE` sets one key, by the dotted name below. The value is JSON; anything else is read as a string.
- `--config FILE` takes a JSON file with any part of these, nested: `{{"PROGRESS_LOSS": {{"hidden_dim": 32}}}}`.
- Settings of a loss, encoder or head that a run does not use have no effect; training warns of those that are given.
- The last column names the options of a setting.
- The order: `--set`, then options, then `--config`, then the settings published for a dataset, then the defaults.
- `--print_config` shows every value of a run and its source. A run stores them as `config.json`.
- `--resume` requires the settings of the first call, except those marked *.

`null` is JSON for None in Python: the program fills in a key with this default, or leaves it open.
"""
COLUMNS = ('| key | default | values | what it does | option |', '|---|---|---|---|---|')


def accepted(setting: Setting) -> str:
    """Describe the accepted values of a setting in words."""
    return f'{setting.kind.words}, or null' if setting.default is None else setting.kind.words


def _row(setting: Setting) -> str:
    """Return the table row of a setting."""
    free = '' if setting.changes_numbers else ' *'
    cells = [f'`{setting.name}`{free}', f'`{json.dumps(setting.default)}`', accepted(setting), setting.help,
             ', '.join(f'`{name}`' for name in option_names(setting.name))]
    return '| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |'  # an unescaped | ends the cell


def describe() -> str:
    """Return the page as Markdown."""
    lines = [HEAD]
    for heading, settings in TABLE.items():
        lines += [f'## {heading}\n', *COLUMNS]
        described = set()
        for setting in settings:
            section = setting.name.partition('.')[0]
            if section in SECTIONS and section not in described:
                lines.append(f'| `{section}.*` | | | {SECTIONS[section]} | |')
                described.add(section)
            lines.append(_row(setting))
        lines.append('')
    return '\n'.join(lines[:-1]) + '\n'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = OneLineParser(prog='configs.describe', description='Describe every setting, as Markdown.')
    parser.add_argument('-o', '--output', type=Path, metavar='FILE', help='default: standard output')

    def command() -> None:
        output, page = parser.parse_args(argv).output, describe()
        if output is None:
            sys.stdout.write(page)
            return
        with atomic_path(output) as temporary:
            temporary.write_text(page, encoding='utf-8')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

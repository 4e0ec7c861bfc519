"""Writes docs/configuration.md from defaults, comments and checks: python -m configs.describe [-o FILE].

A test compares the file in docs/ with what this prints, so that it cannot go stale.
"""

import ast
import io
import json
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from configs import generic_config
from configs.entry_config import OFF_SWITCHES, SWITCHES, VALUE_FLAGS
from configs.generic_config import CONFIG
from configs.validation import CHECKS, FURTHER_TYPES, OPTIONAL_TYPES, flatten
from utils.command_line import OneLineParser, run_command
from utils.files import atomic_path

COMMAND = 'python -m configs.describe -o docs/configuration.md'
HEAD = f"""# Configuration

Every setting, its default, what it takes and what it does. This page is written from `configs/generic_config.py`, its
comments and its checks, by `{COMMAND}`: change it there.

- `--set KEY=VALUE` sets one key, by the dotted name below. The value is JSON; what is no JSON is taken as text.
- `--config FILE` takes a JSON file with any part of these, nested: `{{"PROGRESS_LOSS": {{"hidden_dim": 32}}}}`.
- An option of its own, where a key has one, stands in the last column.
- The order: `--set`, then options, then `--config`, then the settings published for a dataset, then the defaults.
- `--print_config` shows every value of a run and where it comes from. A run stores them as `config.json`.

`null` is JSON for nothing, `None` in Python: a key with this default is filled in by the program or left open.
"""
TYPE_NAMES = {'bool': 'true or false', 'int': 'a whole number', 'float': 'a number', 'str': 'text', 'list': 'a list'}
# Options whose work is more than to hand a value on.
MORE_OPTIONS = {
    'VERSION': 'VERSION', 'DATASET_NAME': '--dataset', 'BASEARCH.ARCHITECTURE': '--tstack, --naive, ...',
    'PROGRESS_LOSS.coefficient': '--progress_lambda', 'PROGRESS_LOSS.use_gru': '--progress_pooling',
    **{f'PROGRESS_LOSS.lambda_curriculum.{key}': '--progress_curriculum' for key in ('enabled', 'start', 'end')},
    **{f'LOSS_TYPE.{name}': f'--{name.lower()}' for name in CONFIG.LOSS_TYPE},
}


class Documented(NamedTuple):
    """A setting, or a section of them, in the order of the source.

    Attributes:
        key: dotted name.
        comment: what the source says beside and above it.
        is_section: True for a dictionary of settings.
    """

    key: str
    comment: str
    is_section: bool


def read_comments(source: str) -> dict[int, tuple[str, bool]]:
    """Return line number -> its comment and whether nothing else stands in the line."""
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = (token.string.lstrip('#').strip(), not token.line[:token.start[1]].strip())
    return comments


def read_settings(source: str) -> Iterator[tuple[str, Documented]]:
    """Yield the settings that a source assigns to CONFIG, each with the heading it stands under.

    Args:
        source: Python as in ``configs/generic_config.py``: ``CONFIG.KEY = value`` and ``CONFIG.KEY = EasyDict({...})``,
            headings as comments that begin with two hashes.
    """
    comments = read_comments(source)
    headings = {number: line[2:].strip() for number, line in enumerate(source.splitlines(), 1)
                if line.startswith('##') and line.strip('#').strip()}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
            continue
        heading = headings[max(number for number in headings if number < node.lineno)]
        for documented in _settings_below(node.targets[0].attr, node, node.value, comments, set(headings)):
            yield heading, documented


def _settings_below(key: str, start: ast.AST, value: ast.expr, comments: dict[int, tuple[str, bool]],
                    headings: set[int]) -> Iterator[Documented]:
    """Yield a setting, or a section and all that it holds."""
    entries = value.args[0] if isinstance(value, ast.Call) else value
    is_section = isinstance(entries, ast.Dict)
    last = value.lineno if is_section else value.end_lineno
    yield Documented(key, _comment_of(start.lineno, last, comments, headings), is_section)
    if is_section:
        for name, inner in zip(entries.keys, entries.values, strict=True):
            yield from _settings_below(f'{key}.{name.value}', name, inner, comments, headings)


def _comment_of(first: int, last: int, comments: dict[int, tuple[str, bool]], headings: set[int]) -> str:
    """Join the comment beside a setting with the lines of comment right above it."""
    above = []
    while (first := first - 1) in comments and comments[first][1] and first not in headings and comments[first][0]:
        above.insert(0, comments[first][0])
    beside = comments[last][0] if last in comments else ''
    return '. '.join(filter(None, [beside, ' '.join(above)]))


def accepted(key: str, default: object) -> str:
    """Say in words what a setting takes."""
    kinds = OPTIONAL_TYPES[key] if default is None else (type(default), *FURTHER_TYPES.get(key, ()))
    words = CHECKS[key][1] if key in CHECKS else ' or '.join(TYPE_NAMES[kind.__name__] for kind in kinds)
    if kinds == (int,):
        words = words.replace('a number', 'a whole number')
    return f'{words}, or null' if default is None else words


def option_of(key: str) -> str:
    """Return the option of a setting, '' where there is none but --set."""
    options = {**VALUE_FLAGS, **SWITCHES, **OFF_SWITCHES}
    named = {**{key: f'--{option}' for option, key in options.items()}, **MORE_OPTIONS}
    return named.get(key, '')


def describe() -> str:
    """Return the page."""
    defaults = flatten(CONFIG)
    lines, current = [HEAD], None
    for heading, documented in read_settings(Path(generic_config.__file__).read_text(encoding='utf-8')):
        if heading != current:
            lines += [f'\n## {heading}\n', '| key | default | takes | what it does | option |', '|---|---|---|---|---|']
            current = heading
        if documented.is_section:
            if documented.comment:
                lines.append(f'| `{documented.key}.*` | | | {documented.comment} | |')
            continue
        key = documented.key
        option = f'`{option_of(key)}`' if option_of(key) else ''
        cells = [f'`{key}`', f'`{json.dumps(defaults[key])}`', accepted(key, defaults[key]), documented.comment, option]
        lines.append('| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |')
    return '\n'.join(lines) + '\n'


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

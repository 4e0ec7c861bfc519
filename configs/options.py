"""The parser of the training command lines and the settings of each option, derived from the table."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.setting import Option, Setting
from configs.settings import SETTINGS, TABLE
from configs.validation import SET
from utils.command_line import OneLineParser
from utils.errors import UserError

# A run requires one option of each of these groups; --help lists them first.
CHOICES = ('alignment loss', 'encoder', 'dataset')
Layer = tuple[str, dict[str, Any]]  # source of the settings, and the settings by their dotted names


def all_options() -> Iterator[tuple[Setting, Option]]:
    """Yield each option of the table with its setting."""
    for setting in SETTINGS.values():
        for option in setting.options:
            yield setting, option


def option_names(key: str) -> list[str]:
    """Return the names of the options that set a setting to a value chosen by the user."""
    return [option.name for setting, option in all_options() if key in (setting.name, *option.takes)]


def name_options(message: str) -> str:
    """Add the option names to the settings at the end of a message: '; set KEY' -> '; set KEY (--option)'."""
    found, advice = message.rpartition(SET)[::2]
    if not found:
        return message

    def with_options(key: re.Match) -> str:
        # Keys are in capitals up to their first dot; other words of the advice stay.
        names = option_names(key[0])
        return f'{key[0]} ({", ".join(names)})' if names else key[0]

    return found + SET + re.sub(r'\b[A-Z][A-Z_]+(?:\.\w+)*', with_options, advice)


@contextmanager
def naming_options() -> Iterator[None]:
    """Apply :func:`name_options` to the message of a UserError raised inside the block."""
    try:
        yield
    except UserError as error:
        raise UserError(name_options(str(error))) from error


def training_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of ``multitask_train.py`` and the other training programs."""
    parser = OneLineParser(prog=prog, description='Train alignment and, with --progress, a progress head. '
                                                  'Data and results are in $DATASET_PATH, $JSON_DPATH and '
                                                  '$OUTPUT_PATH.')
    for title in CHOICES:
        _add_group(parser.add_argument_group(f'{title} (one of)'), title)
    for heading, settings in TABLE.items():
        group = parser.add_argument_group(heading.lower())
        added = set(CHOICES)  # in the help already, as the first groups
        for setting in settings:
            for option in setting.options:
                if not option.name.startswith('-'):
                    parser.add_argument(option.destination, metavar=option.name, help=setting.help)
                elif not option.one_of:
                    _add_option(group, setting, option)
                elif option.one_of not in added:
                    _add_group(group, option.one_of)
                    added.add(option.one_of)
    _add_run_options(parser.add_argument_group('run'))
    return parser


def _add_group(group: argparse._ArgumentGroup, title: str) -> None:
    """Add the mutually exclusive options with this title."""
    exclusive = group.add_mutually_exclusive_group()
    for setting, option in all_options():
        if option.one_of == title:
            _add_option(exclusive, setting, option)


def _add_option(group: argparse._ActionsContainer, setting: Setting, option: Option) -> None:
    """Add an option; its value is stored in ``option.destination``, None if the option is not given."""
    text = (option.help or setting.help).replace('%', '%%')  # argparse formats help texts with %
    kind, typed = setting.kind, {'dest': option.destination}
    if option.takes:
        typed.update(nargs=len(option.takes), type=float, metavar=option.metavar)
    # An option without a value: whether it means true, false, or a word is decided in _settings_behind.
    elif option.value is not None or (kind.types == (bool,) and not option.words):
        typed.update(action='store_const', const=True)
    else:
        choices = list(option.words) or kind.choices or None
        typed.update(type=kind.types[0] if kind.types[0] in (int, float) else str, choices=choices,
                     metavar=option.metavar)
        if setting.default is not None and not option.words:
            text += f' (default: {setting.default})'
    group.add_argument(*option.flags, help=text, **typed)


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that do not belong to a setting."""
    group.add_argument('-m', '--message', help='suffix of the run folder')
    group.add_argument('--config', type=Path, metavar='FILE', help='JSON with any part of the configuration')
    group.add_argument('--set', action='append', default=[], metavar='KEY=VALUE', dest='assignments',
                       help='one setting by its dotted name, see docs/configuration.md; repeatable')
    group.add_argument('--splits', type=Path, metavar='FILE', help='JSON with train, val and test handles per task')
    existing = group.add_mutually_exclusive_group()
    existing.add_argument('--resume', action='store_true', help='continue a run from its ckpt/last.pt')
    existing.add_argument('--overwrite', action='store_true', help='replace an existing run folder')
    look = group.add_mutually_exclusive_group()
    look.add_argument('--print_config', action='store_true', help='print every setting with its source, and stop')
    look.add_argument('--dry_run', action='store_true', help='load, build, train one step on the largest batch, print '
                                                            'sizes, time and memory, and stop; writes nothing')


def given_options(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield each option on the command line with the settings that it sets, unchecked.

    Args:
        arguments: arguments parsed by :func:`training_parser`.
    """
    for setting, option in all_options():
        given = getattr(arguments, option.destination)
        # None: not on the command line. Defaults are not set by argparse, so that --config is not overridden by them.
        if given is not None:
            yield option.name, _settings_behind(setting, option, given)


def _settings_behind(setting: Setting, option: Option, given: object) -> dict[str, Any]:
    """Return the settings that a given option sets, by their dotted names."""
    settings = dict(option.also)
    if option.takes:
        settings.update(zip(option.takes, given, strict=True))
    if option.words:
        settings[setting.name] = option.words[given]
    elif option.value is not None:
        settings[setting.name] = option.value
    else:
        settings[setting.name] = not setting.default if setting.kind.types == (bool,) else given
    return settings

"""Build a checked configuration; the command line overrides the config file, which overrides the defaults."""

import argparse
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict

from configs.choices import DATASETS
from configs.generic_config import CONFIG, apply_settings
from configs.options import Layer, given_options, naming_options, training_parser
from configs.setting import SAFE_NAME
from configs.validation import check_consistency, check_key, check_value, check_values, flatten
from utils.errors import UserError
from utils.files import read_bounded, unique_keys

DEFAULT = 'default'
NO_LOSS = 'progress'  # stands for the loss in the name of a run without alignment


def parse_training_arguments(argv: Sequence[str] | None, prog: str) -> tuple[EasyDict, argparse.Namespace]:
    """Parse a training command line.

    Args:
        argv: arguments without the program's name; None: those of the process.
        prog: name of the program for its help.

    Returns:
        The checked configuration and the parsed arguments.

    Raises:
        UserError: see ``build_config``.
    """
    arguments = training_parser(prog).parse_args(argv)
    return build_config(arguments), arguments


def build_config(arguments: argparse.Namespace) -> EasyDict:
    """Merge defaults, config file and command line into one checked configuration.

    Args:
        arguments: arguments parsed by ``training_parser``.

    Returns:
        A new configuration; the defaults are not modified.

    Raises:
        UserError: a key is unknown, a value has the wrong type or is out of range, a choice is missing, or settings
            contradict each other.
    """
    # A copy, lists included: CONFIG must keep the defaults for every other run of this process.
    config = copy.deepcopy(CONFIG)
    for _, values in settings_in_order(arguments):
        apply_settings(config, values)
    # Only here do the settings come from a command line, so only here do messages name its options.
    with naming_options():
        check_consistency(config)
    if not config.PROGRESS_LOSS.enabled and (idle := _head_options(arguments)):
        raise UserError(f'{idle[0]}: there is no progress head to take it; give --progress, too')
    config.EXPERIMENTNAME = experiment_name(config, arguments.message)
    return config


def _head_options(arguments: argparse.Namespace) -> list[str]:
    """Return the options on the command line that need a progress head."""
    return [option for option, values in given_options(arguments)
            if all(key.startswith('PROGRESS_LOSS.') for key in values)]


def settings_in_order(arguments: argparse.Namespace) -> list[Layer]:
    """Return the settings that override the defaults; later sources override earlier sources.

    Args:
        arguments: arguments parsed by ``training_parser``.

    Returns:
        Each source with its settings: the preset of the dataset, the config file, the options, each ``--set``.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    own = [(f'--config {arguments.config}', _read_config_file(arguments.config))] if arguments.config else []
    own += [(option, {key: check_value(key, value, option) for key, value in values.items()})
            for option, values in given_options(arguments)]
    own += _assignments(arguments)
    # The last source that names a dataset wins; its presets must be known before anything is applied.
    dataset = next((values['DATASET_NAME'] for _, values in reversed(own) if values.get('DATASET_NAME')), None)
    presets = DATASETS[dataset].presets if dataset in DATASETS else {}
    # Presets come first, as they are overridden by everything that the user sets.
    return [(f'preset of {dataset}', dict(presets)), *own]


def _read_config_file(path: Path) -> dict[str, Any]:
    """Read a JSON config file, check it, and return settings by their dotted names."""
    source = f'--config {path}'
    try:
        # unique_keys refuses a repeated key, of which json would silently take the last value.
        content = json.loads(read_bounded(path), object_pairs_hook=unique_keys(source))
    except OSError as error:
        raise UserError(f'{source}: cannot be read ({error.strerror}); expected a JSON file') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{source}: not valid JSON ({error}); expected an object such as '
                        '{"PROGRESS_LOSS": {"enabled": true}}') from error
    if not isinstance(content, dict):
        raise UserError(f'{source}: contains a {type(content).__name__}, expected an object of settings')
    return check_values(content, source)


def _assignments(arguments: argparse.Namespace) -> Iterator[Layer]:
    """Yield each --set with its checked setting; a value that is not valid JSON is read as a string."""
    for assignment in arguments.assignments:
        key, equals, text = assignment.partition('=')
        source = f'--set {assignment}'
        if not equals:
            raise UserError(f'{source}: expected KEY=VALUE, e.g. --set PROGRESS_LOSS.hidden_dim=32')
        check_key(key, source)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        yield source, {key: check_value(key, value, source)}


def experiment_name(config: EasyDict, message: str | None) -> str:
    """Return the name set by the configuration, otherwise ``V<version>___<loss>_<dataset>[.<message>]``.

    Raises:
        UserError: the name is not a plain folder name.
    """
    chosen = [name for name, active in config.LOSS_TYPE.items() if active] if config.ALIGNMENT_WEIGHT else [NO_LOSS]
    suffix = f'.{message}' if message else ''
    name = config.EXPERIMENTNAME or f'V{config.VERSION}___{chosen[0]}_{config.DATASET_NAME}{suffix}'
    if not SAFE_NAME.fullmatch(name):
        raise UserError(f'run folder name {name!r} (from VERSION and --message): expected letters, digits, ".", "_" '
                        'and "-", 100 at most')
    return name


def config_sources(config: Mapping, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the source of each setting of a configuration.

    Args:
        config: configuration returned by ``build_config``.
        arguments: arguments that it was built from.

    Returns:
        Dotted name -> 'default', 'preset of <dataset>', '--config <file>', the option, or '--set <assignment>'. An
        option that repeats an earlier value is the source, because it would apply if that value changed.
    """
    sources = dict.fromkeys(flatten(config), DEFAULT)
    for source, values in settings_in_order(arguments):
        sources.update(dict.fromkeys(values, source))
    if sources['EXPERIMENTNAME'] == DEFAULT:
        sources['EXPERIMENTNAME'] = 'VERSION, loss, dataset and --message'
    return sources


def describe_config(config: Mapping, arguments: argparse.Namespace) -> str:
    """Return one line per setting: its dotted name, its value in the form that ``--set`` accepts, and its source."""
    sources = config_sources(config, arguments)
    rows = [(key, json.dumps(value, ensure_ascii=False), sources[key]) for key, value in flatten(config).items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return '\n'.join(f'{key.ljust(widths[0])}  {value.ljust(widths[1])}  {source}' for key, value, source in rows)

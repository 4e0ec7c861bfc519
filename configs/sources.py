"""Where each value of a run's configuration comes from, for ``--print_config``."""

import argparse
import json
from collections.abc import Mapping

from configs.entry_config import settings_in_order
from configs.validation import flatten

DEFAULT = 'default'


def config_sources(config: Mapping, arguments: argparse.Namespace) -> dict[str, str]:
    """Return the source of each setting of a configuration.

    Args:
        config: what ``build_config`` returned.
        arguments: what it was built from.

    Returns:
        Dotted key -> 'default', 'preset of <dataset>', '--config <file>', the option, or '--set <assignment>'. An
        option that repeats an earlier value counts: it would hold if that value changed.
    """
    settings = flatten(config)
    sources = dict.fromkeys(settings, DEFAULT)
    for source, values in settings_in_order(arguments):
        sources.update(dict.fromkeys(values, source))
    if sources['EXPERIMENTNAME'] == DEFAULT:
        sources['EXPERIMENTNAME'] = 'VERSION, loss, dataset and --message'
    return sources


def describe_config(config: Mapping, arguments: argparse.Namespace) -> str:
    """Return a line per setting: its dotted key, its value as ``--set`` takes it, and its source."""
    sources = config_sources(config, arguments)
    rows = [(key, json.dumps(value, ensure_ascii=False), sources[key]) for key, value in flatten(config).items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return '\n'.join(f'{key.ljust(widths[0])}  {value.ljust(widths[1])}  {source}' for key, value, source in rows)

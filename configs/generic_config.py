"""CONFIG: all settings with their defaults, defined by the table in ``configs/settings.py``.

CONFIG is never modified: ``configs.entry_config`` builds a run's configuration from a copy, which the run stores as
config.json.
"""

import copy
from collections.abc import Mapping

from easydict import EasyDict

from configs.settings import SETTINGS


def nest(settings: Mapping[str, object]) -> EasyDict:
    """Convert dotted settings to nested dictionaries with copies of the values."""
    config = EasyDict()
    # Copies, because a list that is shared with the table could be changed through CONFIG.
    apply_settings(config, copy.deepcopy(dict(settings)))
    return config


def apply_settings(config: EasyDict, settings: Mapping[str, object]) -> None:
    """Set dotted keys in place, adding missing sections."""
    for key, value in settings.items():
        *sections, name = key.split('.')
        target = config
        for section in sections:
            target = target.setdefault(section, EasyDict())
        target[name] = value


CONFIG = nest({name: setting.default for name, setting in SETTINGS.items()})

"""CONFIG: every setting with its default. The table in ``configs/settings.py`` defines them.

Nothing here is changed in place: ``configs.entry_config`` builds a run's configuration from a copy, and the run stores
that as config.json.
"""

import copy
from collections.abc import Mapping

from easydict import EasyDict

from configs.settings import SETTINGS


def nest(settings: Mapping[str, object]) -> EasyDict:
    """Return dotted settings as nested dictionaries, with copies of the values."""
    config = EasyDict()
    apply_settings(config, copy.deepcopy(dict(settings)))
    return config


def apply_settings(config: EasyDict, settings: Mapping[str, object]) -> None:
    """Set dotted keys in place; missing sections are added."""
    for key, value in settings.items():
        *sections, name = key.split('.')
        target = config
        for section in sections:
            target = target.setdefault(section, EasyDict())
        target[name] = value


CONFIG = nest({name: setting.default for name, setting in SETTINGS.items()})

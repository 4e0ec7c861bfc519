"""Check the stored configuration of a run and complete it with the defaults."""

import copy
from collections.abc import Mapping

from easydict import EasyDict

from configs.generic_config import CONFIG, apply_settings
from configs.settings import SETTINGS
from configs.validation import check_value, flatten
from utils.errors import UserError


def complete_config(stored: Mapping, source: str) -> EasyDict:
    """Merge a stored configuration over the defaults.

    Args:
        stored: a CONFIG stored by a run. Keys that are not settings are kept, because converted checkpoints have such a
            key.
        source: the file, for messages.

    Returns:
        A configuration with all settings.

    Raises:
        UserError: a value has the wrong type or is out of range, or a section is not a mapping.
    """
    config = copy.deepcopy(CONFIG)
    for key, value in flatten(stored).items():
        if key in SETTINGS:
            value = check_value(key, value, source)
        # A section of settings that the file stores as a single value.
        elif inside := next((name for name in SETTINGS if name.startswith(f'{key}.')), None):
            raise UserError(f'{source}: {key} is {value!r:.60}, expected a section with settings such as {inside}')
        apply_settings(config, {key: value})
    return config


def changed_settings(config: Mapping, other: Mapping) -> list[str]:
    """Return the names of the settings that differ between two configurations and affect the results."""
    first, second = flatten(config), flatten(other)
    return [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)
            # Settings such as the device may differ; keys that are not settings may not.
            and (key not in SETTINGS or SETTINGS[key].changes_numbers)]

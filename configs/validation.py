"""Check a configuration for unknown keys, wrong types, values out of range, and contradictions."""

import difflib
import math
import sys
from collections.abc import Mapping
from typing import Any

from easydict import EasyDict

from configs.settings import SETTINGS
from utils.errors import UserError

SET = '; set '  # followed by the settings that fix the error, at the end of a message


def flatten(config: Mapping, prefix: str = '') -> dict[str, Any]:
    """Flatten nested mappings to ``{'A.b.c': value}``."""
    flat = {}
    for key, value in config.items():
        name = f'{prefix}{key}'
        # Keep an empty mapping, so that it is refused as the value of a setting.
        flat.update(flatten(value, f'{name}.') if isinstance(value, Mapping) and value else {name: value})
    return flat


def check_key(key: str, source: str) -> None:
    """Check that a dotted key is a setting; the error names the most similar setting.

    Args:
        key: dotted name.
        source: file or option that the key comes from.

    Raises:
        UserError: the key is unknown.
    """
    if key in SETTINGS:
        return
    if inside := next((name for name in SETTINGS if name.startswith(f'{key}.')), None):
        raise UserError(f'{source}: {key} is a section, not a setting; set one of its keys, such as {inside}')
    by_lower_case = {name.lower(): name for name in SETTINGS}
    # Without a cutoff, so that the message always has a suggestion.
    nearest = difflib.get_close_matches(key.lower(), by_lower_case, n=1, cutoff=0)
    raise UserError(f'{source}: unknown key {key!r}; the nearest is {by_lower_case[nearest[0]]!r}; '
                    'docs/configuration.md lists all')


def check_value(key: str, value: object, source: str) -> object:
    """Check the type and range of a setting.

    Args:
        key: dotted name of the setting.
        value: its value.
        source: file or option that the value comes from.

    Returns:
        The value, converted to float if it is a whole number and a float is expected.

    Raises:
        UserError: the value has the wrong type or is out of range.
    """
    setting = SETTINGS[key]
    kind = setting.kind
    if value is None and setting.default is None:
        return value
    if type(value) is int and int not in kind.types and float in kind.types:
        # JSON allows integers that no float can hold; infinity is refused below.
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    # type() instead of isinstance(), because true would pass as a whole number.
    if type(value) not in kind.types:
        raise UserError(f'{source}: {key} is {value!r} ({type(value).__name__}), expected {kind.words}')
    if not kind.accepts(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f'{source}: {key} is {value!r}, expected {kind.words}')
    return value


def check_values(config: Mapping, source: str) -> dict[str, Any]:
    """Check keys, types and ranges of nested settings, and return them by their dotted names.

    Args:
        config: any part of a CONFIG.
        source: file that it comes from.

    Raises:
        UserError: a key is unknown, or a value has the wrong type or is out of range.
    """
    values = flatten(config)
    for key in values:
        check_key(key, source)
    return {key: check_value(key, value, source) for key, value in values.items()}


def check_consistency(config: EasyDict) -> None:
    """Check that loss, encoder and dataset are chosen and that settings do not contradict each other.

    Args:
        config: a CONFIG whose values have been checked individually.

    Raises:
        UserError: a choice is missing or settings contradict each other; the message ends with the settings that fix
            it.
    """
    chosen = [name for name, active in config.LOSS_TYPE.items() if active]
    # Exactly one, or none if alignment has no weight.
    if len(chosen) != 1 and (chosen or config.ALIGNMENT_WEIGHT):
        raise UserError(f'LOSS_TYPE: {" and ".join(chosen) or "no alignment loss"} chosen, expected one{SET}'
                        + ', '.join(f'LOSS_TYPE.{name}' for name in config.LOSS_TYPE))
    if not (config.ALIGNMENT_WEIGHT or config.PROGRESS_LOSS.enabled):
        raise UserError('ALIGNMENT_WEIGHT is 0: without alignment and progress head there is nothing to learn'
                        f'{SET}ALIGNMENT_WEIGHT or PROGRESS_LOSS.enabled')
    if config.BASEARCH.ARCHITECTURE is None:
        raise UserError(f'BASEARCH.ARCHITECTURE: no encoder chosen, expected one{SET}BASEARCH.ARCHITECTURE')
    if config.DATASET_NAME is None:
        raise UserError(f'DATASET_NAME: no dataset chosen, expected one{SET}DATASET_NAME')
    if config.PROGRESS_LOSS.condition_on_step and not config.PROGRESS_LOSS.enabled:
        raise UserError('PROGRESS_LOSS.condition_on_step: there is no head that could take the label'
                        f'{SET}PROGRESS_LOSS.enabled')
    if config.FREEZE_ENCODER and not config.PROGRESS_LOSS.enabled:
        raise UserError(f'FREEZE_ENCODER: nothing is left to train{SET}PROGRESS_LOSS.enabled')

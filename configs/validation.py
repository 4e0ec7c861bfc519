"""Checks of a configuration: known keys, types of the defaults, and ranges."""

import difflib
import math
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from configs.encoders import ENCODER_ENTRIES
from utils.errors import UserError
from utils.files import is_writable

LARGEST_SEED = 2**62  # what is added to keep draws apart has to fit into 63 bits with it
Check = tuple[Callable[[Any], bool], str]
SAFE_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')  # of a folder that a setting names


def _at_least(bound: float) -> Check:
    return (lambda value: value >= bound), f'a number of at least {bound}'


def _choice(*names: str | None) -> Check:
    return (lambda value: value in names), 'one of ' + ', '.join(str(name) for name in names)


LARGEST_SIZE = 2**20  # of layers, kernels, heads, mixtures: more is a slip, and no memory holds it
SIZE: Check = (lambda value: 1 <= value <= LARGEST_SIZE), 'a number from 1 to 2^20'
BOUNDED: Check = (lambda value: 0 < value <= 1e6), 'a number above 0, at most 1e6'
POSITIVE: Check = (lambda value: value > 0), 'a number above 0'
SHARE: Check = (lambda value: 0 < value <= 1), 'a number in (0, 1]'
SIZES: Check = (lambda value: bool(value) and all(type(width) is int and 1 <= width <= LARGEST_SIZE
                                                        for width in value)), \
    'a list of whole numbers from 1 to 2^20'

# Keys whose default is None, and what else they take.
OPTIONAL_TYPES: dict[str, tuple[type, ...]] = {
    'EXPERIMENTNAME': (str,), 'DATASET_NAME': (str,), 'DATAFOLDER': (str,),
    'BASEARCH.ARCHITECTURE': (str,), **{entry.input_setting: (int,) for entry in ENCODER_ENTRIES.values()},
    'INIT_FROM': (str,), 'MAX_FRAMES': (int,),
    'ARCHITECTURE.num_heads': (int,), 'PROGRESS_LOSS.head_learning_rate': (float,), 'PROGRESS_LOSS.steps': (list,),
}
# Keys that take more than the type of their default.
FURTHER_TYPES: dict[str, tuple[type, ...]] = {'TIME_SCALE': (int, float), 'VERSION': (int,)}

CHECKS: dict[str, Check] = {
    'TIME_SCALE': ((lambda value: value in ('auto', 'median') if isinstance(value, str) else 1e-6 <= value <= 1e6),
                   "'auto', 'median' or a number from 1e-6 to 1e6"),
    'TRAIN_SPLIT': ((lambda value: len(value) == 3 and all(type(share) in (int, float) and share >= 0
                                                           for share in value)
                     and value[0] > 0 and abs(sum(value) - 1) < 1e-6),
                    'three shares (train, val, test) that sum to 1'),
    'BACKGROUND_LABELS': ((lambda value: all(isinstance(label, str) and is_writable(label) for label in value)),
                          'a list of strings without half characters'),
    'SKIP_RATE': _at_least(1), 'MAX_FRAMES': _at_least(2), 'CHECK_VALUES_GB': _at_least(0), 'WORKERS': _at_least(0),
    'SEED': ((lambda value: 0 <= value <= LARGEST_SEED), 'a whole number from 0 to 2^62'),
    'OUTPUT_DIMENSIONALITY': SIZE, 'INIT_FROM': (bool, 'the folder of a run'),
    'BASEARCH.ARCHITECTURE': _choice(*ENCODER_ENTRIES),
    'BASEARCH.Resnet50_ARCH.temporal_depth': SIZE, 'BASEARCH.Resnet50_ARCH.in_size': SIZE,
    'BASEARCH.TEMPORAL_STACKING_ARCH.temporal_depth': SIZE,
    'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels': SIZE,
    'BASEARCH.TEMPORAL_STACKING_ARCH.input_dimensions': SIZE,
    'BASEARCH.NAIVE_ARCH.layers': SIZES, 'BASEARCH.NAIVE_ARCH.input_dimensions': SIZE,
    'BASEARCH.IDENTITY_ARCH.input_dimensions': SIZE,
    'ARCHITECTURE.num_heads': SIZE, 'ARCHITECTURE.attn_layers': SIZES, 'ARCHITECTURE.drop_layers': SIZES,
    'TCC_ORIGINAL_PARAMS.softmax_temp': POSITIVE, 'TCC_ORIGINAL_PARAMS.alignment_variance': _at_least(0),
    'GTCC_PARAMS.n_components': SIZE, 'GTCC_PARAMS.delta': SHARE, 'GTCC_PARAMS.gamma': SHARE,
    'GTCC_PARAMS.softmax_temp': POSITIVE, 'GTCC_PARAMS.alignment_variance': _at_least(0),
    'GTCC_PARAMS.max_gmm_iters': _at_least(1), 'GTCC_PARAMS.max_comparisons': _at_least(1),
    'LAV_PARAMS.min_temp': POSITIVE, 'LAV_PARAMS.cr_coefficient': _at_least(0),
    'VAVA_PARAMS.maxIter': _at_least(2), 'VAVA_PARAMS.lambda1': _at_least(0), 'VAVA_PARAMS.lambda2': POSITIVE,
    'VAVA_PARAMS.gamma': _at_least(0), 'VAVA_PARAMS.zeta': POSITIVE, 'VAVA_PARAMS.delta': BOUNDED,
    'PROGRESS_LOSS.coefficient': _at_least(0), 'PROGRESS_LOSS.loss_type': _choice('l1', 'l2'),
    'PROGRESS_LOSS.head': _choice('gru', 'steps'),
    'PROGRESS_LOSS.min_segment_len': _at_least(1), 'PROGRESS_LOSS.hidden_dim': SIZE,
    'PROGRESS_LOSS.lambda_curriculum.start': _at_least(0), 'PROGRESS_LOSS.lambda_curriculum.end': _at_least(0),
    'PROGRESS_LOSS.samples_per_video': _at_least(1),
    'PROGRESS_LOSS.sampling': _choice('segment', 'prefix', 'dense'),
    'PROGRESS_LOSS.head_learning_rate': BOUNDED, 'PROGRESS_LOSS.step_coefficient': _at_least(0),
    'PROGRESS_LOSS.projection_dim': SIZE,
    'PROGRESS_LOSS.dropout': ((lambda value: 0 <= value < 1), 'a number in [0, 1)'),
    'LEARNING_RATE_SCHEDULE': _choice('constant', 'cosine'), 'WEIGHT_DECAY': _at_least(0),
    'AUGMENTATION.scale': _at_least(0), 'AUGMENTATION.shift': _at_least(0), 'AUGMENTATION.noise': _at_least(0),
    'AUGMENTATION.time_warp': _at_least(0),
    'BATCH_SIZE': _at_least(1), 'LEARNING_RATE': BOUNDED, 'NUM_EPOCHS': _at_least(1),
    'CLIP_GRAD_NORM': POSITIVE, 'HEAD_CLIP_GRAD_NORM': POSITIVE, 'MAX_SKIPPED_STEPS': _at_least(0),
    'EVAL_PLOTFOLDER': ((lambda value: bool(SAFE_NAME.fullmatch(value))),
                        'the name of a folder: letters, digits, ".", "_" and "-", 100 at most'),
}


def flatten(config: Mapping, prefix: str = '') -> dict[str, Any]:
    """Return ``{'A.b.c': value}`` for nested mappings."""
    flat = {}
    for key, value in config.items():
        name = f'{prefix}{key}'
        # An empty mapping is kept, to be refused where a setting was to stand.
        flat.update(flatten(value, f'{name}.') if isinstance(value, Mapping) and value else {name: value})
    return flat


def check_key(key: str, defaults: Mapping[str, Any], source: str) -> None:
    """Refuse a dotted key that no default has, and name the nearest one.

    Raises:
        UserError: the key is unknown.
    """
    if key in defaults:
        return
    sections = {name.rsplit('.', depth)[0] for name in defaults for depth in range(1, name.count('.') + 1)}
    if key in sections:
        raise UserError(f'{source}: {key} is a section, not a setting; set one of its keys, such as '
                        + next(name for name in defaults if name.startswith(f'{key}.')))
    by_lower_case = {name.lower(): name for name in defaults}
    nearest = difflib.get_close_matches(key.lower(), by_lower_case, n=1, cutoff=0)
    raise UserError(f'{source}: unknown key {key!r}; the nearest is {by_lower_case[nearest[0]]!r}; '
                    'docs/configuration.md lists all')


def check_value(key: str, value: object, default: object, source: str) -> object:
    """Check one setting's type and range.

    Args:
        key: dotted key.
        value: value found.
        default: the key's default, whose type is expected.
        source: file or option that the value comes from.

    Returns:
        The value; a whole number where a float is expected comes back as float.

    Raises:
        UserError: wrong type or out of range.
    """
    if value is None and default is None:
        return value
    kinds = OPTIONAL_TYPES[key] if default is None else (type(default), *FURTHER_TYPES.get(key, ()))
    if isinstance(value, int) and not isinstance(value, bool) and int not in kinds and float in kinds:
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if type(value) not in kinds:
        expected = ' or '.join('true or false' if kind is bool else kind.__name__ for kind in kinds)
        raise UserError(f'{source}: {key} is {value!r} ({type(value).__name__}), expected {expected}')
    if key in CHECKS:
        accepts, expected = CHECKS[key]
        if not accepts(value) or (isinstance(value, float) and not math.isfinite(value)):
            raise UserError(f'{source}: {key} is {value!r}, expected {expected}')
    return value


def check_stored_settings(config: Mapping, defaults: Mapping[str, Any], source: str) -> None:
    """Check type and range of the settings that a file of a run holds; keys of other versions are let be.

    Args:
        config: a CONFIG, nested.
        defaults: dotted key -> default.
        source: the file.

    Raises:
        UserError: wrong type or out of range.
    """
    for key, value in flatten(config).items():
        if key in defaults:
            check_value(key, value, defaults[key], source)

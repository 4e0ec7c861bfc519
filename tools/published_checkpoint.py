"""Read checkpoints of the published GTCC code without running code, and derive a configuration of this project.

Module names agree. The architecture is derived from the shapes of the weights, not from the stored configuration, which
specifies sizes differently.
"""

import copy
import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from easydict import EasyDict
from torch import Tensor

from configs.generic_config import CONFIG
from configs.validation import check_key, check_value, flatten
from models.build import LEGACY_LAYOUT
from utils.ckpt_save import without_wrappers
from utils.errors import UserError
from utils.logging import get_logger
from utils.pickled_file import load_pickled

LOGGER = get_logger(__name__)
# What the pickle of a NumPy number or array names: types and constructors of plain values, under both module names.
NUMPY_GLOBALS = [
    *((value, f'numpy.{core}.multiarray.{name}') for core in ('core', '_core')
      for name, value in (('scalar', np._core.multiarray.scalar), ('_reconstruct', np._core.multiarray._reconstruct))),
    np.ndarray, np.dtype, *{type(np.dtype(code)) for code in '?bBhHiIlLqQefdg'}]
BARE_ENCODER = ('convolutional_layers.', 'fc_layers.')  # single-encoder models have no base_model prefix
# Settings that describe the old training or how its data is read; the network's settings come from its weights.
KEPT_SECTIONS = ('LOSS_TYPE', 'TCC_ORIGINAL_PARAMS', 'GTCC_PARAMS', 'LAV_PARAMS', 'VAVA_PARAMS', 'DATASET_NAME',
                 'SKIP_RATE', 'BATCH_SIZE', 'LEARNING_RATE', 'NUM_EPOCHS')


class PublishedCheckpoint(NamedTuple):
    """Content of a published checkpoint that is converted.

    Attributes:
        config: stored configuration as nested dicts.
        epoch: stored epoch; 0 if it is not a finite number.
        loss: stored loss; NaN if it is not a number.
        weights: name in this project -> weight.
    """

    config: dict
    epoch: int
    loss: float
    weights: dict[str, Tensor]


def read_published(path: Path | str) -> PublishedCheckpoint:
    """Read a checkpoint of the published code with ``weights_only=True``.

    Args:
        path: file with a dict of ``config`` (an EasyDict), ``epoch``, ``loss`` and ``model_state_dict``.

    Raises:
        UserError: the file cannot be read, would run code, or has other content.
    """
    # Load the EasyDict as an OrderedDict, so that the file cannot call any code.
    content = load_pickled(path, 'cpu', 'tensors, plain values and an EasyDict: use a checkpoint that the published '
                           'GTCC code wrote', [(OrderedDict, 'easydict.EasyDict'), *NUMPY_GLOBALS])
    missing = [key for key in ('config', 'model_state_dict')
               if not isinstance(content, dict) or not isinstance(content.get(key), dict)]
    if missing:
        raise UserError(f'{path}: no dict under {" and ".join(missing)}; expected a checkpoint that the published GTCC '
                        'code wrote')
    weights = {_own_name(name): value for name, value in content['model_state_dict'].items()}
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f'{path}: model_state_dict contains values that are not tensors; expected the weights of a '
                        'model')
    epoch, loss = (_number(content.get(key)) for key in ('epoch', 'loss'))
    return PublishedCheckpoint(content['config'], int(epoch) if math.isfinite(epoch) else 0, loss, weights)


def _number(value: object) -> float:
    """Return a stored number as float; NaN if the value is not a number."""
    try:
        value = value.item() if isinstance(value, np.ndarray) else value
        is_number = isinstance(value, int | float | Tensor | np.generic)
        return float(value) if is_number else math.nan
    except (ValueError, RuntimeError, OverflowError, TypeError):  # several numbers, a complex one, or a too large one
        return math.nan


def _own_name(name: str) -> str:
    """Return this project's name of a published weight."""
    name = without_wrappers(str(name))
    return f'base_model.{name}' if name.startswith(BARE_ENCODER) else name


def configuration_of(published: PublishedCheckpoint, path: Path | str) -> EasyDict:
    """Return a configuration of this project that builds the network of a published checkpoint.

    Raises:
        UserError: the weights do not fit any published network.
    """
    config = copy.deepcopy(CONFIG)
    _take_over(published.config, config)
    weights = published.weights
    convolutions, linear = (_stack(weights, f'base_model.{part}') for part in ('convolutional_layers', 'fc_layers'))
    # Weights of a temporal convolution are (out, into, kernel), of a spatio-temporal one (out, into, T, H, W).
    if convolutions and convolutions[0].ndim == 3:
        _describe_stacking(config, convolutions)
    elif convolutions and convolutions[0].ndim == 5 and linear:
        raise UserError(f'{path}: an encoder of frames (--resnet50), expected an encoder of features; the published '
                        'encoder of frames excludes the current frame from its window, which this project does not '
                        'reproduce: train a new model')
    elif linear:
        _describe_naive(config, linear)
    else:
        raise UserError(f'{path}: its weights contain no encoder ({", ".join(list(weights)[:3])}, ...), expected '
                        'base_model.convolutional_layers or base_model.fc_layers')
    if attention := _stack(weights, 'attention_layer'):
        heads = {match[1] for name in weights if (match := re.match(r'head_models\.(\d+)\.', name))}
        config.ARCHITECTURE.update({'MCN': True, 'num_heads': len(heads), 'attn_layers': _widths(attention[:-1]),
                                    LEGACY_LAYOUT: True})
    if drop := _stack(weights, 'dropout'):
        config.ARCHITECTURE.drop_layers = _widths(drop[:-1])
    return config


def _take_over(stored: Mapping, config: EasyDict) -> None:
    """Copy the stored settings that have the same meaning here, if their values are valid."""
    for key, value in flatten({key: stored[key] for key in KEPT_SECTIONS if key in stored}).items():
        try:
            check_key(key, 'stored')
            value = check_value(key, value, 'stored')
        except UserError as error:
            LOGGER.info('setting %s of the published run is not used: %s', key, error)
            continue
        *sections, name = key.split('.')
        (config[sections[0]] if sections else config)[name] = value


def _describe_stacking(config: EasyDict, convolutions: list[Tensor]) -> None:
    channels, feature_dim, depth = convolutions[0].shape  # (out, in, kernel)
    config.BASEARCH.ARCHITECTURE = 'temporal_stacking'
    config.BASEARCH.TEMPORAL_STACKING_ARCH.update(temporal_depth=depth, conv_num_channels=channels,
                                                  input_dimensions=feature_dim)
    config.OUTPUT_DIMENSIONALITY = len(convolutions[-1])


def _describe_naive(config: EasyDict, linear: list[Tensor]) -> None:
    config.BASEARCH.ARCHITECTURE = 'naive'
    config.BASEARCH.NAIVE_ARCH.update(layers=_widths(linear[:-1]), input_dimensions=linear[0].shape[1])
    config.OUTPUT_DIMENSIONALITY = len(linear[-1])


def _stack(weights: Mapping[str, Tensor], prefix: str) -> list[Tensor]:
    """Return the weight matrices of a Sequential in order."""
    numbered = [(int(match[1]), weight) for name, weight in weights.items()
                if (match := re.fullmatch(rf'{re.escape(prefix)}\.(\d+)\.weight', name)) and weight.ndim > 1]
    return [weight for _, weight in sorted(numbered, key=lambda pair: pair[0])]


def _widths(layers: list[Tensor]) -> list[int]:
    return [len(layer) for layer in layers]

"""Checkpoints: written whole or not at all, read without running code, found by type."""

import io
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from configs.generic_config import CONFIG
from configs.validation import check_stored_settings, flatten
from models.build import LEGACY_LAYOUT, build_model
from models.encoders import StackingEncoder
from models.model_multiprong import HEAD_PREFIX
from utils.errors import UserError
from utils.files import atomic_path
from utils.logging import get_logger
from utils.run_folder import RunFolder

LOGGER = get_logger(__name__)
BEST_NAMES = {'combined': 'best_model_combined.pt', 'alignment': 'best_model_alignment.pt'}
OLD_BEST_NAME = 'best_model.pt'
EPOCH_NAME = re.compile(r'epoch-(\d+)\.pt')
# What unpickling bytes that are no checkpoint ends in, beside UnpicklingError.
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, struct.error)
TYPES = {'config': dict, 'epoch': int, 'loss': float, 'model_state_dict': dict, 'optimizer_state_dict': dict}


def ckpt_save(model_t: nn.Module, optimizer_t: torch.optim.Optimizer, epoch_t: int, loss_t: float,
              filename: Path | str, config: Mapping, **more: object) -> None:
    """Write a checkpoint of plain dicts, lists, numbers, strings and tensors, by way of a temporary file.

    Args:
        model_t: model whose state is saved.
        optimizer_t: its optimizer.
        epoch_t: epochs done, counted from 1.
        loss_t: loss that the checkpoint was chosen by.
        filename: where it goes.
        config: configuration of the run.
        **more: further entries.

    Raises:
        UserError: the model holds a value that is not finite, or the file cannot be written. A checkpoint of that
            name from before is left as it was.
    """
    state = model_t.state_dict()
    if name := first_not_finite(state):
        raise UserError(f'{filename}: not saved, {name} contains NaN or infinity after epoch {epoch_t}; lower '
                        'LEARNING_RATE, or set DEBUG to locate them; earlier checkpoints are intact')
    # By way of memory: torch.save turns a full disk into a RuntimeError, write_bytes leaves it an OSError.
    buffer = io.BytesIO()
    torch.save({'config': to_plain(config), 'epoch': int(epoch_t), 'loss': float(loss_t),
                'model_state_dict': dict(state), 'optimizer_state_dict': optimizer_t.state_dict(), **more}, buffer)
    with atomic_path(filename) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity; None where there is none."""
    return next((name for name, value in weights.items() if not torch.isfinite(value).all()), None)


def to_plain(config: object) -> object:
    """Return a configuration as plain dicts and lists, which ``weights_only=True`` and JSON can hold."""
    if isinstance(config, Mapping):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def load_checkpoint(path: Path | str, device: torch.device | str = 'cpu') -> dict:
    """Read a checkpoint with ``weights_only=True``: nothing in it is run.

    Raises:
        UserError: the file cannot be read, would run code, or lacks a key or has another thing there.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f'{path}: refused, it {what_is_refused(error)}; expected tensors and plain values: use '
                        'a checkpoint that this project wrote, or convert one of the published GTCC code: python -m '
                        'tools.convert_checkpoint') from error
    except DAMAGE as error:
        reason = str(error).splitlines()[:1] or [type(error).__name__]
        raise UserError(f'{path}: cannot be read as a checkpoint ({reason[0]}); it may be truncated: choose another '
                        'one of the run') from error
    missing = [key for key in TYPES if key not in content] if isinstance(content, dict) else list(TYPES)
    if missing:
        raise UserError(f'{path}: no checkpoint of a run, {", ".join(missing)} missing')
    for key, kind in TYPES.items():
        if not isinstance(content[key], kind):
            raise UserError(f'{path}: no checkpoint of a run, {key} is a {type(content[key]).__name__}, expected a '
                            f'{kind.__name__}')
    return content


def what_is_refused(error: pickle.UnpicklingError) -> str:
    """Say what a pickle asked for; torch's own words advise to run it."""
    asked = re.search(r'GLOBAL (\S+)', str(error))
    return f'asks for {asked[1]}, which could run code' if asked else 'is damaged, or no checkpoint'


def find_checkpoint(ckpt_folder: Path | str, checkpoint_type: str = 'combined') -> Path:
    """Find the checkpoint of a run: the requested best, then best_model.pt, then the last epoch by number.

    Args:
        ckpt_folder: the run folder or its ``ckpt/``.
        checkpoint_type: 'combined' or 'alignment'.

    Raises:
        FileNotFoundError: the folder holds no checkpoint.
        ValueError: another checkpoint type.
    """
    if checkpoint_type not in BEST_NAMES:
        raise ValueError(f'checkpoint_type is {checkpoint_type!r}, expected one of {", ".join(BEST_NAMES)}')
    folder = Path(ckpt_folder)
    inside = RunFolder(folder).checkpoints
    folder = inside if inside.is_dir() else folder
    wanted = folder / BEST_NAMES[checkpoint_type]
    by_epoch = sorted((int(match[1]), path) for path in folder.glob('epoch-*.pt')
                      if (match := EPOCH_NAME.fullmatch(path.name)))
    for path in [wanted, folder / OLD_BEST_NAME, *(path for _, path in by_epoch[-1:])]:
        if path.is_file():
            if path != wanted:
                LOGGER.warning('%s is not there; falling back to %s', wanted, path.name)
            return path
    raise FileNotFoundError(f'No checkpoints found in {folder}: expected {wanted.name}, {OLD_BEST_NAME} or epoch-*.pt')


def load_model(path: Path | str, device: torch.device | str = 'cpu') -> tuple[nn.Module, EasyDict, dict]:
    """Build the model that a checkpoint's stored configuration describes, with its weights.

    Returns:
        The model in eval mode on ``device``, its configuration, and the checkpoint.

    Raises:
        UserError: see :func:`load_checkpoint`; or a stored setting is out of range, or the weights do not fit.
    """
    checkpoint = load_checkpoint(path, device)
    check_stored_settings(checkpoint['config'], flatten(CONFIG), f'{path}: its configuration')
    try:
        config = EasyDict(checkpoint['config'])
        model = build_model(config)
        model.load_state_dict(checkpoint['model_state_dict'])
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise UserError(f'{path}: the weights do not fit the configuration stored with them ({reason}); the '
                        'checkpoint is of another version or was changed') from error
    return model.to(device).eval(), config, checkpoint


def load_encoder_weights(model: nn.Module, run: Path | str) -> Path:
    """Load a run's best alignment checkpoint into a model, in place, all but the progress head.

    Args:
        model: network of the same encoder, heads and widths.
        run: the run folder or its ``ckpt/``.

    Returns:
        The checkpoint that was loaded.

    Raises:
        UserError: there is no checkpoint, or its weights do not fit the model.
    """
    try:
        path = find_checkpoint(run, 'alignment')
    except FileNotFoundError as error:
        raise UserError(f'{run}: {error}') from error
    checkpoint = load_checkpoint(path)
    if misfit := _misfit(model, checkpoint):
        raise UserError(f'{run}: the weights of {path.name} do not fit this network ({misfit}); give the encoder, '
                        'CAUSAL, ARCHITECTURE.MCN, loss and dimensions of that run')
    model.load_state_dict(_without_head(checkpoint['model_state_dict']), strict=False)
    return path


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(HEAD_PREFIX)}


def _misfit(model: nn.Module, checkpoint: Mapping) -> str | None:
    """Say why a model cannot take the weights of a checkpoint, but for the progress head; None where it can."""
    own, stored = _without_head(model.state_dict()), _without_head(checkpoint['model_state_dict'])
    if differing := sorted(set(own) ^ set(stored)):
        return f'only one of the two has {differing[0]}'
    for name, weight in own.items():
        shape = getattr(stored[name], 'shape', None)
        if shape != weight.shape:
            return f'{name} has shape {shape and tuple(shape)} there, {tuple(weight.shape)} here'
    # The weights of a causal encoder have the shapes of a centred one's, but would read other frames.
    causal = checkpoint['config'].get('CAUSAL', False)
    if isinstance(model.base_model, StackingEncoder) and causal != (model.lookahead == 0):
        return f'CAUSAL is {causal} there'
    if checkpoint['config'].get('ARCHITECTURE', {}).get(LEGACY_LAYOUT):
        return 'its attention, of the published code, reads frames mixed'
    return None


def get_ckpt_MCN(ckpt_folder: Path | str, num_heads: int, device: torch.device | str,  # noqa: N802 (users' name)
                 dropout: bool = False, checkpoint_type: str = 'combined') -> tuple[nn.Module, int, str]:
    """Load a multi-head model of a run.

    Args:
        ckpt_folder: the run folder or its ``ckpt/``.
        num_heads: heads the model is expected to have.
        device: where the model goes.
        dropout: True where the model is expected to have a drop network.
        checkpoint_type: 'combined' (lowest total loss) or 'alignment' (lowest alignment loss).

    Returns:
        The model in eval mode, the epoch it was saved after, and the checkpoint's name without '.pt'.

    Raises:
        FileNotFoundError: no checkpoint in the folder.
        UserError: the checkpoint cannot be read, or its configuration contradicts the arguments.
    """
    path = find_checkpoint(ckpt_folder, checkpoint_type)
    model, config, checkpoint = load_model(path, device)
    if not config.ARCHITECTURE.MCN:
        raise UserError(f'{path}: a model without heads, expected {num_heads}; load it with get_ckpt_for_eval')
    if config.ARCHITECTURE.num_heads != num_heads:
        raise UserError(f'{path}: a model of {config.ARCHITECTURE.num_heads} heads, expected {num_heads}; pass the '
                        "stored number as num_heads")
    if dropout and not config.LOSS_TYPE.GTCC:
        raise UserError(f'{path}: a model without drop network, expected one; pass dropout=False')
    return model, checkpoint['epoch'], path.stem


def get_ckpt_for_eval(ckpt_folder: Path | str, device: torch.device | str,
                      checkpoint_type: str = 'combined') -> tuple[nn.Module, int, str]:
    """Load a model of a run, with or without heads.

    Args, Returns and Raises as :func:`get_ckpt_MCN`.
    """
    path = find_checkpoint(ckpt_folder, checkpoint_type)
    model, _, checkpoint = load_model(path, device)
    return model, checkpoint['epoch'], path.stem

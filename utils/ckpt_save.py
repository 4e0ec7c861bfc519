"""Checkpoints: saved atomically, loaded without running code, and found by type."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn

from configs.stored import complete_config
from models.build import LEGACY_LAYOUT, build_model
from models.model_multiprong import HEAD_PREFIX, ProgressModel
from utils.errors import UserError
from utils.files import atomic_path, expand_home
from utils.logging import get_logger
from utils.pickled_file import load_pickled
from utils.run_folder import RunFolder

LOGGER = get_logger(__name__)
BEST_NAMES = {'combined': 'best_model_combined.pt', 'alignment': 'best_model_alignment.pt'}
OLD_BEST_NAME = 'best_model.pt'
EPOCH_NAME = re.compile(r'epoch-(\d+)\.pt')
WRAPPERS = ('module', '_orig_mod')  # DistributedDataParallel and DataParallel; torch.compile
TYPES = {'config': dict, 'epoch': int, 'loss': float, 'model_state_dict': dict, 'optimizer_state_dict': dict}


def ckpt_save(model_t: nn.Module, optimizer_t: torch.optim.Optimizer, epoch_t: int, loss_t: float,
              filename: Path | str, config: Mapping, *, resumable: bool = True, **more: object) -> None:
    """Save a checkpoint of plain dicts, lists, numbers, strings and tensors atomically.

    Args:
        model_t: model whose state is saved.
        optimizer_t: its optimizer.
        epoch_t: number of completed epochs.
        loss_t: loss by which the checkpoint was selected.
        filename: path of the checkpoint.
        config: configuration of the run.
        resumable: False: leave out the optimizer's state of each parameter, which is twice as large as the weights.
        **more: additional entries.

    Raises:
        UserError: the model contains a value that is not finite, or the file cannot be written. An existing checkpoint
            of the same name is left unchanged.
    """
    state = model_t.state_dict()
    if name := first_not_finite(state):
        raise UserError(f'{filename}: not saved, {name} contains NaN or infinity after epoch {epoch_t}; lower '
                        'LEARNING_RATE, or set DEBUG to locate them; earlier checkpoints are intact')
    optimizer = optimizer_t.state_dict()
    if not resumable:
        optimizer['state'] = {}
    # Save to memory first: on a full disk torch.save raises a RuntimeError, but write_bytes an OSError.
    buffer = io.BytesIO()
    torch.save({'config': to_plain(config), 'epoch': int(epoch_t), 'loss': float(loss_t),
                # dict(state): a checkpoint contains plain types only, and state_dict returns an OrderedDict that
                # carries metadata.
                'model_state_dict': dict(state), 'optimizer_state_dict': optimizer, **more}, buffer)
    with atomic_path(filename) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def first_not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that contains NaN or infinity, or None if all values are finite."""
    return next((name for name, value in weights.items()
                 if isinstance(value, Tensor) and not torch.isfinite(value).all()), None)


def to_plain(config: object) -> object:
    """Convert a configuration to plain dicts and lists, which JSON and ``weights_only=True`` support."""
    if isinstance(config, Mapping):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def load_checkpoint(path: Path | str, device: torch.device | str = 'cpu') -> dict:
    """Load a checkpoint with ``weights_only=True``, so that none of its code runs, and complete its configuration.

    Raises:
        UserError: the file cannot be read or would run code, a key is missing or its value has the wrong type, or a
            stored setting is out of range.
    """
    content = load_pickled(path, device, 'tensors and plain values: use a checkpoint that this project wrote, or '
                           'convert one of the published GTCC code: python -m tools.convert_checkpoint')
    missing = [key for key in TYPES if key not in content] if isinstance(content, dict) else list(TYPES)
    if missing:
        raise UserError(f'{path}: not a checkpoint of a run, {", ".join(missing)} missing')
    for key, kind in TYPES.items():
        if not isinstance(content[key], kind):
            raise UserError(f'{path}: not a checkpoint of a run, {key} is a {type(content[key]).__name__}, expected a '
                            f'{kind.__name__}')
    content['config'] = complete_config(content['config'], f'{path}: its configuration')
    content['model_state_dict'] = {without_wrappers(str(name)): value
                                   for name, value in content['model_state_dict'].items()}
    return content


def without_wrappers(name: str) -> str:
    """Return a weight's name without what wrappers of a model or of its parts insert, such as 'module.'."""
    return '.'.join(part for part in name.split('.') if part not in WRAPPERS)


def find_checkpoint(ckpt_folder: Path | str, checkpoint_type: str = 'combined') -> Path:
    """Find a checkpoint of a run: the best of the requested type, or else best_model.pt, or else the last epoch.

    Args:
        ckpt_folder: the run folder or its ``ckpt/``.
        checkpoint_type: 'combined' or 'alignment'.

    Raises:
        FileNotFoundError: the folder contains no checkpoint.
        ValueError: the checkpoint type is unknown.
    """
    if checkpoint_type not in BEST_NAMES:
        raise ValueError(f'checkpoint_type is {checkpoint_type!r}, expected one of {", ".join(BEST_NAMES)}')
    folder = expand_home(Path(ckpt_folder), '')
    inside = RunFolder(folder).checkpoints
    folder = inside if inside.is_dir() else folder
    wanted = folder / BEST_NAMES[checkpoint_type]
    # By number: as text, epoch-9 would come after epoch-50.
    by_epoch = sorted((int(match[1]), path) for path in folder.glob('epoch-*.pt')
                      if (match := EPOCH_NAME.fullmatch(path.name)))
    for path in [wanted, folder / OLD_BEST_NAME, *(path for _, path in by_epoch[-1:])]:
        if path.is_file():
            if path != wanted:
                LOGGER.warning('%s is missing; falling back to %s', wanted, path.name)
            return path
    raise FileNotFoundError(f'No checkpoints found in {folder}: expected {wanted.name}, {OLD_BEST_NAME} or epoch-*.pt')


def load_model(path: Path | str, device: torch.device | str = 'cpu') -> tuple[ProgressModel, EasyDict, dict]:
    """Build the model described by the configuration stored in a checkpoint, and load its weights.

    Returns:
        The model in eval mode on ``device``, its configuration, and the checkpoint.

    Raises:
        UserError: see :func:`load_checkpoint`, or the weights do not match the configuration.
    """
    checkpoint = load_checkpoint(path, device)
    config = checkpoint['config']
    if name := first_not_finite(checkpoint['model_state_dict']):
        raise UserError(f'{path}: {name} contains NaN or infinity, so predictions would, too; choose another '
                        'checkpoint of the run')
    try:
        model = build_model(config)
        model.load_state_dict(checkpoint['model_state_dict'])
    except (RuntimeError, LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise UserError(f'{path}: the weights do not fit the configuration stored with them ({reason}); the '
                        'checkpoint was saved by another version or was modified') from error
    return model.to(device).eval(), config, checkpoint


def load_encoder_weights(model: nn.Module, run: Path | str) -> Path:
    """Load a run's best alignment checkpoint into a model in place, except for the progress head.

    Args:
        model: network with the same encoder, heads and dimensions.
        run: the run folder or its ``ckpt/``.

    Returns:
        Path of the checkpoint that was loaded.

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
    # strict=False for the head alone: _misfit has compared all other names and shapes.
    model.load_state_dict(_without_head(checkpoint['model_state_dict']), strict=False)
    return path


def _without_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(HEAD_PREFIX)}


def _misfit(model: nn.Module, checkpoint: Mapping) -> str | None:
    """Return why a checkpoint's weights, except for the progress head, do not fit a model; None if they fit."""
    own, stored = _without_head(model.state_dict()), _without_head(checkpoint['model_state_dict'])
    if differing := sorted(set(own) ^ set(stored)):
        return f'only one of the two has {differing[0]}'
    for name, weight in own.items():
        shape = getattr(stored[name], 'shape', None)
        if shape != weight.shape:
            return f'{name} has shape {shape and tuple(shape)} there, {tuple(weight.shape)} here'
    # A causal and a centered encoder have weights of the same shape, but read different frames.
    causal = checkpoint['config'].CAUSAL
    if model.base_model.has_causal_form and causal != (model.lookahead == 0):
        return f'CAUSAL is {causal} there'
    if checkpoint['config'].ARCHITECTURE.get(LEGACY_LAYOUT):
        return 'its attention, of the published code, reads frames mixed'
    return None


def get_ckpt_MCN(ckpt_folder: Path | str, num_heads: int, device: torch.device | str,  # noqa: N802 (users' name)
                 dropout: bool = False, checkpoint_type: str = 'combined') -> tuple[ProgressModel, int, str]:
    """Load the multi-head model of a run.

    Args:
        ckpt_folder: the run folder or its ``ckpt/``.
        num_heads: expected number of heads.
        device: device of the returned model.
        dropout: expect a drop network.
        checkpoint_type: 'combined' (lowest total loss) or 'alignment' (lowest alignment loss).

    Returns:
        The model in eval mode, the epoch after which it was saved, and the checkpoint's name without '.pt'.

    Raises:
        FileNotFoundError: the folder contains no checkpoint.
        UserError: the checkpoint cannot be read, or its configuration contradicts the arguments.
    """
    path = find_checkpoint(ckpt_folder, checkpoint_type)
    model, config, checkpoint = load_model(path, device)
    if not config.ARCHITECTURE.MCN:
        raise UserError(f'{path}: a model without heads, expected {num_heads}; load it with get_ckpt_for_eval')
    if config.ARCHITECTURE.num_heads != num_heads:
        raise UserError(f'{path}: a model of {config.ARCHITECTURE.num_heads} heads, expected {num_heads}; pass the '
                        "stored number as num_heads")
    if dropout and not (config.LOSS_TYPE.GTCC and config.ALIGNMENT_WEIGHT):
        raise UserError(f'{path}: a model without drop network, expected a drop network; pass dropout=False')
    return model, checkpoint['epoch'], path.stem


def get_ckpt_for_eval(ckpt_folder: Path | str, device: torch.device | str,
                      checkpoint_type: str = 'combined') -> tuple[ProgressModel, int, str]:
    """Load the model of a run, with or without heads.

    Arguments, return values and errors are those of :func:`get_ckpt_MCN`.
    """
    path = find_checkpoint(ckpt_folder, checkpoint_type)
    model, _, checkpoint = load_model(path, device)
    return model, checkpoint['epoch'], path.stem

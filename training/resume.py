"""State of a run between two epochs: the contents of ckpt/last.pt besides the model, and how to resume from it."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from configs.stored import changed_settings
from configs.validation import flatten
from training.distributed import SINGLE_PROCESS, World
from training.history import COLUMNS, History
from utils.ckpt_save import load_checkpoint, to_plain
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
LAST_NAME = 'last.pt'


@dataclass
class RunState:
    """State that a run carries from epoch to epoch.

    Attributes:
        epochs_done: number of epochs trained.
        best: checkpoint type -> lowest loss so far.
        best_epochs: checkpoint type -> epoch of the lowest loss, counted from 1; empty before the first epoch.
        history: rows of losses.csv.
        skipped_steps: optimizer steps skipped so far because the loss or a gradient was not finite.
        steps: optimizer steps taken so far.
    """

    epochs_done: int = 0
    best: dict[str, float] = field(default_factory=lambda: {'combined': math.inf, 'alignment': math.inf})
    history: History = field(default_factory=History)
    skipped_steps: int = 0
    steps: int = 0
    best_epochs: dict[str, int] = field(default_factory=dict)

    def as_entries(self, states: Sequence[Mapping] = ()) -> dict:
        """Return this state and the states of the random generators as plain values for a checkpoint.

        Args:
            states: states of the random generators of every process of the run; if empty, the states of this process.
        """
        # The first process's states are entries of the checkpoint itself, as in a run of a single process.
        first, *others = states or [random_states()]
        return {'best': dict(self.best), 'history': self.history.rows, 'skipped_steps': self.skipped_steps,
                'steps': self.steps, 'best_epochs': dict(self.best_epochs), **first, 'other_processes': others}


def random_states() -> dict:
    """Return the states of the random generators as plain values."""
    # A list of integers instead of a tuple: checkpoints contain plain types only, to be loaded with weights_only.
    version, words, gauss = random.getstate()
    return {'random_state': [version, list(words), gauss], 'torch_random_state': torch.get_rng_state(),
            'cuda_random_states': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_random_states(states: Mapping) -> None:
    """Restore the random generators from the entries of :func:`random_states`, for example in a checkpoint."""
    version, words, gauss = states['random_state']
    random.setstate((version, tuple(words), gauss))
    torch.set_rng_state(states['torch_random_state'].cpu())  # loading moved it to the model's device
    # A run may be resumed on a machine with fewer GPUs than before.
    for device, state in zip(range(torch.cuda.device_count()), states['cuda_random_states'], strict=False):
        torch.cuda.set_rng_state(state.cpu(), device)


def resume_run(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: Mapping,
               device: torch.device | str, world: World = SINGLE_PROCESS) -> RunState:
    """Load model, optimizer and random generators from ``last.pt``, in place, and return the run's state.

    Args:
        path: the run's ``ckpt/last.pt``.
        model: model of ``config``.
        optimizer: its optimizer.
        config: configuration of the resumed run.
        device: device of the model.
        world: processes of the resumed run; with the same number of processes as before, the results are those of an
            uninterrupted run.

    Raises:
        UserError: the file cannot be read, or was written under other settings.
    """
    checkpoint = load_checkpoint(path, device)
    # Before anything is loaded: weights must not be left half replaced.
    _check_same_settings(path, to_plain(checkpoint['config']), to_plain(config))
    try:
        state = _read_state(checkpoint)
        model.load_state_dict(checkpoint['model_state_dict'])
        _load_optimizer(optimizer, checkpoint['optimizer_state_dict'])
        _take_random_states(checkpoint, config, world)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise UserError(f'{path}: does not hold the state of a run ({type(error).__name__}: '
                        f'{" ".join(str(error).split())[:200]}); expected the file that training writes under this '
                        'name, best checkpoints lack part of it: restore it, or start again with --overwrite, and '
                        '--init_from for the weights') from error
    return state


def _take_random_states(checkpoint: Mapping, config: Mapping, world: World) -> None:
    """Restore the random generators of this process of the run."""
    states = [checkpoint, *checkpoint['other_processes']]  # by rank
    if len(states) != world.count:
        LOGGER.warning('trained by %d processes so far, by %d processes from now on: steps get different batches',
                       len(states), world.count)
    # The generators of processes that did not exist before start at a seed that depends on the epoch.
    if world.rank < len(states):
        set_random_states(states[world.rank])
    else:
        world.seed(config.SEED + checkpoint['epoch'])


def _read_state(checkpoint: Mapping) -> RunState:
    """Return the state of a run in a checkpoint.

    Raises:
        LookupError, TypeError, ValueError: an entry is missing or is not what training stores.
    """
    state = RunState(checkpoint['epoch'], checkpoint['best'], History(checkpoint['history']),
                     checkpoint['skipped_steps'], checkpoint['steps'], checkpoint['best_epochs'])
    counts = [state.epochs_done, state.skipped_steps, state.steps, *state.best_epochs.values()]
    if any(type(count) is not int or count < 0 for count in counts):
        raise TypeError(f'numbers of epochs and steps are {counts}')
    if set(state.best) != set(RunState().best) or not all(isinstance(loss, float) for loss in state.best.values()):
        raise TypeError(f'best losses are {state.best}')
    for row in state.history.rows:
        if not all(isinstance(row[column], int | float | None) for column in COLUMNS) or not isinstance(
                row.get('chosen', {}), dict):
            raise TypeError(f'a row of the losses is {row}')
    if len(state.history.rows) != state.epochs_done:
        raise ValueError(f'{len(state.history.rows)} rows of losses after {state.epochs_done} epochs')
    return state


def _load_optimizer(optimizer: torch.optim.Optimizer, stored: dict) -> None:
    """Load the state of an optimizer, in place.

    Raises:
        LookupError, TypeError, ValueError: it belongs to another network.
    """
    optimizer.load_state_dict(stored)
    for parameter, state in optimizer.state.items():  # torch checks the number of parameters only
        shapes = {tuple(value.shape) for value in state.values() if torch.is_tensor(value) and value.ndim}
        if shapes - {tuple(parameter.shape)}:
            raise ValueError(f'the optimizer has a state of shape {shapes} for a weight of {tuple(parameter.shape)}')


def depends_on_epochs(config: Mapping) -> str | None:
    """Return what in a run depends on the number of epochs; None if more epochs continue the run unchanged."""
    if config['LEARNING_RATE_SCHEDULE'] != 'constant':
        return f'LEARNING_RATE_SCHEDULE {config["LEARNING_RATE_SCHEDULE"]!r} depends on it'
    if config['PROGRESS_LOSS']['enabled'] and config['PROGRESS_LOSS']['lambda_curriculum']['enabled']:
        return 'PROGRESS_LOSS.lambda_curriculum depends on it'
    # Validation uses the final epoch's weights of these terms, so best losses before and after would not compare.
    if config['ALIGNMENT_WEIGHT'] and config['LOSS_TYPE']['GTCC'] and config['GTCC_PARAMS']['gamma'] < 1:
        return "GTCC's validation loss depends on it (GTCC_PARAMS.gamma below 1)"
    if config['ALIGNMENT_WEIGHT'] and config['LOSS_TYPE']['VAVA']:
        return "VAVA's validation loss depends on it"
    return None


def _check_same_settings(path: Path, stored: Mapping, given: Mapping) -> None:
    """Raise if settings differ that would change the results."""
    changed = changed_settings(stored, given)
    if changed == ['NUM_EPOCHS'] and given['NUM_EPOCHS'] > stored['NUM_EPOCHS']:
        if not (reason := depends_on_epochs(given)):
            LOGGER.info('the run goes on from %d to %d epochs', stored['NUM_EPOCHS'], given['NUM_EPOCHS'])
            return
        raise UserError(f'NUM_EPOCHS is {given["NUM_EPOCHS"]}, but {path} was written with {stored["NUM_EPOCHS"]}, and '
                        f'{reason}; resume with that number, or start a new run from its weights with --init_from '
                        f'{path.parent.parent}')
    for key in changed[:1]:
        raise UserError(f'{key} is {flatten(given).get(key)!r}, but {path} was written with '
                        f'{flatten(stored).get(key)!r}; resume with the settings of the first call')

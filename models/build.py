"""Configuration -> model: the one place that knows both, for training and for loading."""

from collections.abc import Mapping, Sequence

from torch import nn

from configs.generic_config import CONFIG
from models.encoders import IdentityEncoder, NaiveEncoder, Resnet50Encoder, StackingEncoder
from models.model_multiprong import MultiProngAttDropoutModel, SingleEncoderModel
from utils.errors import UserError
from utils.logging import get_logger
from utils.tensorops import Action

LOGGER = get_logger(__name__)
# Name of the encoder -> its class, its section under CONFIG.BASEARCH, and the name of its input width there.
ENCODERS = {
    'temporal_stacking': (StackingEncoder, 'TEMPORAL_STACKING_ARCH', 'input_dimensions'),
    'naive': (NaiveEncoder, 'NAIVE_ARCH', 'input_dimensions'),
    'resnet50': (Resnet50Encoder, 'Resnet50_ARCH', 'in_size'),
    'identity': (IdentityEncoder, 'IDENTITY_ARCH', 'input_dimensions'),
}
LEGACY_LAYOUT = 'legacy_attention_layout'
STEP_OPTIONS = ('steps', 'projection_dim', 'dropout', 'content_correction', 'condition_on_step', 'content_head')


def fill_in_sizes(config: Mapping, width: int, num_tasks: int) -> None:
    """Write what the data decides into the configuration, where the user left it open.

    Args:
        config: a CONFIG, changed in place.
        width: D of the features or C of the frames.
        num_tasks: tasks of the dataset, the number of heads unless set.

    Raises:
        UserError: the configuration asks for another width than the files have.
    """
    _, section, key = ENCODERS[config.BASEARCH.ARCHITECTURE]
    if config.BASEARCH[section][key] not in (None, width):
        raise UserError(f'BASEARCH.{section}.{key} is {config.BASEARCH[section][key]}, but the files are '
                        f'{width} wide; leave it out, or extract the features anew')
    config.BASEARCH[section][key] = width
    if config.BASEARCH.ARCHITECTURE == 'identity':
        if config.OUTPUT_DIMENSIONALITY not in (width, CONFIG.OUTPUT_DIMENSIONALITY):
            LOGGER.warning('--identity: embeddings are the features, of %d dimensions; OUTPUT_DIMENSIONALITY %d is not '
                           'used', width, config.OUTPUT_DIMENSIONALITY)
        config.OUTPUT_DIMENSIONALITY = width
    if config.ARCHITECTURE.num_heads is None:
        config.ARCHITECTURE.num_heads = num_tasks


def input_width(config: Mapping) -> int:
    """Return the width of the input that a configuration's encoder takes."""
    _, section, width = ENCODERS[config.BASEARCH.ARCHITECTURE]
    return config.BASEARCH[section][width]


def check_input_width(config: Mapping, width: int) -> None:
    """Refuse recordings of another width than a run's network reads.

    Args:
        config: CONFIG of the run.
        width: D of the features or C of the frames.

    Raises:
        UserError: it differs.
    """
    if width != input_width(config):
        raise UserError(f'dataset {config.DATASET_NAME}: its files are {width} wide, but the network reads '
                        f'{input_width(config)}; point DATASET_PATH to the features that the run was trained on')


def fill_in_steps(config: Mapping, actions: Mapping[str, Sequence[Sequence[Action]]]) -> None:
    """Write the steps that the head 'steps' knows into the configuration.

    Args:
        config: a CONFIG, changed in place.
        actions: task -> actions of each of its training recordings.

    Raises:
        UserError: there is such a head, but no action.
    """
    if config.PROGRESS_LOSS.head != 'steps':
        return
    config.PROGRESS_LOSS.steps = sorted({(task, action.name) for task, recordings in actions.items()
                                         for recording in recordings for action in recording})
    if config.PROGRESS_LOSS.enabled and not config.PROGRESS_LOSS.steps:
        raise UserError('PROGRESS_LOSS.head: the training recordings hold no action, expected at least one '
                        'to learn steps from; check the annotations and BACKGROUND_LABELS, or leave --progress out')


def build_model(config: Mapping) -> nn.Module:
    """Build the model of a configuration whose sizes are filled in, on the CPU.

    Args:
        config: a CONFIG.

    Returns:
        The multi-head cross-task network with ARCHITECTURE.MCN, else the single-encoder model.
    """
    encoder, section, _ = ENCODERS[config.BASEARCH.ARCHITECTURE]
    encoder_params = {**config.BASEARCH[section], 'output_dimensions': config.OUTPUT_DIMENSIONALITY}
    if encoder is StackingEncoder:
        encoder_params['causal'] = config.CAUSAL
    progress = config.PROGRESS_LOSS
    step_options = {key: progress[key] for key in STEP_OPTIONS} if progress.head == 'steps' else None
    shared = {
        'dropping': config.LOSS_TYPE.GTCC,  # drop vectors are GTCC's
        'drop_layers': config.ARCHITECTURE.drop_layers,
        'use_progress_head': progress.enabled,
        'progress_head_hidden_dim': progress.hidden_dim,
        'progress_head_use_gru': progress.use_gru,
        'progress_head_normalize_embeddings': progress.normalize_embeddings,
        'progress_head_step_options': step_options,
    }
    if not config.ARCHITECTURE.MCN:
        return SingleEncoderModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY, **shared)
    # tools.convert_checkpoint alone writes the key of the layout: it is no setting, so that no new model can have it.
    return MultiProngAttDropoutModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY,
                                     config.ARCHITECTURE.num_heads, attn_layers=config.ARCHITECTURE.attn_layers,
                                     legacy_attention_layout=config.ARCHITECTURE.get(LEGACY_LAYOUT, False) is True,
                                     **shared)

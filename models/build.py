"""Configuration -> model: the one place that knows both, for training and for loading."""

from collections.abc import Mapping
from functools import partial
from pkgutil import resolve_name

from torch import nn

from configs.choices import ENCODERS, HEADS
from configs.generic_config import CONFIG
from configs.validation import SET
from models.encoders import Encoder
from models.heads.base import ActionsByTask, ProgressHeadBase
from models.model_multiprong import MultiProngAttDropoutModel, SingleEncoderModel
from utils.errors import UserError
from utils.logging import get_logger

LOGGER = get_logger(__name__)
LEGACY_LAYOUT = 'legacy_attention_layout'


def encoder_class(config: Mapping) -> type[Encoder]:
    """Return the class of a configuration's encoder."""
    return resolve_name(ENCODERS[config.BASEARCH.ARCHITECTURE].cls)


def head_class(config: Mapping) -> type[ProgressHeadBase]:
    """Return the class of a configuration's progress head."""
    return resolve_name(HEADS[config.PROGRESS_LOSS.head].cls)


def reads_frames(config: Mapping) -> bool:
    """Return True if the configuration's encoder takes frames (T, C, H, W), False if features (T, D)."""
    return encoder_class(config).input_axes == 'TCHW'


def fill_in_sizes(config: Mapping, width: int, num_tasks: int) -> None:
    """Write what the data decides into the configuration, where the user left it open.

    Args:
        config: a CONFIG, changed in place.
        width: D of the features or C of the frames.
        num_tasks: tasks of the dataset, the number of heads unless set.

    Raises:
        UserError: the configuration asks for another width than the files have.
    """
    entry = ENCODERS[config.BASEARCH.ARCHITECTURE]
    settings = config.BASEARCH[entry.section]
    if settings[entry.input_key] not in (None, width):
        raise UserError(f'{entry.input_setting} is {settings[entry.input_key]}, but the files are {width} wide; leave '
                        'it out, or extract the features anew')
    settings[entry.input_key] = width
    if encoder_class(config).keeps_features:
        if config.OUTPUT_DIMENSIONALITY not in (width, CONFIG.OUTPUT_DIMENSIONALITY):
            LOGGER.warning('%s: embeddings are the features, of %d dimensions; OUTPUT_DIMENSIONALITY %d is not used',
                           entry.flags[0], width, config.OUTPUT_DIMENSIONALITY)
        config.OUTPUT_DIMENSIONALITY = width
    if config.ARCHITECTURE.num_heads is None:
        config.ARCHITECTURE.num_heads = num_tasks


def input_width(config: Mapping) -> int:
    """Return the width of the input that a configuration's encoder takes."""
    entry = ENCODERS[config.BASEARCH.ARCHITECTURE]
    return config.BASEARCH[entry.section][entry.input_key]


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


def check_model(config: Mapping) -> None:
    """Refuse settings of encoder and progress head that contradict each other, before data are read.

    Raises:
        UserError: there is nothing to train, nothing trains the encoder, the head cannot learn from the configured
            sampling, or a setting is not one of the head's own.
    """
    if encoder_class(config).keeps_features and not (config.ARCHITECTURE.MCN or config.PROGRESS_LOSS.enabled):
        raise UserError(f'BASEARCH.ARCHITECTURE is {config.BASEARCH.ARCHITECTURE}: nothing is left to train'
                        f'{SET}ARCHITECTURE.MCN or PROGRESS_LOSS.enabled')
    _check_head(config.PROGRESS_LOSS, head_class(config))
    trained = (encoder_class(config).keeps_features or config.ALIGNMENT_WEIGHT or config.FREEZE_ENCODER
               or config.INIT_FROM or not head_class(config).fits_embeddings)
    if not trained:
        raise UserError(f'BASEARCH.ARCHITECTURE is {config.BASEARCH.ARCHITECTURE}: nothing trains it, as '
                        f'ALIGNMENT_WEIGHT is 0 and PROGRESS_LOSS.head {config.PROGRESS_LOSS.head!r} is fitted in '
                        f"closed form{SET}ALIGNMENT_WEIGHT, or BASEARCH.ARCHITECTURE to 'identity'")


def _check_head(settings: Mapping, head: type[ProgressHeadBase]) -> None:
    """Refuse a sampling that the head cannot learn from, and settings of other heads."""
    if settings.sampling not in head.SAMPLINGS:
        raise UserError(f'PROGRESS_LOSS.sampling is {settings.sampling!r}, expected {" or ".join(head.SAMPLINGS)} with '
                        f'PROGRESS_LOSS.head {settings.head!r}{SET}PROGRESS_LOSS.sampling or PROGRESS_LOSS.head')
    heads = {name: resolve_name(choice.cls) for name, choice in HEADS.items()}
    options = {option for known in heads.values() for option in known.OPTIONS}
    for option in sorted(options - set(head.OPTIONS)):
        if settings[option] != CONFIG.PROGRESS_LOSS[option]:
            others = ' or '.join(repr(name) for name, other in heads.items() if option in other.OPTIONS)
            raise UserError(f'PROGRESS_LOSS.{option} is {settings[option]!r}, but it has no effect with '
                            f'PROGRESS_LOSS.head {settings.head!r}; set PROGRESS_LOSS.head to {others}, or leave it '
                            'out')


def fill_in_head(config: Mapping, training: ActionsByTask) -> None:
    """Write what the annotations decide into the settings of the progress head, in place.

    Args:
        config: a CONFIG.
        training: actions of the training recordings.

    Raises:
        UserError: the head cannot learn from these recordings.
    """
    head_class(config).fill_in(config.PROGRESS_LOSS, training)


def build_model(config: Mapping) -> nn.Module:
    """Build the model of a configuration whose sizes are filled in, on the CPU.

    Args:
        config: a CONFIG.

    Returns:
        The multi-head cross-task network with ARCHITECTURE.MCN, else the single-encoder model.
    """
    encoder = encoder_class(config)
    encoder_params = {**config.BASEARCH[ENCODERS[config.BASEARCH.ARCHITECTURE].section],
                      'output_dimensions': config.OUTPUT_DIMENSIONALITY}
    if encoder.has_causal_form:
        encoder_params['causal'] = config.CAUSAL
    progress = config.PROGRESS_LOSS
    head = head_class(config)
    head_options = {option: progress[option] for option in head.OPTIONS}
    shared = {
        'dropping': config.LOSS_TYPE.GTCC,  # drop vectors are GTCC's
        'drop_layers': config.ARCHITECTURE.drop_layers,
        'make_progress_head': partial(head, **head_options) if progress.enabled else None,
    }
    if not config.ARCHITECTURE.MCN:
        return SingleEncoderModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY, **shared)
    # tools.convert_checkpoint alone writes the key of the layout: it is no setting, so that no new model can have it.
    return MultiProngAttDropoutModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY,
                                     config.ARCHITECTURE.num_heads, attn_layers=config.ARCHITECTURE.attn_layers,
                                     legacy_attention_layout=config.ARCHITECTURE.get(LEGACY_LAYOUT, False) is True,
                                     **shared)

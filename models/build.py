"""Build a model from a configuration; used by training and loading."""

from collections.abc import Mapping
from functools import partial

import torch

from configs.choices import ENCODERS, HEADS
from configs.generic_config import CONFIG
from configs.validation import SET, flatten
from models.encoders import Encoder
from models.heads.base import ActionsByTask, ProgressHeadBase
from models.model_multiprong import MultiProngAttDropoutModel, ProgressModel, SingleEncoderModel
from models.standardizer import FeatureStandardizer
from utils.addresses import resolve
from utils.errors import UserError
from utils.logging import get_logger
from utils.memory import total_memory

LOGGER = get_logger(__name__)
REQUIRED = ('forward', 'forward_dense', 'step')  # methods of a progress head
LEGACY_LAYOUT = 'legacy_attention_layout'
USUAL_SIZE = 4096  # with layers up to this size, a network fits into the memory of any machine


def encoder_class(config: Mapping) -> type[Encoder]:
    """Return the encoder class that a configuration names."""
    # Choices hold the addresses of classes, because configs imports neither models nor torch.
    name = config.BASEARCH.ARCHITECTURE
    return resolve(ENCODERS[name].cls, f'configs/choices.py: ENCODERS[{name!r}]')


def head_class(config: Mapping) -> type[ProgressHeadBase]:
    """Return the progress head class that a configuration names."""
    return _head(config.PROGRESS_LOSS.head)


def _head(name: str) -> type[ProgressHeadBase]:
    """Return a class of ``HEADS``, checked to have the methods that every head must implement."""
    entry = f'configs/choices.py: HEADS[{name!r}]'
    cls = resolve(HEADS[name].cls, entry)
    if not (isinstance(cls, type) and issubclass(cls, ProgressHeadBase)):
        raise UserError(f'{entry}: {HEADS[name].cls!r} is not a progress head, expected a subclass of '
                        'models.heads.base.ProgressHeadBase; fix the entry or the class')
    # Training may not call all of them, so a missing method would fail after it, in evaluation or in a stream.
    if missing := [method for method in REQUIRED if getattr(cls, method) is getattr(ProgressHeadBase, method)]:
        raise UserError(f'{entry}: {HEADS[name].cls!r} does not implement {", ".join(missing)}, expected '
                        f'{", ".join(REQUIRED)}; implement them as docs/extending.md shows')
    return cls


def reads_frames(config: Mapping) -> bool:
    """Return True if the configuration's encoder takes frames (T, C, H, W), False if features (T, D)."""
    return encoder_class(config).input_axes == 'TCHW'


def fill_in_sizes(config: Mapping, feature_dim: int, num_tasks: int) -> None:
    """Fill in the sizes that the user did not set, from the data.

    Args:
        config: a CONFIG, changed in place.
        feature_dim: D of the features or C of the frames.
        num_tasks: number of tasks of the dataset; the number of heads unless that is set.

    Raises:
        UserError: the configured feature dimension differs from that of the files.
    """
    entry = ENCODERS[config.BASEARCH.ARCHITECTURE]
    settings = config.BASEARCH[entry.section]
    if settings[entry.input_key] not in (None, feature_dim):  # None: not set by the user
        raise UserError(f'{entry.input_setting} is {settings[entry.input_key]}, but the files have {feature_dim} '
                        'feature dimensions; leave it out, or extract the features again')
    settings[entry.input_key] = feature_dim
    if encoder_class(config).keeps_features:
        # The default is no choice of the user, so it is replaced without a warning.
        if config.OUTPUT_DIMENSIONALITY not in (feature_dim, CONFIG.OUTPUT_DIMENSIONALITY):
            LOGGER.warning('%s: embeddings are the features, of %d dimensions; OUTPUT_DIMENSIONALITY %d is not used',
                           entry.flags[0], feature_dim, config.OUTPUT_DIMENSIONALITY)
        config.OUTPUT_DIMENSIONALITY = feature_dim
    if config.ARCHITECTURE.num_heads is None:
        config.ARCHITECTURE.num_heads = num_tasks


def input_width(config: Mapping) -> int:
    """Return the feature dimension that a configuration's encoder reads."""
    entry = ENCODERS[config.BASEARCH.ARCHITECTURE]
    return config.BASEARCH[entry.section][entry.input_key]


def check_input_width(config: Mapping, feature_dim: int) -> None:
    """Check that recordings have the feature dimension that a run's network reads.

    Args:
        config: CONFIG of the run.
        feature_dim: D of the features or C of the frames.

    Raises:
        UserError: the two differ.
    """
    if feature_dim != input_width(config):
        raise UserError(f'dataset {config.DATASET_NAME}: its files have {feature_dim} feature dimensions, but the '
                        f'network reads {input_width(config)}; point DATASET_PATH to the features that the run was '
                        'trained on')


def check_model(config: Mapping) -> None:
    """Check that the settings of encoder and progress head do not contradict each other, before data are read.

    Raises:
        UserError: there is nothing to train, nothing trains the encoder, the head cannot learn from the configured
            sampling, or a setting belongs to another head.
    """
    if encoder_class(config).keeps_features and not (config.ARCHITECTURE.MCN or config.PROGRESS_LOSS.enabled):
        raise UserError(f'BASEARCH.ARCHITECTURE is {config.BASEARCH.ARCHITECTURE}: nothing is left to train'
                        f'{SET}ARCHITECTURE.MCN or PROGRESS_LOSS.enabled')
    if config.STANDARDIZE_FEATURES and reads_frames(config):
        raise UserError(f'STANDARDIZE_FEATURES is True, but {config.BASEARCH.ARCHITECTURE} reads frames, which are not '
                        f'standardized{SET}STANDARDIZE_FEATURES to false')
    _check_head(config.PROGRESS_LOSS, head_class(config))
    # An encoder needs no training here if it has no weights, or keeps those of INIT_FROM or FREEZE_ENCODER. Otherwise
    # alignment trains it, or the gradient of a head that is not fitted in closed form.
    trained = (encoder_class(config).keeps_features or config.ALIGNMENT_WEIGHT or config.FREEZE_ENCODER
               or config.INIT_FROM or not head_class(config).fits_embeddings)
    if not trained:
        raise UserError(f'BASEARCH.ARCHITECTURE is {config.BASEARCH.ARCHITECTURE}: nothing trains it, as '
                        f'ALIGNMENT_WEIGHT is 0 and PROGRESS_LOSS.head {config.PROGRESS_LOSS.head!r} is fitted in '
                        f"closed form{SET}ALIGNMENT_WEIGHT, or BASEARCH.ARCHITECTURE to 'identity'")


def has_weights(config: Mapping) -> bool:
    """Return False if training changes no weights: features as embeddings, and a head that is fitted in closed form."""
    return bool(not encoder_class(config).keeps_features or config.ARCHITECTURE.MCN or config.ALIGNMENT_WEIGHT
                or not head_class(config).fits_embeddings)


def _check_head(settings: Mapping, head: type[ProgressHeadBase]) -> None:
    """Check that the head can learn from the configured sampling, and that no setting belongs to another head."""
    if settings.sampling not in head.SAMPLINGS:
        raise UserError(f'PROGRESS_LOSS.sampling is {settings.sampling!r}, expected {" or ".join(head.SAMPLINGS)} with '
                        f'PROGRESS_LOSS.head {settings.head!r}{SET}PROGRESS_LOSS.sampling or PROGRESS_LOSS.head')
    heads = {name: _head(name) for name in HEADS}
    # An option may belong to several heads, hence the difference of sets.
    options = {option for known in heads.values() for option in known.OPTIONS}
    for option in sorted(options - set(head.OPTIONS)):
        # A default value may have been left there; any other value was set and would have no effect.
        if settings[option] != CONFIG.PROGRESS_LOSS[option]:
            others = ' or '.join(repr(name) for name, other in heads.items() if option in other.OPTIONS)
            raise UserError(f'PROGRESS_LOSS.{option} is {settings[option]!r}, but it has no effect with '
                            f'PROGRESS_LOSS.head {settings.head!r}; set PROGRESS_LOSS.head to {others}, or leave it '
                            'out')


def fill_in_head(config: Mapping, training: ActionsByTask) -> None:
    """Fill in the progress head's settings that follow from the annotations, in place.

    Args:
        config: a CONFIG.
        training: actions of the training recordings.

    Raises:
        UserError: the head cannot learn from these recordings.
    """
    head_class(config).fill_in(config.PROGRESS_LOSS, training)


def build_model(config: Mapping, copies: int = 1) -> ProgressModel:
    """Build the model of a configuration on the CPU; call :func:`fill_in_sizes` first.

    Args:
        config: a CONFIG.
        copies: how often its weights have to fit into memory: 1, or in training 4, with gradients and Adam's moments.

    Returns:
        The multi-head cross-task network if ``ARCHITECTURE.MCN`` is set, else the single-encoder model.

    Raises:
        UserError: it does not fit into the memory of the machine.
    """
    sizes = flatten({'encoder': config.BASEARCH, 'network': config.ARCHITECTURE, 'head': config.PROGRESS_LOSS,
                     'embedding': config.OUTPUT_DIMENSIONALITY}).values()
    sizes = [size for value in sizes for size in (value if isinstance(value, list) else [value])
             if isinstance(size, int)]
    if max(sizes) > USUAL_SIZE:
        with torch.device('meta'):  # weights without memory; the first one takes seconds, hence not always
            weights = list(_build(config).parameters())
        needed = copies * sum(weight.numel() * weight.element_size() for weight in weights)
        if needed > total_memory():
            raise UserError(f'the network has {sum(weight.numel() for weight in weights):,} parameters, which need '
                            f'{needed / 2**30:,.0f} GiB, and this machine has {total_memory() / 2**30:,.0f} GiB; give '
                            f'smaller sizes: the largest is {max(sizes)}')
    return _build(config)


def _build(config: Mapping) -> ProgressModel:
    """Return the model of a configuration on the default device."""
    encoder = encoder_class(config)
    encoder_params = {**config.BASEARCH[ENCODERS[config.BASEARCH.ARCHITECTURE].section],
                      'output_dimensions': config.OUTPUT_DIMENSIONALITY}
    if encoder.has_causal_form:
        encoder_params['causal'] = config.CAUSAL
    progress = config.PROGRESS_LOSS
    head = head_class(config)
    head_options = {option: progress[option] for option in head.OPTIONS}
    shared = {
        'dropping': config.LOSS_TYPE.GTCC and config.ALIGNMENT_WEIGHT > 0,  # only GTCC reads drop vectors
        'drop_layers': config.ARCHITECTURE.drop_layers,
        'make_progress_head': partial(head, **head_options) if progress.enabled else None,
    }
    if config.ARCHITECTURE.MCN:
        model = _build_multi_head(encoder, encoder_params, config, shared)
    else:
        model = SingleEncoderModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY, **shared)
    if config.STANDARDIZE_FEATURES:
        model.standardizer = FeatureStandardizer(input_width(config))
    return model


def _build_multi_head(encoder: type[Encoder], encoder_params: dict, config: Mapping, shared: Mapping) -> ProgressModel:
    """Return the multi-head network; ``shared`` are the arguments of both models."""
    # Only tools.convert_checkpoint writes the layout key. It is not a setting, so new models cannot use the layout.
    return MultiProngAttDropoutModel(encoder, encoder_params, config.OUTPUT_DIMENSIONALITY,
                                     config.ARCHITECTURE.num_heads, attn_layers=config.ARCHITECTURE.attn_layers,
                                     legacy_attention_layout=config.ARCHITECTURE.get(LEGACY_LAYOUT, False) is True,
                                     **shared)

"""Settings on the command line that have no effect next to the other settings of a run."""

import argparse
from collections.abc import Iterator, Mapping

from configs.choices import ENCODERS, LOSSES
from configs.entry_config import config_sources
from configs.generic_config import CONFIG
from configs.validation import flatten

# They say how weights are trained.
OF_WEIGHTS = ('AMP', 'CLIP_GRAD_NORM', 'FREEZE_ENCODER', 'HEAD_CLIP_GRAD_NORM', 'LEARNING_RATE',
              'LEARNING_RATE_SCHEDULE', 'PROGRESS_LOSS.detach_embeddings', 'PROGRESS_LOSS.head_learning_rate',
              'WEIGHT_DECAY')


def unused_settings(config: Mapping, arguments: argparse.Namespace, *, has_weights: bool) -> list[str]:
    """Return a sentence for each setting on the command line that has no effect.

    A config file may hold settings of any loss, encoder, and head, so that an option can choose another one; its
    settings are not named, and neither are defaults.

    Args:
        config: CONFIG of the run.
        arguments: command line that it was built from.
        has_weights: False if training changes no weights: features as embeddings, and a head in closed form.
    """
    defaults, values, reasons = flatten(CONFIG), flatten(config), list(_reasons(config, arguments, has_weights))
    found = []
    for key, source in config_sources(config, arguments).items():
        if source.startswith('--') and not source.startswith('--config ') and values[key] != defaults[key]:
            reason = next((reason for prefix, reason in reasons if key == prefix or key.startswith(f'{prefix}.')), None)
            if reason:
                found.append(f'{source}: {key} has no effect, as {reason}; leave it out')
    return found


def _reasons(config: Mapping, arguments: argparse.Namespace, has_weights: bool) -> Iterator[tuple[str, str]]:
    """Yield settings without effect, or the section that they are in, each with the reason."""
    for name, loss in LOSSES.items():
        if not (config.LOSS_TYPE[name] and config.ALIGNMENT_WEIGHT):
            yield loss.section, f'{name} is not the alignment loss of this run'
    for name, encoder in ENCODERS.items():
        if name != config.BASEARCH.ARCHITECTURE:
            yield f'BASEARCH.{encoder.section}', f'the encoder is {config.BASEARCH.ARCHITECTURE}'
    if config.BASEARCH.ARCHITECTURE != 'temporal_stacking':
        yield 'CAUSAL', f'the encoder is {config.BASEARCH.ARCHITECTURE}'
    if not config.ARCHITECTURE.MCN:
        yield from ((f'ARCHITECTURE.{key}', 'ARCHITECTURE.MCN is false') for key in ('attn_layers', 'num_heads'))
    if not (config.LOSS_TYPE.GTCC and config.ALIGNMENT_WEIGHT):
        yield 'ARCHITECTURE.drop_layers', 'only GTCC drops frames'
    if not config.PROGRESS_LOSS.enabled:
        yield 'PROGRESS_LOSS', 'there is no progress head'
    if config.PROGRESS_LOSS.sampling != 'segment':
        yield 'PROGRESS_LOSS.min_segment_len', f'PROGRESS_LOSS.sampling is {config.PROGRESS_LOSS.sampling}'
    if arguments.splits:
        yield 'TRAIN_SPLIT', '--splits gives the split'
    if not has_weights:
        yield from ((key, 'this run has no weights to train') for key in OF_WEIGHTS)

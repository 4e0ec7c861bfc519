"""Combine alignment loss and progress loss, weighted by a schedule, into one dictionary."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.choices import LOSSES
from configs.generic_config import CONFIG
from utils.addresses import resolve
from utils.errors import UserError
from utils.tensorops import (
    SampledSegment,
    list_actions,
    sample_action_prefix,
    sample_action_segment_with_random_index,
    sample_whole_actions,
)

PENALTIES = {'l1': F.l1_loss, 'l2': F.mse_loss}  # PROGRESS_LOSS.loss_type
SEGMENT_REDRAWS = 3  # additional draws if a segment has only one frame
AlignmentTerm = Callable[[Mapping, int], Tensor]


class LossTerms(dict):
    """The loss terms of a batch as 0-d tensors by name.

    Args:
        terms: name -> value.
        present: names of the terms that the batch has data for, or name -> number of items the term averages over.

    Attributes:
        counts: name -> number of outputs (alignment) or segments (progress) that the term averages over.
        present: names of the terms that the batch has data for. A batch of one recording has no alignment term, and a
            batch without actions has no progress term. Their values are zeros, which averages should not include.
    """

    def __init__(self, terms: Mapping[str, Tensor], present: Sequence[str] | Mapping[str, int]) -> None:
        super().__init__(terms)
        self.counts = dict(present) if isinstance(present, Mapping) else dict.fromkeys(present, 1)
        self.present = frozenset(name for name, count in self.counts.items() if count)


def get_progress_lambda(epoch: int, num_epochs: int, progress_config: Mapping) -> float:
    """Return the weight of the progress loss.

    Args:
        epoch: counted from 0.
        num_epochs: epochs of the run.
        progress_config: CONFIG.PROGRESS_LOSS.

    Returns:
        'coefficient', or, if the curriculum is enabled, a value that increases linearly from 'start' in the first epoch
        to 'end' in the last.
    """
    settings = {**CONFIG.PROGRESS_LOSS, **progress_config}
    curriculum = settings['lambda_curriculum']
    if not curriculum.get('enabled', False):
        return settings['coefficient']
    # max(): a run of one epoch uses 'start' instead of dividing by 0.
    return curriculum['start'] + (curriculum['end'] - curriculum['start']) * epoch / max(num_epochs - 1, 1)


def get_loss_function(config_obj: Mapping, num_epochs: int | None = None) -> Callable[..., LossTerms]:
    """Return the loss function of a run.

    Args:
        config_obj: a CONFIG.
        num_epochs: length of the curriculum; None: CONFIG.NUM_EPOCHS.

    Returns:
        ``loss_fn(output_dict_list, epoch, times=None) -> LossTerms``. If ``output_dict_list`` is one output of
        the model, ``times`` is its list of dicts; if it is a list of outputs, ``times`` is a list of such lists.
        ``epoch`` is counted from 0. Keys: 'total_loss' (alignment + lambda * progress), 'alignment_loss' (sum of the
        active terms times ALIGNMENT_WEIGHT; at 0 they are not computed), '<term>_loss' for each active term,
        unweighted, and, if progress is enabled, 'progress_loss' (unweighted mean over the sampled segments).

    Raises:
        UserError: LOSS_TYPE contains an unknown term.
    """
    progress_config = {**CONFIG.PROGRESS_LOSS, **getattr(config_obj, 'PROGRESS_LOSS', {})}
    epochs = num_epochs or getattr(config_obj, 'NUM_EPOCHS', None) or CONFIG.NUM_EPOCHS
    alignment_weight = getattr(config_obj, 'ALIGNMENT_WEIGHT', CONFIG.ALIGNMENT_WEIGHT)
    # With weight 0 the losses are not computed at all, rather than multiplied by 0.
    terms = _alignment_terms(config_obj) if alignment_weight else {}
    progress = None
    if progress_config['enabled']:
        background = getattr(config_obj, 'BACKGROUND_LABELS', CONFIG.BACKGROUND_LABELS)
        progress = partial(progress_loss, progress_config=progress_config, background_labels=background)

    def loss_fn(output_dict_list: Mapping | Sequence[Mapping], epoch: int, times: Sequence | None = None) -> LossTerms:
        if isinstance(output_dict_list, Mapping):
            # One output of the model is a list of one.
            output_dict_list, times = [output_dict_list], None if times is None else [times]
        losses, counts = _alignment_losses(terms, output_dict_list, epoch, alignment_weight)
        losses['total_loss'] = losses['alignment_loss']
        if progress:
            progress_terms, count = progress(output_dict_list, times)
            losses.update(progress_terms)
            counts.update(dict.fromkeys(progress_terms, count))
            weight = get_progress_lambda(epoch, epochs, progress_config)
            losses['total_loss'] = losses['alignment_loss'] + weight * losses['progress_loss']
        return LossTerms(losses, counts)

    return loss_fn


def _alignment_terms(config_obj: Mapping) -> dict[str, AlignmentTerm]:
    """Return the active alignment losses as functions of a model output and the epoch."""
    active = [name for name, chosen in config_obj.LOSS_TYPE.items() if chosen]
    if unknown := set(active) - set(LOSSES):
        raise UserError(f'LOSS_TYPE: {", ".join(sorted(unknown))} is unknown, expected {", ".join(LOSSES)}')
    return {name: _alignment_term(resolve(LOSSES[name].function, f'configs/choices.py: LOSSES[{name!r}]'),
                                  getattr(config_obj, LOSSES[name].section, {})) for name in active}


def _alignment_term(loss: Callable[..., Tensor], settings: Mapping) -> AlignmentTerm:
    """Return a loss as a function of a model output and the epoch.

    Args:
        loss: function of the embeddings of a batch.
        settings: keyword arguments of the loss.
    """
    # Losses differ in what they need besides embeddings: each gets the arguments that it names.
    accepted = inspect.signature(loss).parameters

    def term(output: Mapping, epoch: int) -> Tensor:
        batch = {'dropouts': output.get('dropouts'), 'epoch': epoch, 'global_step': epoch}
        return loss(output['outputs'], **{name: batch[name] for name in batch if name in accepted}, **settings)

    return term


def _alignment_losses(terms: Mapping[str, AlignmentTerm], outputs: Sequence[Mapping], epoch: int,
                      weight: float) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Average each term over the outputs with at least two recordings, and count these outputs."""
    # A single recording has no partner to align with.
    aligned = [output for output in outputs if len(output['outputs']) >= 2]
    losses = {}
    for name, term in terms.items():
        losses[f'{name}_loss'] = (torch.stack([term(output, epoch) for output in aligned]).mean() if aligned
                                  else _attached_zero(outputs))
    losses['alignment_loss'] = weight * sum(losses.values()) if losses else _attached_zero(outputs)
    return losses, dict.fromkeys(losses, len(aligned) if terms else 0)


def _attached_zero(outputs: Sequence[Mapping]) -> Tensor:
    """Return a zero attached to the graph of the embeddings, so that the backward pass runs."""
    zeros = [embedding.sum() * 0 for output in outputs for embedding in output['outputs']]
    return torch.stack(zeros).sum() if zeros else torch.zeros((), requires_grad=True)


def progress_loss(outputs: Sequence[Mapping], times: Sequence[Sequence[Mapping]], *, progress_config: Mapping,
                  background_labels: Sequence[str]) -> tuple[dict[str, Tensor], int]:
    """Compare predicted and true progress on sampled segments, with a single call of the head.

    Args:
        outputs: outputs of the model, all with the same 'progress_head'.
        times: for each output, the ``times`` of its recordings.
        progress_config: CONFIG.PROGRESS_LOSS.
        background_labels: labels of segments that are not actions.

    Returns:
        'progress_loss', the sum of the terms of the head's own loss on the segments, and the number of segments. If
        there are no segments, the loss is a zero attached to the graph.

    Raises:
        ValueError: ``times`` is None, or does not match the recordings of the outputs.
    """
    if times is None:
        raise ValueError('times is None, expected one dict per recording: the progress loss samples from it')
    segments: list[SampledSegment] = []
    for output, recordings in zip(outputs, times, strict=True):
        for embeddings, recording in zip(output['outputs'], recordings, strict=True):
            if progress_config['detach_embeddings']:
                embeddings = embeddings.detach()  # the encoder then learns from alignment alone
            segments += (_sample_actions(embeddings, recording, progress_config, background_labels,
                                         output['progress_head']) if progress_config['sampling'] == 'dense' else
                         _sample_segments(embeddings, recording, progress_config, background_labels))
    if not segments:
        # Attached to the weights of the head, too, so that they have a gradient of 0 instead of None.
        return {'progress_loss': _attached_zero(outputs) + sum(weight.sum() * 0 for output in outputs for weight
                                                               in output['progress_head'].parameters())}, 0
    head, penalty = outputs[0]['progress_head'], PENALTIES[progress_config['loss_type']]
    return {'progress_loss': sum(head.loss(segments, penalty).values())}, len(segments)


def _sample_actions(embeddings: Tensor, recording: Mapping, progress_config: Mapping,
                    background_labels: Sequence[str], head: nn.Module) -> list[SampledSegment]:
    """Sample whole actions of a recording; every frame of them is supervised."""
    drawn = sample_whole_actions(embeddings, recording, progress_config['samples_per_video'],
                                 background_labels=background_labels)
    actions = list_actions(recording, len(embeddings), background_labels)
    # From all actions of the recording, not only those drawn: completed actions tell the pace.
    contexts = dict(zip(actions, head.contexts(recording.get('task'), actions), strict=True))
    return [SampledSegment(segment, target, contexts[action]) for segment, target, action in drawn]


def _sample_segments(embeddings: Tensor, recording: Mapping, progress_config: Mapping,
                     background_labels: Sequence[str]) -> list[SampledSegment]:
    """Sample segments of a recording; only their last frame is supervised."""
    if progress_config['sampling'] == 'prefix':
        def draw() -> tuple:
            return sample_action_prefix(embeddings, recording, background_labels=background_labels)
    else:
        def draw() -> tuple:
            return _draw_long_segment(embeddings, recording, progress_config['min_segment_len'],
                                      background_labels)
    drawn = [draw() for _ in range(progress_config['samples_per_video'])]
    return [SampledSegment(segment, embeddings.new_tensor(target)) for segment, target, _ in drawn
            if segment is not None]


def _draw_long_segment(embeddings: Tensor, recording: Mapping, min_segment_len: int,
                       background_labels: Sequence[str]) -> tuple:
    """Sample again until a segment has two frames, because a single frame contains no history."""
    for _ in range(1 + SEGMENT_REDRAWS):
        drawn = sample_action_segment_with_random_index(embeddings, recording, min_segment_len,
                                                        background_labels=background_labels)
        if drawn[0] is None or len(drawn[0]) >= 2:
            return drawn
    return None, None, None

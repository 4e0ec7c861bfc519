"""Progress of a recording's actions by a model's head: what evaluation and prediction compute."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from utils.tensorops import Action


@torch.no_grad()
def predict_actions(model: nn.Module, embedding: Tensor, actions: Sequence[Action], task: str | None) -> list[Tensor]:
    """Compute the progress of every action of a recording, at each of its frames.

    Args:
        model: model with a progress head, in eval mode.
        embedding: embeddings (T, E) of the recording, on the model's device.
        actions: actions of the recording, in order of time; both ends inclusive, in frames of the embedding.
        task: task of the recording; None if unknown.

    Returns:
        Progress (n,) in [0, 1] of each action, float64 on the CPU. It depends on the action's own frames, on the
        encoder's ``lookahead`` frames after each of them, and on what the head knows about earlier actions.
    """
    if not actions:  # heads refuse an empty batch
        return []
    # One call for all actions: a head pads them to one batch. An action's context tells it about earlier ones only.
    segments = _segments(embedding, actions)
    curves = model.progress_head.forward_dense(segments, model.progress_head.contexts(task, actions))
    model.progress_head.check_dense(curves, segments)
    return [curve.double().cpu() for curve in curves]


@torch.no_grad()
def predict_intervals(model: nn.Module, embedding: Tensor, actions: Sequence[Action],
                      task: str | None) -> list[Tensor]:
    """Compute the 5 and 95 % quantiles of the progress that :func:`predict_actions` computes.

    Args:
        model: as there.
        embedding: as there.
        actions: as there.
        task: as there.

    Returns:
        (n, 2) of each action, float64 on the CPU; NaN if the head offers no intervals.
    """
    head = model.progress_head
    if not actions or not head.offers_intervals:
        lengths = [len(segment) for segment in _segments(embedding, actions)]
        return [torch.full((length, 2), torch.nan, dtype=torch.float64) for length in lengths]
    bounds = head.forward_intervals(_segments(embedding, actions), head.contexts(task, actions))
    return [bound.double().cpu() for bound in bounds]


def _segments(embedding: Tensor, actions: Sequence[Action]) -> list[Tensor]:
    return [embedding[action.start:action.end + 1] for action in actions]  # (n_i, E)

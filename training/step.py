"""One training step: model and loss as one module, optimizer groups, clips."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from models.model_multiprong import HEAD_PREFIX
from utils.loss_entry import LossTerms


class LossModule(nn.Module):
    """Model and loss as one module, so that whatever wraps it sees every parameter in its forward pass.

    Args:
        model: network; takes a list of videos.
        loss_fn: what ``get_loss_function`` returned.
        amp: compute the network in bf16 where that serves (autocast) in training mode; the losses, and the progress
            head, which they call, read its outputs as float32.
    """

    def __init__(self, model: nn.Module, loss_fn: Callable[..., LossTerms], *, amp: bool = False) -> None:
        super().__init__()
        self.model, self.loss_fn, self.amp = model, loss_fn, amp

    def forward(self, videos: Sequence, times: Sequence[dict], epoch: int) -> LossTerms:
        """Return the loss terms of a batch; ``epoch`` counts from 0.

        An empty batch, that of a process for which none was left, gives zeros attached to a weight; they count nothing.
        """
        if not videos:
            zero = next(weight for weight in self.model.parameters() if weight.requires_grad).sum() * 0
            return LossTerms({'alignment_loss': zero, 'total_loss': zero}, [])
        if not (self.amp and self.training):
            return self.loss_fn(self.model(videos), epoch, times=times)
        with torch.autocast(next(self.model.parameters()).device.type, torch.bfloat16):
            outputs = self.model(videos)
        return self.loss_fn(_in_float32(outputs), epoch, times=times)


def _in_float32(outputs: Mapping) -> dict:
    """Return a model's outputs with all tensors in float32."""
    return {name: [tensor.float() for tensor in value] if isinstance(value, list) else value
            for name, value in outputs.items()}


def build_optimizer(model: nn.Module, learning_rate: float, head_learning_rate: float | None = None,
                    weight_decay: float = 0.0) -> torch.optim.AdamW:
    """Return Adam with the progress head as a group of its own.

    Args:
        model: network, with or without ``progress_head``.
        learning_rate: of all but the head.
        head_learning_rate: of the head; None takes ``learning_rate``.
        weight_decay: share of the weights, times the learning rate, that a step takes away; 0 is plain Adam.
    """
    head = [weight for name, weight in model.named_parameters() if name.startswith(HEAD_PREFIX)]
    rest = [weight for name, weight in model.named_parameters() if not name.startswith(HEAD_PREFIX)]
    groups = [{'params': rest, 'lr': learning_rate, 'name': 'encoder'}]
    if head:
        groups.append({'params': head, 'lr': head_learning_rate or learning_rate, 'name': 'progress_head'})
    for group in groups:
        group['initial_lr'] = group['lr']
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def schedule_learning_rate(optimizer: torch.optim.Optimizer, schedule: str, epoch: int, num_epochs: int) -> None:
    """Set the learning rates of an epoch (counted from 0): as built ('constant'), or along half a cosine to 0."""
    factor = (1 + math.cos(math.pi * epoch / num_epochs)) / 2 if schedule == 'cosine' else 1.0
    for group in optimizer.param_groups:
        group['lr'] = factor * group['initial_lr']


def freeze_encoder(model: nn.Module) -> None:
    """Keep all weights but the progress head's from being trained, in place."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(HEAD_PREFIX))


class MeanNorms:
    """Mean norm of each group's gradient over the steps of an epoch."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0

    def add(self, norms: dict[str, float]) -> None:
        """Count a step's norms, name of the group -> norm before the clip."""
        self._steps += 1
        for name, norm in norms.items():
            self._sums[name] = self._sums.get(name, 0.0) + norm

    def means(self) -> dict[str, float]:
        """Return name of the group -> mean; empty where no step was taken."""
        return {name: total / self._steps for name, total in self._sums.items()}


def clip_limits(config: Mapping) -> dict[str, float]:
    """Return the largest gradient norm of each group of the optimizer, by its name."""
    return {'encoder': config.CLIP_GRAD_NORM, 'progress_head': config.HEAD_CLIP_GRAD_NORM}


def clip_gradients(optimizer: torch.optim.Optimizer, limits: dict[str, float]) -> dict[str, float]:
    """Clip each group of the optimizer by its own norm: one clip for all would starve the head.

    Args:
        optimizer: from :func:`build_optimizer`.
        limits: from :func:`clip_limits`.

    Returns:
        Name of the group -> norm before the clip. Where one is not finite, the gradients must not be used.
    """
    return {group['name']: float(nn.utils.clip_grad_norm_(group['params'], limits[group['name']]))
            for group in optimizer.param_groups}


def training_step(module: nn.Module, optimizer: torch.optim.Optimizer, videos: Sequence, times: Sequence[dict],
                  epoch: int, limits: dict[str, float],
                  share: Callable[[LossTerms], tuple[Tensor, bool]] | None = None,
                  gradient_norms: MeanNorms | None = None) -> tuple[LossTerms, bool]:
    """Run one step.

    Args:
        module: a :class:`LossModule`, possibly wrapped.
        optimizer: from :func:`build_optimizer`.
        videos: recordings of a batch.
        times: their annotations.
        epoch: counted from 0.
        limits: see :func:`clip_gradients`.
        share: where the run has several processes, turns the terms of this one into the loss to go back from, and
            tells whether the losses of all are finite.
        gradient_norms: takes the norms of a step that was taken.

    Returns:
        The loss terms, and whether the step was taken: it is not where the loss or a gradient is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    terms = module(videos, times, epoch)
    loss, finite = share(terms) if share else (terms['total_loss'], bool(torch.isfinite(terms['total_loss'])))
    if not finite:
        return terms, False
    loss.backward()
    norms = clip_gradients(optimizer, limits)
    if not all(map(math.isfinite, norms.values())):
        return terms, False
    optimizer.step()
    if gradient_norms:
        gradient_norms.add(norms)
    return terms, True

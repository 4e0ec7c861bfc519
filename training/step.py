"""One optimizer step: model and loss as one module, parameter groups, clips, and where a value stops being finite."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.model_multiprong import HEAD_PREFIX
from utils.errors import UserError, first_line
from utils.loss_entry import LossTerms

AUTOGRAD_FOUND = 'returned nan values'  # in the message of autograd's anomaly mode


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

        An empty batch, that of a process for which none was left, gives zeros that count nothing; they are attached to
        a weight, if one is trained.
        """
        if not videos:
            zero = next((weight.sum() for weight in self.parameters() if weight.requires_grad), torch.zeros(())) * 0
            return LossTerms({'alignment_loss': zero, 'total_loss': zero}, [])
        if not (self.amp and self.training):
            return self.loss_fn(self.model(videos), epoch, times=times)
        with torch.autocast(next(self.model.parameters(), videos[0]).device.type, torch.bfloat16):
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


class StepResult(NamedTuple):
    """What an optimizer step did.

    Attributes:
        terms: loss terms of the batch.
        taken: False if the loss or a gradient was not finite: then no weight has changed.
        norms: name of the parameter group -> norm of its gradient before the clip; empty if the loss was not finite.
    """

    terms: LossTerms
    taken: bool
    norms: dict[str, float]


def training_step(module: nn.Module, optimizer: torch.optim.Optimizer, videos: Sequence, times: Sequence[dict],
                  epoch: int, limits: dict[str, float],
                  weigh: Callable[[LossTerms], tuple[Tensor, bool]] | None = None) -> StepResult:
    """Take one optimizer step, unless the loss or a gradient is not finite.

    Args:
        module: a :class:`LossModule`, possibly wrapped.
        optimizer: from :func:`build_optimizer`.
        videos: recordings of a batch.
        times: their annotations.
        epoch: counted from 0.
        limits: see :func:`clip_gradients`.
        weigh: if the run has several processes, turns the terms of this one into the loss to differentiate, and
            returns whether the losses of all are finite.
    """
    optimizer.zero_grad(set_to_none=True)
    terms = module(videos, times, epoch)
    loss, finite = weigh(terms) if weigh else (terms['total_loss'], bool(torch.isfinite(terms['total_loss'])))
    if not finite:
        return StepResult(terms, False, {})
    if loss.requires_grad:  # an identity encoder and a head that is fitted in closed form have nothing to train
        loss.backward()
    norms = clip_gradients(optimizer, limits)
    if not all(map(math.isfinite, norms.values())):
        return StepResult(terms, False, norms)
    optimizer.step()
    return StepResult(terms, True, norms)


@contextmanager
def anomaly_detection(module: nn.Module, batch_name: str) -> Iterator[None]:
    """Find the first value that is not finite in the optimizer steps inside the block; several times slower.

    Args:
        module: computes the loss.
        batch_name: names the recordings of the step.

    Raises:
        UserError: a layer returned a value that is not finite, or a gradient became NaN; names the layer, or the
            function, whose forward call torch prints as a traceback.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(_refuse_non_finite(name, batch_name)) for name, layer in layers]
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    except RuntimeError as error:
        if AUTOGRAD_FOUND not in str(error):
            raise
        raise UserError(f'DETECT_ANOMALY: {first_line(error)} (gradient, in the step on {batch_name}); the '
                        'traceback above, of its forward call, shows the place') from error
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_non_finite(name: str, batch_name: str) -> Callable:
    """Return a forward hook that raises if a layer's output is not finite."""
    def hook(layer: nn.Module, inputs: tuple, output: object) -> None:
        values = output if isinstance(output, tuple) else (output,)
        if not all(torch.isfinite(value).all() for value in values if isinstance(value, Tensor)):
            raise UserError(f'DETECT_ANOMALY: layer {name} ({type(layer).__name__}) gives NaN or infinity in the '
                            f'step on {batch_name}, and no layer before it does; lower LEARNING_RATE, or look at its '
                            'weights and at the features of these recordings')

    return hook

"""Optimizer step: model and loss as a single module, parameter groups, gradient clipping, and anomaly detection."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.model_multiprong import HEAD_PREFIX
from utils.errors import UserError, first_line
from utils.loss_entry import LossTerms
from utils.optimizers import AdamW, skip_compiler

AUTOGRAD_FOUND = 'returned nan values'  # in the message of autograd's anomaly mode


class LossModule(nn.Module):
    """Model and loss as a single module, so that a wrapper such as DDP sees every parameter in the forward pass.

    Args:
        model: network; takes a list of videos.
        loss_fn: from ``get_loss_function``.
        amp: run the network under bf16 autocast in training mode; the losses, and the progress head that they call,
            get its outputs as float32.
    """

    def __init__(self, model: nn.Module, loss_fn: Callable[..., LossTerms], *, amp: bool = False) -> None:
        super().__init__()
        self.model, self.loss_fn, self.amp = model, loss_fn, amp

    def forward(self, videos: Sequence, times: Sequence[dict], epoch: int) -> LossTerms:
        """Return the loss terms of a batch; ``epoch`` counts from 0.

        A process for which no batch was left passes an empty batch. The result is then zero terms with count 0, which
        depend on a weight if any weight is trained.
        """
        if not videos:
            zero = next((weight.sum() for weight in self.parameters() if weight.requires_grad), torch.zeros(())) * 0
            return LossTerms({'alignment_loss': zero, 'total_loss': zero}, [])
        if not (self.amp and self.training):
            return self.loss_fn(self.model(videos), epoch, times=times)
        # A model may have no weights, with the identity encoder and a head that is fitted in closed form.
        with torch.autocast(next(self.model.parameters(), videos[0]).device.type, torch.bfloat16):
            outputs = self.model(videos)
        return self.loss_fn(_in_float32(outputs), epoch, times=times)


def _in_float32(outputs: Mapping) -> dict:
    """Return a model's outputs with all tensors in float32."""
    return {name: [tensor.float() for tensor in value] if isinstance(value, list) else value
            for name, value in outputs.items()}


def build_optimizer(model: nn.Module, learning_rate: float, head_learning_rate: float | None = None,
                    weight_decay: float = 0.0) -> torch.optim.AdamW:
    """Return AdamW with the progress head as a separate parameter group.

    Args:
        model: network, with or without ``progress_head``.
        learning_rate: learning rate of everything except the head.
        head_learning_rate: learning rate of the head; None means ``learning_rate``.
        weight_decay: decoupled weight decay: a step subtracts weight_decay * learning rate * weight; 0 is plain Adam.
    """
    # The progress head has its own learning rate and its own gradient clip.
    head = [weight for name, weight in model.named_parameters() if name.startswith(HEAD_PREFIX)]
    rest = [weight for name, weight in model.named_parameters() if not name.startswith(HEAD_PREFIX)]
    groups = [{'params': rest, 'lr': learning_rate, 'name': 'encoder'}]
    if head:
        groups.append({'params': head, 'lr': head_learning_rate or learning_rate, 'name': 'progress_head'})
    for group in groups:
        # Adam's groups are saved in last.pt, so that a resumed run knows the rate that the schedule starts from.
        group['initial_lr'] = group['lr']
    # Fused: one pass over the memory of weights, gradients, and moments.
    skip_compiler()
    return AdamW(groups, weight_decay=weight_decay, fused=True)


def schedule_learning_rate(optimizer: torch.optim.Optimizer, schedule: str, epoch: int, num_epochs: int) -> None:
    """Set the learning rates of an epoch (counted from 0): the initial rates ('constant') or cosine decay to 0."""
    # 1 in the first epoch, above 0 in the last
    factor = (1 + math.cos(math.pi * epoch / num_epochs)) / 2 if schedule == 'cosine' else 1.0
    for group in optimizer.param_groups:
        group['lr'] = factor * group['initial_lr']


def freeze_encoder(model: nn.Module) -> None:
    """Freeze all weights except those of the progress head, in place."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith(HEAD_PREFIX))


def clip_limits(config: Mapping) -> dict[str, float]:
    """Return name of the parameter group -> largest gradient norm."""
    return {'encoder': config.CLIP_GRAD_NORM, 'progress_head': config.HEAD_CLIP_GRAD_NORM}


def clip_gradients(optimizer: torch.optim.Optimizer, limits: dict[str, float]) -> dict[str, float]:
    """Clip each parameter group by its own norm, because a common norm would starve the head.

    Args:
        optimizer: from :func:`build_optimizer`.
        limits: from :func:`clip_limits`.

    Returns:
        Name of the group -> norm before clipping. If a norm is not finite, the gradients must not be used.
    """
    return {group['name']: float(nn.utils.clip_grad_norm_(group['params'], limits[group['name']]))
            for group in optimizer.param_groups}


class StepResult(NamedTuple):
    """Result of an optimizer step.

    Attributes:
        terms: loss terms of the batch.
        taken: False if the loss or a gradient was not finite; no weight has changed then.
        norms: name of the parameter group -> gradient norm before clipping; empty if the loss was not finite.
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
        times: annotations of the recordings.
        epoch: counted from 0.
        limits: from :func:`clip_limits`.
        weigh: if the run has several processes, returns the loss to differentiate given the terms of this process, and
            True if the losses of all processes are finite.
    """
    # None instead of 0: Adam then skips weights that this batch does not use, instead of moving them by momentum.
    optimizer.zero_grad(set_to_none=True)
    terms = module(videos, times, epoch)
    loss, finite = weigh(terms) if weigh else (terms['total_loss'], bool(torch.isfinite(terms['total_loss'])))
    # Before the backward pass, in every process alike.
    if not finite:
        return StepResult(terms, False, {})
    if loss.requires_grad:  # there are no weights to train if the encoder is the identity and the head is closed-form
        loss.backward()
    # Before optimizer.step(): a NaN in Adam's moments would stay there for all further steps.
    norms = clip_gradients(optimizer, limits)
    if not all(map(math.isfinite, norms.values())):
        return StepResult(terms, False, norms)
    optimizer.step()
    return StepResult(terms, True, norms)


@contextmanager
def anomaly_detection(module: nn.Module, batch_name: str) -> Iterator[None]:
    """Locate the first value that is not finite in the optimizer steps inside the block; several times slower.

    Args:
        module: module that computes the loss.
        batch_name: names of the recordings of the step.

    Raises:
        UserError: a layer returned a value that is not finite, or a gradient became NaN; the message names the layer or
            the function, and for a function torch prints the traceback of its forward call.
    """
    # Layers without children: the first of them that returns NaN is the cause, the modules around it follow.
    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(_refuse_non_finite(name, batch_name)) for name, layer in layers]
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    except RuntimeError as error:
        if AUTOGRAD_FOUND not in str(error):
            raise
        raise UserError(f'DETECT_ANOMALY: {first_line(error)} (gradient, in the step on {batch_name}); the traceback '
                        'above shows its forward call') from error
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_non_finite(name: str, batch_name: str) -> Callable:
    """Return a forward hook that raises if a layer's output is not finite."""
    def hook(layer: nn.Module, inputs: tuple, output: object) -> None:
        values = output if isinstance(output, tuple) else (output,)  # a GRU returns a tuple
        if not all(torch.isfinite(value).all() for value in values if isinstance(value, Tensor)):
            raise UserError(f'DETECT_ANOMALY: layer {name} ({type(layer).__name__}) returns NaN or infinity in the '
                            f'step on {batch_name}, and no layer before it does; lower LEARNING_RATE, or check its '
                            'weights and the features of these recordings')

    return hook

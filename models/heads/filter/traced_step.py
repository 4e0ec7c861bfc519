"""Traced step of the filter for a stream: the same numbers with a third of the overhead per operation."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from models.heads.filter.decision import Shown
from models.heads.filter.unsegmented import FilterOutput, FilterState, UnsegmentedFilter

TracedStep = Callable[[Tensor, FilterState | None], tuple[FilterOutput, FilterState]]


def trace_step(model: UnsegmentedFilter, batch: int = 1) -> TracedStep:
    """Return a traced version of ``model.filter_step`` for ``batch`` recordings in parallel.

    It keeps references to the model's tensors: trace again after moving the model to another device.
    Call it in ``torch.inference_mode()`` for the highest speed.
    """
    def flat(embedding: Tensor, recent: Tensor, mass: Tensor, pace: Tensor, elapsed: Tensor, step: Tensor,
             last: Tensor) -> tuple[Tensor, ...]:
        state = FilterState(recent, mass, pace, elapsed, Shown(step, last))
        output, after = model.filter_step(embedding, state)
        return *output, *after[:-1], *after.shown

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # shapes are constants of the trace, as intended
        example = model.features.offset.expand(batch, -1)
        _, state = model.filter_step(example)
        traced = torch.jit.trace(flat, (example, *state[:-1], *state.shown), check_trace=False)

    def step(embedding: Tensor, state: FilterState | None = None) -> tuple[FilterOutput, FilterState]:
        if state is None:
            return model.filter_step(embedding)
        if len(embedding) != batch:
            raise ValueError(f'embedding has {len(embedding)} rows, the step was traced for {batch}')
        results = traced(embedding, *state[:-1], *state.shown)
        outputs = len(FilterOutput._fields)
        *tensors, shown, last = results[outputs:]
        return FilterOutput(*results[:outputs]), FilterState(*tensors, Shown(shown, last))

    return step

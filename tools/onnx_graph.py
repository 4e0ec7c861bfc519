"""Modules whose state is explicit, as ONNX graphs that process one frame at a time."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.model_multiprong import ProgressModel

INPUT = 'frame'  # name of what a graph takes besides states: a frame of features, or an embedding
NEXT = '_next'  # ends the name of a state that is returned


class StatefulStep(Protocol):
    """A module (frame, *state) -> (*outputs, *next state); zeros in all states begin a recording.

    Attributes:
        outputs: names of the outputs.
        states: names of the states.
    """

    outputs: list[str]
    states: list[str]

    def start(self) -> tuple[Tensor, ...]:
        """Return the state before the first frame: zeros."""

    def __call__(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs at the next frame, and then the next state."""


class EncoderStep(nn.Module):
    """Step of a model's encoder and of the network behind it: a frame and states -> an embedding (E,) and states.

    Args:
        model: model in eval mode whose encoder does not look ahead.
        frame: a frame, (D,) or (C, H, W), that tells the shapes of the states.

    Raises:
        ValueError: the encoder's stream does not offer its state, or the model needs whole recordings.
    """

    outputs = ('embedding',)

    def __init__(self, model: ProgressModel, frame: Tensor) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.progress_head = None  # no part of this graph
        stream = self.model.base_model.stream()
        with torch.no_grad():
            self.model.refine(stream.push(frame.unsqueeze(0)))
        self._start = tuple(torch.zeros_like(held, memory_format=torch.contiguous_format) for held in stream.state())
        self.states = [f'held_{number}' for number in range(len(self._start))]

    def start(self) -> tuple[Tensor, ...]:
        """Return the state before the first frame: zeros."""
        return self._start

    @torch.no_grad()
    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding (E,) of the next frame, and the next state."""
        stream = self.model.base_model.stream()
        stream.resume(state)
        embedding = self.model.refine(stream.push(frame.unsqueeze(0)))
        return embedding.squeeze(0), *stream.state()


def write_graph(step: StatefulStep, frame: Tensor, path: Path) -> dict:
    """Write a module as an ONNX graph.

    Args:
        step: module on the CPU in eval mode; it is not changed.
        frame: example of its first argument.
        path: file to write, ``.onnx``.

    Returns:
        Description of the graph for ``model.json``.
    """
    step = copy.deepcopy(step).cpu()  # what a module derives while it runs is not copied, and would be no tensor
    state = step.start()
    after = [f'{name}{NEXT}' for name in step.states]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            step, (frame, *state), input_names=[INPUT, *step.states], output_names=[*step.outputs, *after],
            dynamo=True, verbose=False, custom_translation_table={torch.ops.aten.searchsorted.Tensor: _searchsorted})
        results = step(frame, *state)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # source lines of this machine: most of the file's size, and nobody's business
    program.save(path)
    return {'file': path.name, 'input': _describe(INPUT, frame),
            'outputs': [_describe(*named) for named in zip(step.outputs, results, strict=False)],
            'state': [{**_describe(name, value), 'next': then}
                      for name, value, then in zip(step.states, state, after, strict=True)]}


def _describe(name: str, value: Tensor) -> dict:
    return {'name': name, 'shape': list(value.shape), 'dtype': str(np.dtype(value.numpy().dtype))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which warns about packages that it could use and about its own deprecated calls."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _searchsorted(ordered: object, values: object, out_int32: bool = False, right: bool = False,
                  side: str | None = None, sorter: object = None) -> object:
    """Translate ``torch.searchsorted``, which the exporter does not know, with its defaults: count smaller elements."""
    from onnxscript import opset18 as op

    smaller = op.Less(op.Unsqueeze(ordered, [-2]), op.Unsqueeze(values, [-1]))  # (..., values, elements)
    return op.ReduceSum(op.Cast(smaller, to=7), [-1], keepdims=0)  # 7 is int64

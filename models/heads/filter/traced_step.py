"""Modules whose step in a stream is traced: the same numbers with a third of the overhead per operation."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from models.heads.filter.cache import CachingModule

EAGER_STEPS = 16  # of a module before its step is traced: tracing takes as long as a few hundred steps


class TracedModule(CachingModule):
    """Module that traces its step once a stream is longer than a few frames.

    A trace holds the module's tensors, and results that depend on them alone, as constants. Call the step in
    ``torch.inference_mode()`` for the highest speed.
    """

    def drop_cache(self) -> None:
        """Forget the trace; the step is traced again after a few frames."""
        super().drop_cache()
        self._traced_shape, self._steps = None, 0

    def run_step(self, step: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return ``step(*tensors)``, traced if the shape of the first tensor is that of earlier steps.

        Args:
            step: function of tensors alone, always the same for a module. Its branches must depend on shapes only.
            tensors: arguments of the step.
        """
        if self._cache is not None and tensors[0].shape == self._traced_shape:
            return self._cache(*tensors)
        self._steps += 1
        if self._steps <= EAGER_STEPS:
            return step(*tensors)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # shapes are constants of the trace, as intended
            self._cache = torch.jit.trace(lambda *inputs: step(*inputs), tensors, check_trace=False)
        self._traced_shape = tensors[0].shape
        return self._cache(*tensors)

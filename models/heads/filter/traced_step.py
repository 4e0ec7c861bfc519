"""Modules whose step in a stream is traced: the same numbers with a third of the overhead per operation."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

EAGER_STEPS = 16  # of a module before its step is traced: tracing takes as long as a few hundred steps


class TracedModule(nn.Module):
    """Module that traces its step once a stream is longer than a few frames.

    A trace holds the module's tensors, and results that depend on them alone, as constants. It is therefore dropped if
    a state_dict is loaded or the module is moved or copied; a subclass that changes tensors otherwise calls
    :meth:`drop_trace`. Call the step in ``torch.inference_mode()`` for the highest speed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drop_trace()
        self.register_load_state_dict_post_hook(lambda module, _: module.drop_trace())

    def drop_trace(self) -> None:
        """Forget the trace; the step is traced again after a few frames."""
        self._trace, self._traced_shape, self._steps = None, None, 0

    def __getstate__(self) -> dict[str, object]:
        # A trace cannot be copied.
        return {**self.__dict__, '_trace': None, '_traced_shape': None}

    def _apply(self, *arguments: object, **options: object) -> nn.Module:
        self.drop_trace()
        return super()._apply(*arguments, **options)

    def run_step(self, step: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return ``step(*tensors)``, traced if the shape of the first tensor is that of earlier steps.

        Args:
            step: function of tensors alone, always the same for a module. Its branches must depend on shapes only.
            tensors: arguments of the step.
        """
        if self._trace is not None and tensors[0].shape == self._traced_shape:
            return self._trace(*tensors)
        self._steps += 1
        if self._steps <= EAGER_STEPS:
            return step(*tensors)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # shapes are constants of the trace, as intended
            self._trace = torch.jit.trace(lambda *inputs: step(*inputs), tensors, check_trace=False)
        self._traced_shape = tensors[0].shape
        return self._trace(*tensors)

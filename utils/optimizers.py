"""Optimizers of torch without its compiler, whose import takes 1.5 s of CPU time and which nothing here uses."""

from collections.abc import Callable

import torch

# What torch marks as not to be compiled; the first call of each imports the compiler in order to tell it so.
_MARKED = ('add_param_group', 'zero_grad', 'state_dict', 'load_state_dict')


def skip_compiler() -> None:
    """Let the optimizers of torch call these methods directly; has no effect in a version that marks them otherwise."""
    for name in _MARKED:
        method = getattr(getattr(torch.optim.Optimizer, name), '__wrapped__', None)
        if method is not None:
            method.__dynamo_disable = method  # where torch keeps what the compiler returns


class AdamW(torch.optim.AdamW):
    """``torch.optim.AdamW`` without differentiable steps, for which ``step`` imports the compiler as well."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take an optimizer step; return the loss of ``closure`` if it is given."""
        step = torch.optim.AdamW.step
        return getattr(step, '__wrapped__', step)(self, closure)

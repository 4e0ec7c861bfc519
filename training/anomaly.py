"""Where a value first stops being finite: layer by layer forward, function by function backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from utils.errors import UserError, first_line

AUTOGRAD_FOUND = 'returned nan values'  # in the message of autograd's anomaly mode


@contextmanager
def anomaly_detection(module: nn.Module, where: str) -> Iterator[None]:
    """Watch the training steps inside the block; several times slower.

    Args:
        module: what computes the loss.
        where: names the recordings of the step.

    Raises:
        UserError: a layer gave a value that is not finite, or a gradient became NaN; names the layer, or the function,
            whose forward call torch prints as a traceback.
    """
    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(_refuse_non_finite(name, where)) for name, layer in layers]
    try:
        with torch.autograd.set_detect_anomaly(True):
            yield
    except RuntimeError as error:
        if AUTOGRAD_FOUND not in str(error):
            raise
        raise UserError(f'DETECT_ANOMALY: {first_line(error)} (gradient, in the step on {where}); the '
                        'traceback above, of its forward call, shows the place') from error
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_non_finite(name: str, where: str) -> Callable:
    """Return a forward hook that raises where a layer's output is not finite."""
    def hook(layer: nn.Module, inputs: tuple, output: object) -> None:
        values = output if isinstance(output, tuple) else (output,)
        if not all(torch.isfinite(value).all() for value in values if isinstance(value, Tensor)):
            raise UserError(f'DETECT_ANOMALY: layer {name} ({type(layer).__name__}) gives NaN or infinity in the '
                            f'step on {where}, and no layer before it does; lower LEARNING_RATE, or look at its '
                            'weights and at the features of these recordings')

    return hook

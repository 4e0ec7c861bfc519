"""The place where a value first stops being finite, on the way to the loss and on the way back."""

import pytest
import torch
from torch import nn

from training.anomaly import anomaly_detection
from utils.errors import UserError


class SquareRoot(nn.Module):
    def forward(self, values):
        return values.sqrt()


def network():
    return nn.Sequential(nn.Linear(2, 2), SquareRoot(), nn.ReLU())


def test_the_first_layer_that_gives_no_number_is_named():
    model = network()
    nn.init.constant_(model[0].weight, -1.0)
    with pytest.raises(UserError, match=r'layer 1 \(SquareRoot\) gives NaN or infinity in the step on rec0 of tea'):
        with anomaly_detection(model, 'rec0 of tea'):
            model(torch.ones(3, 2))


@pytest.mark.filterwarnings('ignore:Error detected in')
def test_a_gradient_that_is_no_number_is_traced_to_its_function():
    model = network()
    for values in model[0].parameters():
        nn.init.zeros_(values)  # the square root of 0 is finite, its slope times 0 is not
    with pytest.raises(UserError, match="'SqrtBackward0' returned nan .*in the step on rec0.*traceback above"):
        with anomaly_detection(model, 'rec0'):
            (model(torch.ones(3, 2)) * 0).sum().backward()


def test_other_defects_pass_and_nothing_stays_behind():
    model = network()
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied'), anomaly_detection(model, 'rec0'):
        model(torch.ones(3, 5))
    assert not torch.is_anomaly_enabled()
    assert not any(layer._forward_hooks for layer in model.modules())
    model(torch.full((1, 2), torch.nan))

"""Optimizers without torch's compiler: steps, state and closures are those of torch."""

import torch

from utils.optimizers import AdamW, skip_compiler


def steps(kind, fused):
    """Return the weights after three steps, two of them after restoring the state, and the loss of the last one."""
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(3, 2), torch.randn(8, 3)

    def loss():
        optimizer.zero_grad()
        value = model(inputs).square().sum()
        value.backward()
        return value

    optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.2, fused=fused)
    loss()
    optimizer.step()
    state = optimizer.state_dict()
    optimizer = kind(model.parameters(), lr=0.3, fused=fused)
    optimizer.load_state_dict(state)
    optimizer.step(loss)
    return model.weight, optimizer.step(loss)


def test_steps_are_those_of_torch():
    skip_compiler()
    for fused in (True, False):
        found, expected = steps(AdamW, fused), steps(torch.optim.AdamW, fused)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert found[1].requires_grad  # the closure is evaluated with gradients

"""What the alignment losses have in common: precision, degenerate input, invariances, arguments."""

import math
from functools import partial

import pytest
import torch

from losses import GTCC_loss, LAV_loss, TCC_loss, VAVA_loss
from models.encoders import NaiveEncoder, ShortMemoryEncoder
from models.model_multiprong import MultiProngAttDropoutModel
from tests.losses.naive import (
    DEGENERATE,
    assert_finite,
    random_sequences,
)


def seeded_gtcc(sequences, **options):
    return GTCC_loss(sequences, **{'gamma': 1, 'delta': 1.0, 'rng': torch.Generator().manual_seed(0), **options})


LOSSES = {'TCC': TCC_loss, 'GTCC': seeded_gtcc, 'LAV': LAV_loss, 'VAVA': VAVA_loss}
EVERY_LOSS = pytest.mark.parametrize('loss', LOSSES.values(), ids=list(LOSSES))


@pytest.mark.parametrize('loss', [TCC_loss, LAV_loss, VAVA_loss, partial(VAVA_loss, global_step=20_000)],
                         ids=['TCC', 'LAV', 'VAVA', 'VAVA, late'])
@pytest.mark.parametrize('kind', DEGENERATE)
def test_loss_and_gradient_are_finite(loss, kind):
    assert_finite(loss, kind)


@EVERY_LOSS
def test_autocast_does_not_change_the_loss(loss):
    sequences = random_sequences((6, 19), dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = loss(sequences)
    torch.testing.assert_close(inside, loss(sequences), rtol=0, atol=0)


@EVERY_LOSS
def test_single_sequence_gives_an_attached_zero(loss):
    sequence = torch.randn(5, 3, requires_grad=True)
    value = loss([sequence])
    value.backward()
    assert value.item() == 0 and sequence.grad.abs().max() == 0


def waves(frames, speeds):
    """Return a recording (T, 2 F) of F speeds, the same curve with any number of frames."""
    angles = torch.linspace(0, 1, frames).unsqueeze(1) * speeds  # (T, F)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def new_embeddings(length, other_length):
    """Return a new model's embeddings of two recordings; half of their features run alike, half differ."""
    torch.manual_seed(0)
    encoder = (NaiveEncoder, {'layers': [64, 64], 'input_dimensions': 16}, 128)
    model = MultiProngAttDropoutModel(*encoder, 3, attn_layers=[8])
    features = []
    for index, frames in enumerate((length, other_length)):
        alike = waves(frames, 6 * torch.arange(1, 5))  # (T, 8)
        features.append(torch.cat([alike, (alike.roll(3 * index, 1) + 5 * index).cos()], dim=1) / 0.7)
    with torch.no_grad():
        return model(features)['outputs']


@EVERY_LOSS
def test_losses_of_new_embeddings_are_near_one_at_any_frame_rate(loss):
    values = [loss(new_embeddings(length, length * 5 // 4)).item() for length in (50, 100, 400)]
    assert all(0.2 < value < 3 for value in values), values
    assert max(values) < 1.5 * min(values), values


@pytest.mark.parametrize('loss', [LAV_loss, VAVA_loss])
def test_losses_of_squared_distances_are_near_one_for_standardized_features(loss):
    """Features without a common part, half of them alike in both recordings, in an encoder that keeps distances."""
    values = []
    for length in (50, 100, 400):
        torch.manual_seed(0)
        own = [60 * torch.rand(4) for _ in range(2)]  # speeds of the features that differ
        features = [torch.cat([waves(frames, 6 * torch.arange(1, 5)), waves(frames, speeds)], dim=1)
                    for frames, speeds in zip((length, length * 5 // 4), own, strict=True)]
        std, mean = torch.std_mean(torch.cat(features), dim=0)
        encoder = ShortMemoryEncoder(input_dimensions=16)
        with torch.no_grad():
            values.append(loss(encoder([(feature - mean) / std for feature in features])['outputs']).item())
    assert all(0.5 < value < 2 for value in values), values
    assert max(values) < 1.1 * min(values), values


@EVERY_LOSS
def test_shift_does_not_change_the_loss(loss):
    sequences = random_sequences((6, 9, 4))
    torch.testing.assert_close(loss([sequence + 3.7 for sequence in sequences]), loss(sequences))


@pytest.mark.parametrize('loss', [TCC_loss, partial(seeded_gtcc, n_components=3, delta=1.0, max_comparisons=40),
                                  LAV_loss, VAVA_loss, partial(VAVA_loss, maxIter=4, global_step=20_000)],
                         ids=['TCC', 'GTCC, all frames', 'LAV', 'VAVA', 'VAVA, far from convergence'])
@pytest.mark.parametrize('change', [lambda sequences: [sequences[index] for index in (2, 0, 1)],
                                    lambda sequences: [sequence.flip(0) for sequence in sequences]],
                         ids=['permutation', 'time reversal'])
def test_order_of_the_sequences_and_direction_of_time_change_nothing(loss, change):
    sequences = random_sequences((16, 39, 24))
    value, changed = loss(sequences), loss(change(sequences))
    torch.testing.assert_close(changed, value)
    for gradient, expected in zip(*(torch.autograd.grad(result, sequences) for result in (changed, value)),
                                  strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize('loss', [partial(TCC_loss, alignment_variance=0), LAV_loss, VAVA_loss])
def test_aligned_pair_costs_less_than_shuffled_pair(loss):
    path = torch.linspace(0, 3, 20, dtype=torch.float64)
    u = torch.stack([path, path.square()], dim=1)  # (20, 2)
    shuffled = u[torch.randperm(20, generator=torch.Generator().manual_seed(0))] + 0.2
    assert loss([u, u + 0.05]) < loss([u, shuffled])


@pytest.mark.parametrize('loss', [LAV_loss, VAVA_loss])
def test_close_embeddings_are_driven_apart(loss):
    # A new network maps all frames to nearly one point; the loss must decrease as the scale increases from there.
    walk, noise = (sequence.detach() for sequence in random_sequences((60, 80)))
    walk = walk.cumsum(0)
    sequences = [walk, walk[torch.arange(80) * 60 // 80] + noise]
    values = [loss([scale * sequence for sequence in sequences]) for scale in (1e-3, 2e-3, 4e-3)]
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize('loss', [TCC_loss, LAV_loss, VAVA_loss])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_loss_of_non_finite_embeddings_is_not_finite(loss, value):
    # Training skips the optimizer step of a loss that is not finite.
    sequences = random_sequences((6, 9))
    sequences[0].data[2, 1] = value
    assert not torch.isfinite(loss(sequences))


@EVERY_LOSS
@pytest.mark.parametrize('arguments, message', [
    (dict(sequences=[]), 'sequences is empty'),
    (dict(sequences=[torch.ones(3, 2), torch.ones(3)]), r'sequences\[1\] has shape \(3,\)'),
    (dict(sequences=[torch.ones(3, 2), torch.ones(0, 2)]), r'sequences\[1\] has shape \(0, 2\)'),
    (dict(sequences=[torch.ones(3, 2), torch.ones(3, 4)]), 'has embedding dimension 4, expected 2'),
    (dict(sequences=[torch.ones(3, 2), torch.ones(3, 2).double()]), 'float64 on cpu, expected torch.float32'),
    (dict(sequences=[torch.ones(3, 2).long()] * 2), 'dtype torch.int64'),
    (dict(reduction='none'), "reduction is 'none'")])
def test_invalid_sequences_and_reductions_raise(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**{'sequences': [torch.ones(3, 2), torch.ones(4, 2)], **arguments})

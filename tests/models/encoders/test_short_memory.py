import pytest
import torch
import torch.nn.functional as F

from models.encoders.short_memory import START_NORM
from tests.models.encoders.small import recordings, short_memory


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_short_memory_matches_a_naive_loop():
    encoder = short_memory()
    video, = recordings(encoder, 9)

    def hidden(layer, frame):
        """Output (H,) of a layer at a frame; frames before the recording are zeros."""
        if layer == 0:
            return F.relu(encoder.input_layer(video[frame] if frame >= 0 else torch.zeros(5)))
        weight, bias, step = (encoder.convolutions[layer - 1].weight, encoder.convolutions[layer - 1].bias,
                              2**(layer - 1))
        added = bias + sum(weight[:, :, k] @ hidden(layer - 1, frame - (2 - k) * step) for k in range(3))
        return hidden(layer - 1, frame) + F.relu(added)

    expected = [encoder.feature_map.weight @ video[frame] + encoder.output_layer(F.layer_norm(hidden(2, frame), (6,)))
                for frame in range(9)]
    torch.testing.assert_close(encoder([video])['outputs'][0], torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('width', [5, 128])
def test_distances_of_a_new_encoder_are_those_of_the_features(width):
    encoder = short_memory(output_dimensions=128, hidden_dim=64, input_dimensions=width)
    video, = recordings(encoder, 50)
    with torch.no_grad():
        embeddings = encoder([video])['outputs'][0]
    scale = START_NORM / width**0.5
    between = (torch.cdist(embeddings, embeddings) / scale)[~torch.eye(50, dtype=torch.bool)]
    expected = torch.cdist(video, video)[~torch.eye(50, dtype=torch.bool)]
    assert (between / expected - 1).abs().mean() < 0.05
    assert embeddings.norm(dim=1).mean() == pytest.approx(START_NORM, rel=0.1)


def test_a_state_continues_a_stream():
    encoder = short_memory()
    video, = recordings(encoder, 12)
    first, second = encoder.stream(), encoder.stream()
    first.push(video[:7])
    assert [tuple(value.shape) for value in first.state()] == [(encoder.reach, 5)]
    second.resume(first.state())
    torch.testing.assert_close(second.push(video[7:]), first.push(video[7:]))
    # Zeros of the same shape begin a recording.
    second.resume(tuple(torch.zeros_like(value) for value in first.state()))
    torch.testing.assert_close(second.push(video), encoder([video])['outputs'][0], rtol=1e-5, atol=1e-5)

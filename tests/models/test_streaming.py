"""Embeddings computed frame by frame equal those of the whole recording, and memory does not grow."""

import pytest
import torch

from models.encoders import (
    Encoder,
    IdentityEncoder,
    NaiveEncoder,
    RecurrentEncoder,
    Resnet50Encoder,
    ShortMemoryEncoder,
    StackingEncoder,
)
from models.model_multiprong import MultiProngAttDropoutModel, SingleEncoderModel
from models.streaming import EmbeddingStream

E = 8
ENCODERS = {
    'naive': (NaiveEncoder, {'layers': [9], 'input_dimensions': 6}, (6,)),
    'identity': (IdentityEncoder, {'input_dimensions': E}, (E,)),
    'recurrent': (RecurrentEncoder, {'hidden_dim': 5, 'input_dimensions': 6}, (6,)),
    'short memory': (ShortMemoryEncoder, {'hidden_dim': 5, 'layers': 2, 'input_dimensions': 6}, (6,)),
    'stacking': (StackingEncoder, {'temporal_depth': 2, 'conv_num_channels': 16, 'input_dimensions': 6}, (6,)),
    'stacking, wide kernel': (StackingEncoder, {'temporal_depth': 5, 'conv_num_channels': 16, 'input_dimensions': 6},
                              (6,)),
    'stacking, causal': (StackingEncoder, {'temporal_depth': 2, 'conv_num_channels': 16, 'input_dimensions': 6,
                                           'causal': True}, (6,)),
    'stacking, kernel of one': (StackingEncoder, {'temporal_depth': 1, 'conv_num_channels': 16, 'input_dimensions': 6,
                                                  'causal': True}, (6,)),
    'resnet50': (Resnet50Encoder, {'temporal_depth': 3, 'in_size': 2}, (2, 3, 3)),
    'resnet50, one frame': (Resnet50Encoder, {'temporal_depth': 1, 'in_size': 2}, (2, 3, 3)),
}


def build(name, model_class=MultiProngAttDropoutModel, **more):
    torch.manual_seed(0)
    encoder, parameters, shape = ENCODERS[name]
    model = model_class(encoder, {**parameters, 'output_dimensions': E}, E, **more).eval()
    return model.requires_grad_(False), shape


@pytest.mark.parametrize('length', [1, 3, 30])
@pytest.mark.parametrize('name', ENCODERS)
def test_stream_matches_whole_recording_after_delay(name, length):
    model, shape = build(name, num_heads=3)
    video = torch.randn(length, *shape)
    expected = model([video])['outputs'][0]
    stream, received = EmbeddingStream(model), []
    for index, frame in enumerate(video):
        known = stream.push(frame)
        assert len(known) == (index >= model.lookahead)
        received += known
    received += stream.finish()
    torch.testing.assert_close(torch.stack(received), expected, rtol=0, atol=1e-5)
    assert length == 1 or expected.std(dim=0).max() > 0.01


def test_single_encoder_model_streams():
    model, shape = build('stacking, causal', SingleEncoderModel, use_progress_head=True)
    video = torch.randn(20, *shape)
    stream = EmbeddingStream(model)
    received = torch.stack([embedding for frame in video for embedding in stream.push(frame.numpy())])
    torch.testing.assert_close(received, model([video])['outputs'][0], rtol=0, atol=1e-5)
    assert stream.finish() == []


@pytest.mark.parametrize('sizes', [[30], [1, 2, 27], [4] * 7 + [2]])
def test_several_frames_can_be_pushed_at_once(sizes):
    model, shape = build('stacking', num_heads=2)
    video = torch.randn(30, *shape)
    stream = model.base_model.stream()
    received = torch.cat([*map(stream.push, video.split(sizes)), stream.finish()])
    torch.testing.assert_close(received, model.base_model([video])['outputs'][0], rtol=0, atol=1e-5)


def test_stream_memory_does_not_grow():
    model, shape = build('stacking', num_heads=2)
    stream = model.base_model.stream()
    held = []
    for frame in torch.randn(40, 1, *shape):
        stream.push(frame)
        held.append([part.shape[-1] for part in stream.state()])
    assert held[20:] == [[1, 2, 2, 2, 2, 2, 2]] * 20  # a kernel of 2, then of 3


def test_an_encoder_without_a_stream_is_refused():
    with pytest.raises(ValueError, match='a Encoder has no stream, it needs whole recordings'):
        Encoder(2, 2, dropping=False, drop_layers=()).stream()

import warnings

import pytest
import torch
import torch.nn.functional as F

from models.encoders import StackingEncoder
from tests.models.encoders.small import recordings, shapes, stacking


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_stacking_encoder_has_the_published_layers():
    channels = [2048, 256] + [128] * 6
    expected = {f'convolutional_layers.{2 * i}.weight': (channels[i + 1], channels[i], 2 if i == 0 else 3)
                for i in range(7)}
    assert shapes(StackingEncoder(2, 256)) == expected


def test_channels_halve_down_to_output_dim():
    layers = stacking(conv_num_channels=64, output_dimensions=12).convolutional_layers[::2]
    assert [layer.out_channels for layer in layers] == [64, 32, 16, 12, 12, 12, 12]


@pytest.mark.filterwarnings('ignore:Using padding')  # torch's own padding of even kernels
@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_stacking_pads_as_torch_does(depth):
    encoder = stacking(temporal_depth=depth)
    video, = recordings(encoder, 11)
    expected = video.T.unsqueeze(0)
    for index, layer in enumerate(encoder.convolutional_layers[::2]):
        expected = F.conv1d(F.relu(expected) if index else expected, layer.weight, padding='same')
    torch.testing.assert_close(encoder([video])['outputs'][0], expected[0].T)


@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_a_causal_convolution_pads_in_front(depth):
    encoder = stacking(temporal_depth=depth, causal=True)
    video, = recordings(encoder, 11)
    expected = video.T.unsqueeze(0)
    for index, layer in enumerate(encoder.convolutional_layers[::2]):
        into = F.relu(expected) if index else expected
        expected = F.conv1d(F.pad(into, (layer.weight.shape[-1] - 1, 0)), layer.weight)
    torch.testing.assert_close(encoder([video])['outputs'][0], expected[0].T)


@pytest.mark.parametrize('causal', [True, False])
def test_causal_embeddings_do_not_depend_on_future(causal):
    encoder = stacking(causal=causal)
    video, = recordings(encoder, 40)
    changed = video.clone()
    changed[25:] = 100 * torch.randn(15, 5)
    before, after, cut = (encoder([frames])['outputs'][0] for frames in (video, changed, video[:25]))
    assert torch.equal(after[:25], before[:25]) == causal
    assert torch.allclose(cut, before[:25], atol=1e-6) == causal  # as in a stream that has only received these frames
    assert torch.equal(after[:18], before[:18])  # seven frames before the change, neither encoder sees it


def test_causal_and_centered_encoders_have_same_weights():
    causal, centered = stacking(causal=True), stacking()
    assert shapes(causal) == shapes(centered) and (causal.lookahead, centered.lookahead) == (0, 7)


def test_even_kernel_does_not_warn():
    encoder = stacking()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        encoder(recordings(encoder, 5))

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models.encoders.small import resnet, shapes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_frame_encoder_has_the_published_layers():
    expected = {'convolutional_layers.0.weight': (5, 5, 3, 3, 3), 'convolutional_layers.0.bias': (5,),
                'convolutional_layers.2.weight': (512, 5, 3, 3, 3), 'convolutional_layers.2.bias': (512,),
                'fc_layers.0.weight': (512, 512), 'fc_layers.0.bias': (512,), 'fc_layers.2.weight': (512, 512),
                'fc_layers.2.bias': (512,), 'fc_layers.4.weight': (8, 512), 'fc_layers.4.bias': (8,)}
    assert shapes(resnet()) == expected


def embed_window_by_window(encoder, video):
    first, second = encoder.convolutional_layers[0], encoder.convolutional_layers[2]
    rows = []
    for frame in range(len(video)):
        window = [video[i] if i >= 0 else torch.zeros_like(video[0])
                  for i in range(frame - encoder.temporal_depth + 1, frame + 1)]
        hidden = torch.stack(window, dim=1).unsqueeze(0)
        for layer in (first, second):
            hidden = F.relu(F.conv3d(hidden, layer.weight, layer.bias, padding=1))
        pooled = hidden[0].flatten(1).max(dim=1).values
        for layer in encoder.fc_layers[:-1:2]:
            pooled = F.relu(layer(pooled))
        rows.append(encoder.fc_layers[-1](pooled))
    return torch.stack(rows)


def weight_gradients(encoder, output):
    return torch.autograd.grad(output.sin().sum(), list(encoder.parameters()))


@pytest.mark.parametrize('depth', [1, 2, 3])
@pytest.mark.parametrize('chunk', [1, 4, 100])
def test_frame_encoder_matches_naive_loop_for_any_chunk(depth, chunk):
    encoder = resnet(temporal_depth=depth, chunk_frames=chunk).double()
    video = torch.randn(6, 5, 3, 2, dtype=torch.float64)
    actual, expected = encoder([video])['outputs'][0], embed_window_by_window(encoder, video)
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(weight_gradients(encoder, actual), weight_gradients(encoder, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


class CountingFrames:
    """Array that records which frames were read."""

    def __init__(self, array):
        self.array, self.ndim, self.shape, self.reads = array, array.ndim, array.shape, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, frames):
        self.reads.append((frames.start, frames.stop))
        return self.array[frames]


def test_frame_encoder_reads_one_chunk_at_a_time():
    encoder = resnet(chunk_frames=4)
    video = CountingFrames(np.random.default_rng(0).normal(size=(10, 5, 3, 2)).astype(np.float32))
    output = encoder([video])['outputs'][0]
    assert video.reads == [(0, 4), (3, 8), (7, 10)]
    # The backward pass reads and recomputes each chunk instead of keeping it.
    output.sum().backward()
    assert sorted(video.reads) == sorted(2 * [(0, 4), (3, 8), (7, 10)])


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
def test_frame_encoder_takes_memory_mapped_files(tmp_path, dtype):
    frames = np.random.default_rng(0).normal(size=(7, 5, 3, 2)).astype(dtype)
    np.save(tmp_path / 'frames.npy', frames)
    mapped = np.load(tmp_path / 'frames.npy', mmap_mode='r')
    encoder = resnet(chunk_frames=3)
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # such as that of torch about read-only arrays
        actual = encoder([mapped])['outputs'][0]
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, encoder([torch.from_numpy(frames).float()])['outputs'][0])
    actual.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())

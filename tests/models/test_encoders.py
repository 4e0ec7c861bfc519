import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.encoders import DropNetwork, IdentityEncoder, NaiveEncoder, Resnet50Encoder, StackingEncoder


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def stacking(**changes):
    return StackingEncoder(**{'temporal_depth': 2, 'conv_num_channels': 16, 'output_dimensions': 8,
                              'input_dimensions': 5, **changes})


def naive(**changes):
    return NaiveEncoder(**{'layers': [7, 6], 'output_dimensions': 8, 'input_dimensions': 5, **changes})


def resnet(**changes):
    return Resnet50Encoder(**{'temporal_depth': 2, 'in_size': 5, 'output_dimensions': 8, **changes})


def recordings(encoder, *lengths):
    rest = (3, 2) if encoder.input_axes == 'TCHW' else ()
    return [torch.randn(length, encoder.input_width, *rest) for length in lengths]


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


ENCODERS = pytest.mark.parametrize('make', [stacking, naive, resnet])


def test_stacking_encoder_has_the_published_layers():
    channels = [2048, 256] + [128] * 6
    expected = {f'convolutional_layers.{2 * i}.weight': (channels[i + 1], channels[i], 2 if i == 0 else 3)
                for i in range(7)}
    assert shapes(StackingEncoder(2, 256)) == expected


def test_channels_halve_down_to_the_output_and_stay_there():
    layers = stacking(conv_num_channels=64, output_dimensions=12).convolutional_layers[::2]
    assert [layer.out_channels for layer in layers] == [64, 32, 16, 12, 12, 12, 12]


def test_naive_encoder_has_the_published_layers():
    widths = [2048, 1024, 512, 512, 256, 128]
    expected = {f'fc_layers.{2 * i}.{kind}': (widths[i + 1], widths[i]) if kind == 'weight' else (widths[i + 1],)
                for i in range(5) for kind in ('weight', 'bias')}
    assert shapes(NaiveEncoder([1024, 512, 512, 256])) == expected


def test_frame_encoder_has_the_published_layers():
    expected = {'convolutional_layers.0.weight': (5, 5, 3, 3, 3), 'convolutional_layers.0.bias': (5,),
                'convolutional_layers.2.weight': (512, 5, 3, 3, 3), 'convolutional_layers.2.bias': (512,),
                'fc_layers.0.weight': (512, 512), 'fc_layers.0.bias': (512,), 'fc_layers.2.weight': (512, 512),
                'fc_layers.2.bias': (512,), 'fc_layers.4.weight': (8, 512), 'fc_layers.4.bias': (8,)}
    assert shapes(resnet()) == expected


def test_drop_network_has_the_published_layers():
    widths = [128, 256, 1024, 512, 256, 129]
    expected = {f'{2 * i}.{kind}': (widths[i + 1], widths[i]) if kind == 'weight' else (widths[i + 1],)
                for i in range(5) for kind in ('weight', 'bias')}
    assert shapes(DropNetwork(128, [256, 1024, 512, 256])) == expected


def test_drop_vector_is_the_mean_over_frames():
    network = DropNetwork(3, [4])
    first, second = torch.randn(5, 3), torch.randn(2, 3)

    def by_hand(frames):
        return (F.relu(frames @ network[0].weight.T + network[0].bias) @ network[2].weight.T
                + network[2].bias).mean(dim=0)

    for actual, frames in zip(network([first, second]), (first, second), strict=True):
        assert actual.shape == (4,)
        torch.testing.assert_close(actual, by_hand(frames))


@ENCODERS
def test_a_batch_equals_its_recordings_one_by_one(make):
    encoder = make(drop_layers=[32, 16]) if make is naive else make(dropping=True, drop_layers=[32, 16])
    videos = recordings(encoder, 9, 4, 1)
    together = encoder(videos)
    assert [tuple(output.shape) for output in together['outputs']] == [(9, 8), (4, 8), (1, 8)]
    for index, video in enumerate(videos):
        alone = encoder([video])
        for key in ('outputs', 'dropouts'):
            torch.testing.assert_close(together[key][index], alone[key][0], rtol=1e-5, atol=1e-5)
    assert all(drop.shape == (9,) for drop in together['dropouts'])


@ENCODERS
def test_without_a_drop_network_there_are_no_drop_vectors(make):
    encoder = make()
    assert set(encoder(recordings(encoder, 3))) == {'outputs'}


@pytest.mark.parametrize('make, changes, ahead, behind', [
    (naive, {}, 0, 0), (resnet, {}, 0, 1), (resnet, {'temporal_depth': 4}, 0, 3), (stacking, {}, 7, 6),
    (stacking, {'temporal_depth': 5}, 8, 8), (stacking, {'causal': True}, 0, 13),
    (stacking, {'temporal_depth': 1, 'causal': True}, 0, 12)])
def test_lookahead_is_how_far_a_future_frame_reaches_back(make, changes, ahead, behind):
    encoder = make(**changes).double()
    assert encoder.lookahead == ahead
    video, = recordings(encoder, 30)
    video = video.double().requires_grad_()
    # The current frame belongs to the window: published code leaves it out.
    frame = 14
    gradient, = torch.autograd.grad(encoder([video])['outputs'][0][frame].square().sum(), video)
    seen = gradient.flatten(1).abs().amax(dim=1).nonzero().flatten().tolist()
    assert (min(seen), max(seen)) == (frame - behind, frame + ahead)


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
def test_changing_the_future_changes_no_earlier_embedding_of_a_causal_encoder(causal):
    encoder = stacking(causal=causal)
    video, = recordings(encoder, 40)
    changed = video.clone()
    changed[25:] = 100 * torch.randn(15, 5)
    before, after, cut = (encoder([frames])['outputs'][0] for frames in (video, changed, video[:25]))
    assert torch.equal(after[:25], before[:25]) == causal
    assert torch.allclose(cut, before[:25], atol=1e-6) == causal  # as a stream, the rest not yet there
    assert torch.equal(after[:18], before[:18])  # seven frames earlier neither sees the change


def test_causal_and_centred_encoders_have_the_same_weights():
    causal, centred = stacking(causal=True), stacking()
    assert shapes(causal) == shapes(centred) and (causal.lookahead, centred.lookahead) == (0, 7)


def test_an_even_kernel_brings_no_warning():
    encoder = stacking()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        encoder(recordings(encoder, 5))


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
def test_frame_encoder_matches_a_naive_loop_whatever_the_chunk(depth, chunk):
    encoder = resnet(temporal_depth=depth, chunk_frames=chunk).double()
    video = torch.randn(6, 5, 3, 2, dtype=torch.float64)
    actual, expected = encoder([video])['outputs'][0], embed_window_by_window(encoder, video)
    torch.testing.assert_close(actual, expected)
    for ours, theirs in zip(weight_gradients(encoder, actual), weight_gradients(encoder, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


class CountingFrames:
    """An array that notes which frames were read."""

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
    # The backward pass reads and computes each chunk again instead of having kept it.
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


@ENCODERS
def test_gradient_reaches_every_weight(make):
    encoder = make(drop_layers=[32, 16]) if make is naive else make(dropping=True, drop_layers=[32, 16])
    result = encoder(recordings(encoder, 12, 12))
    sum(value.square().sum() for values in result.values() for value in values).backward()
    assert all(weight.grad.abs().max() > 0 for weight in encoder.parameters())


@pytest.mark.parametrize('dropping', [True, False])
def test_identity_gives_the_features_and_learns_nothing_of_them(dropping):
    encoder = IdentityEncoder(5, 5, dropping, drop_layers=[4])
    videos = [video.requires_grad_() for video in recordings(encoder, 9, 1)]
    result = encoder(videos)
    assert all(torch.equal(output, video) for output, video in zip(result['outputs'], videos, strict=True))
    assert (encoder.lookahead, len(result['outputs'])) == (0, 2)
    assert all(name.startswith('dropout.') for name in shapes(encoder)) and bool(shapes(encoder)) == dropping
    assert [drop.shape for drop in result.get('dropouts', [])] == [(6,)] * (2 * dropping)
    gradient, = torch.autograd.grad(result['outputs'][0].sum(), videos[0])
    assert gradient.eq(1).all()


def test_identity_refuses_another_width():
    with pytest.raises(ValueError, match='output_dimensions is 8, expected 5 as the features'):
        IdentityEncoder(5, 8)
    with pytest.raises(ValueError, match='input_width is 0, expected at least 1'):
        IdentityEncoder(0, 5)
    with pytest.raises(ValueError, match=r'video 0 has shape \(3, 4\), expected \(T, D\) with T >= 1 and D = 5'):
        IdentityEncoder(5, 5)([torch.ones(3, 4)])


@ENCODERS
def test_evaluation_mode_and_no_grad_change_nothing(make):
    encoder = make()
    videos = recordings(encoder, 6)
    trained = encoder(videos)['outputs'][0]
    with torch.no_grad():
        evaluated = encoder.eval()(videos)['outputs'][0]
    torch.testing.assert_close(trained, evaluated, rtol=0, atol=0)
    assert not evaluated.requires_grad


@ENCODERS
def test_wrong_videos_are_named(make):
    encoder = make()
    right, = recordings(encoder, 3)
    for wrong in (right[:, :4], right[0], right[:0]):
        with pytest.raises(ValueError, match=r'video 1 has shape .* expected \(T, .*= 5'):
            encoder([right, wrong])
    with pytest.raises(ValueError, match='empty'):
        encoder([])


@pytest.mark.parametrize('make, name', [
    (stacking, 'temporal_depth'), (stacking, 'conv_num_channels'), (stacking, 'output_dimensions'),
    (resnet, 'temporal_depth'), (resnet, 'chunk_frames'), (naive, 'output_dimensions')])
def test_sizes_below_one_are_refused(make, name):
    with pytest.raises(ValueError, match=f'{name} is 0, expected at least 1'):
        make(**{name: 0})

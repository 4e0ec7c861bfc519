import pytest
import torch

from tests.models.encoders.small import naive, recordings, recurrent, resnet, short_memory, stacking


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


ENCODERS = pytest.mark.parametrize('make', [stacking, naive, recurrent, resnet])


@ENCODERS
def test_batch_matches_single_recordings(make):
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
    (naive, {}, 0, 0), (recurrent, {}, 0, 14), (resnet, {}, 0, 1), (resnet, {'temporal_depth': 4}, 0, 3),
    (short_memory, {}, 0, 6), (short_memory, {'layers': 3}, 0, 14), (stacking, {}, 7, 6),
    (stacking, {'temporal_depth': 5}, 8, 8), (stacking, {'causal': True}, 0, 13),
    (stacking, {'temporal_depth': 1, 'causal': True}, 0, 12)])
def test_lookahead_matches_dependence_on_future_frames(make, changes, ahead, behind):
    encoder = make(**changes).double()
    assert encoder.lookahead == ahead
    video, = recordings(encoder, 30)
    video = video.double().requires_grad_()
    # The window includes the current frame; the published code excludes it.
    frame = 14
    gradient, = torch.autograd.grad(encoder([video])['outputs'][0][frame].square().sum(), video)
    seen = gradient.flatten(1).abs().amax(dim=1).nonzero().flatten().tolist()
    assert (min(seen), max(seen)) == (frame - behind, frame + ahead)


@ENCODERS
def test_every_weight_gets_a_gradient(make):
    encoder = make(drop_layers=[32, 16]) if make is naive else make(dropping=True, drop_layers=[32, 16])
    result = encoder(recordings(encoder, 12, 12))
    sum(value.square().sum() for values in result.values() for value in values).backward()
    assert all(weight.grad.abs().max() > 0 for weight in encoder.parameters())


@ENCODERS
def test_outputs_same_in_eval_mode_and_no_grad(make):
    encoder = make()
    videos = recordings(encoder, 6)
    trained = encoder(videos)['outputs'][0]
    with torch.no_grad():
        evaluated = encoder.eval()(videos)['outputs'][0]
    torch.testing.assert_close(trained, evaluated, rtol=0, atol=0)
    assert not evaluated.requires_grad


@ENCODERS
def test_error_names_invalid_video(make):
    encoder = make()
    right, = recordings(encoder, 3)
    for wrong in (right[:, :4], right[0], right[:0]):
        with pytest.raises(ValueError, match=r'video 1 has shape .* expected \(T, .*= 5'):
            encoder([right, wrong])
    with pytest.raises(ValueError, match='empty'):
        encoder([])


@pytest.mark.parametrize('make, name', [
    (stacking, 'temporal_depth'), (stacking, 'conv_num_channels'), (stacking, 'output_dimensions'),
    (resnet, 'temporal_depth'), (resnet, 'chunk_frames'), (short_memory, 'layers'), (naive, 'output_dimensions')])
def test_sizes_below_one_are_refused(make, name):
    with pytest.raises(ValueError, match=f'{name} is 0, expected at least 1'):
        make(**{name: 0})

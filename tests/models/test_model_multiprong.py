import pytest
import torch
import torch.nn.functional as F

from models.encoders import NaiveEncoder, Resnet50Encoder, StackingEncoder
from models.heads import recurrent as progress_head
from models.model_multiprong import HeadModel, MultiProngAttDropoutModel, ProgressHead, SingleEncoderModel

D, E, H = 5, 8, 3
NAIVE = (NaiveEncoder, {'layers': [6], 'output_dimensions': E, 'input_dimensions': D}, E)
STACKING = (StackingEncoder, {'temporal_depth': 2, 'conv_num_channels': 16, 'output_dimensions': E,
                              'input_dimensions': D}, E)
ALL_PARTS = {'dropping': True, 'drop_layers': [32, 16], 'use_progress_head': True, 'progress_head_hidden_dim': 7}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def multi(base=NAIVE, num_heads=H, **changes):
    return MultiProngAttDropoutModel(*base, num_heads, **{'attn_layers': [6, 7], **changes})


def single(base=NAIVE, **changes):
    return SingleEncoderModel(*base, **changes)


BOTH = pytest.mark.parametrize('make', [multi, single])


def features(*lengths):
    return [torch.randn(length, D) for length in lengths]


def linear_shapes(prefix, widths):
    return {f'{prefix}.{2 * i}.{kind}': (out, into) if kind == 'weight' else (out,)
            for i, (into, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)) for kind in ('weight', 'bias')}


def test_state_dict_has_the_published_names_and_shapes():
    base = (StackingEncoder, {'temporal_depth': 2, 'conv_num_channels': 256}, 128)
    model = MultiProngAttDropoutModel(*base, 2, dropping=True, use_progress_head=True)
    channels = [2048, 256] + [128] * 6
    expected = {f'base_model.convolutional_layers.{2 * i}.weight': (channels[i + 1], channels[i], 3 if i else 2)
                for i in range(7)}
    for head in range(2):
        expected |= linear_shapes(f'head_models.{head}.fc_layers', [128, 512, 128, 256, 128])
    expected |= linear_shapes('attention_layer', [256, 512, 1024, 512, 512, 2])
    expected |= linear_shapes('dropout', [128, 256, 1024, 512, 256, 129])
    expected |= {f'progress_head.{name}': tuple(value.shape) for name, value in ProgressHead().state_dict().items()}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


@pytest.mark.parametrize('num_heads', [1, 4])
@pytest.mark.parametrize('base', [NAIVE, STACKING])
def test_shapes(base, num_heads):
    result = multi(base, num_heads, **ALL_PARTS)(features(9, 4, 1))
    assert set(result) == {'outputs', 'attentions', 'dropouts', 'progress_head'}
    assert [tuple(value.shape) for value in result['outputs']] == [(9, E), (4, E), (1, E)]
    assert [tuple(value.shape) for value in result['attentions']] == [(9, num_heads), (4, num_heads), (1, num_heads)]
    assert [tuple(value.shape) for value in result['dropouts']] == 3 * [(E + 1,)]
    for attention in result['attentions']:
        torch.testing.assert_close(attention.sum(dim=1), torch.ones(len(attention)))


def test_frames_of_any_encoder_pass_through():
    base = (Resnet50Encoder, {'temporal_depth': 2, 'in_size': D, 'output_dimensions': E}, E)
    for model in (multi(base, **ALL_PARTS), single(base, **ALL_PARTS)):
        result = model([torch.randn(4, D, 2, 3), torch.randn(2, D, 2, 3)])
        assert [tuple(value.shape) for value in result['outputs']] == [(4, E), (2, E)]


def dense(layers, frame, activation):
    for index, layer in enumerate(layer for layer in layers if isinstance(layer, torch.nn.Linear)):
        frame = layer.weight @ (activation(frame) if index else frame) + layer.bias
    return frame


def test_outputs_match_a_loop_over_frames_and_heads():
    model = multi(**ALL_PARTS).double()
    video, = (frames.double() for frames in features(6))
    outputs, attentions, drops = [], [], []
    for frame in video:
        shared = dense(model.base_model.fc_layers, frame, F.relu)
        heads = [dense(head.fc_layers, shared, F.relu) for head in model.head_models]
        scores = dense(model.attention_layer, torch.cat(heads), torch.tanh)
        weights = scores.exp() / scores.exp().sum()
        attentions.append(weights)
        outputs.append(sum(weight * head for weight, head in zip(weights, heads, strict=True)))
        drops.append(dense(model.dropout, outputs[-1], F.relu))
    result = model([video])
    torch.testing.assert_close(result['outputs'][0], torch.stack(outputs))
    torch.testing.assert_close(result['attentions'][0], torch.stack(attentions))
    torch.testing.assert_close(result['dropouts'][0], sum(drops) / len(drops))


def test_attention_does_not_mix_frames():
    model, (video,) = multi(), features(60)
    changed = video.clone()
    changed[:11] = torch.randn(11, D)
    before, after = model([video]), model([changed])
    for key in ('outputs', 'attentions'):
        assert (before[key][0][:11] != after[key][0][:11]).any(dim=1).all()
        torch.testing.assert_close(before[key][0][11:], after[key][0][11:], rtol=0, atol=0)


@BOTH
@pytest.mark.parametrize('base', [NAIVE, STACKING])
def test_batch_matches_single_recordings(make, base):
    model, videos = make(base, **ALL_PARTS), features(9, 4, 1)
    together = model(videos)
    for index, video in enumerate(videos):
        for key, values in model([video]).items():
            if key != 'progress_head':
                torch.testing.assert_close(together[key][index], values[0], rtol=1e-5, atol=1e-5)


def test_per_frame_layers_run_once_for_a_batch():
    model, calls = multi(**ALL_PARTS), []
    for name in ('base_model.fc_layers', 'head_models.0', 'attention_layer', 'dropout.0'):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    model(features(9, 4, 1))
    assert sorted(calls) == ['attention_layer', 'base_model.fc_layers', 'dropout.0', 'head_models.0']


@BOTH
def test_optional_parts_exist_only_if_enabled(make):
    plain = make()
    keys = {'outputs', 'attentions'} if make is multi else {'outputs'}
    assert set(plain(features(3))) == keys
    assert not any(name.startswith(('dropout', 'progress_head')) for name in plain.state_dict())
    full = make(**ALL_PARTS)
    result = full(features(3))
    assert set(result) == keys | {'dropouts', 'progress_head'}
    assert result['progress_head'] is full.progress_head


def test_single_encoder_outputs_are_the_encoders():
    model, videos = single(**ALL_PARTS), features(5, 2)
    for actual, expected in zip(model(videos)['outputs'], model.base_model(videos)['outputs'], strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@BOTH
def test_the_progress_head_takes_its_options(make):
    head = make(use_progress_head=True, progress_head_hidden_dim=9, progress_head_use_gru=False).progress_head
    assert isinstance(head, ProgressHead) and ProgressHead is progress_head.ProgressHead
    assert head.fc[0].weight.shape == (9, E) and not head.use_gru
    gru = make(use_progress_head=True).progress_head
    assert gru.gru.weight_hh_l0.shape == (3 * 64, 64) and gru.normalize_embeddings


@BOTH
def test_any_progress_head_can_be_passed(make):
    torch.manual_seed(3)
    model = make(make_progress_head=lambda dim: ProgressHead(dim, 9, normalize_embeddings=False))
    head = model(features(4))['progress_head']
    assert head is model.progress_head and (head.input_dim, head.normalize_embeddings) == (E, False)
    torch.manual_seed(3)
    plan = make(use_progress_head=True, progress_head_hidden_dim=9)  # and no weight depends on the way
    for name, weight in plan.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


@BOTH
def test_gradient_flows_through_the_head_into_the_encoder(make):
    model = make(**ALL_PARTS)
    result = model(features(6, 4))
    progress = result['progress_head']([output[:3] for output in result['outputs']])
    (progress - 0.4).abs().mean().backward()
    for name, weight in model.named_parameters():
        reached = weight.grad is not None and weight.grad.abs().max() > 0
        assert reached == (not name.startswith('dropout')), name


@BOTH
def test_gradient_reaches_the_drop_network(make):
    model = make(**ALL_PARTS)
    sum(drop.square().sum() for drop in model(features(6, 4))['dropouts']).backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.dropout.parameters())


@BOTH
@pytest.mark.parametrize('base, ahead', [(NAIVE, 0), (STACKING, 7)])
def test_lookahead_matches_dependence_on_future_frames(make, base, ahead):
    model = make(base).double()
    video = torch.randn(30, D, dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(model([video])['outputs'][0][12].square().sum(), video)
    assert gradient.abs().amax(dim=1).nonzero().max() - 12 == model.lookahead == ahead


@BOTH
def test_outputs_same_in_eval_mode(make):
    model, videos = make(**ALL_PARTS), features(6, 4)
    trained, evaluated = model(videos), model.eval()(videos)
    for key in set(trained) - {'progress_head'}:
        for before, after in zip(trained[key], evaluated[key], strict=True):
            torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_heads_have_different_initial_weights():
    first, second = multi(num_heads=2).head_models
    assert isinstance(first, HeadModel)
    assert not torch.equal(first.fc_layers[0].weight, second.fc_layers[0].weight)


def test_zero_heads_are_refused():
    with pytest.raises(ValueError, match='num_heads is 0, expected at least 1'):
        multi(num_heads=0)


@BOTH
def test_encoder_with_other_output_dim_is_refused(make):
    with pytest.raises(ValueError, match='encoder gives 8 dimensions, expected output_dimensionality 9'):
        make((*NAIVE[:2], 9))

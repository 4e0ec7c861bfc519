"""The loss function of a run: identities, keys, terms without data, and gradients."""

import functools
import random
from pkgutil import resolve_name

import pytest
import torch
from easydict import EasyDict

from configs.choices import LOSSES
from models.heads.base import EmbeddedRecording
from models.heads.hsmm import HSMMHead
from models.model_multiprong import ProgressHead
from utils import loss_entry
from utils.errors import UserError
from utils.loss_entry import get_loss_function, get_progress_lambda
from utils.tensorops import Action, list_actions, sample_action_prefix, sample_action_segment_with_random_index

WIDTH = 4
TIMES = [{'step': ['SIL', 'cut', 'mix'], 'start_frame': [0, 4, 12], 'end_frame': [3, 11, 19], 'name': 'a'},
         {'step': ['0', 'cut', '0'], 'start_frame': [0, 5, 15], 'end_frame': [4, 14, 17], 'name': 'b'},
         {'step': ['mix'], 'start_frame': [1], 'end_frame': [6], 'name': 'c'}]
LENGTHS = (20, 18, 9)
NO_ACTION = [{'step': ['SIL'], 'start_frame': [0], 'end_frame': [17], 'name': 'd'}] * 2
CURRICULUM = {'coefficient': 0.3, 'lambda_curriculum': {'enabled': True, 'start': 0.01, 'end': 0.5}}


@pytest.fixture
def progress_config(config):
    config.LOSS_TYPE.tcc = True
    config.PROGRESS_LOSS.enabled = True
    config.PROGRESS_LOSS.coefficient = 0.3
    return config


def make_output(lengths=LENGTHS[:2], seed=0):
    """Return the output of a model on recordings of these lengths; its embeddings are leaves of the graph."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        head = ProgressHead(input_dim=WIDTH, hidden_dim=5)
    outputs = [torch.randn(length, WIDTH, generator=generator).requires_grad_() for length in lengths]
    return {'outputs': outputs, 'progress_head': head}


def gradient_norm(tensors):
    return sum(0.0 if tensor.grad is None else float(tensor.grad.norm()) for tensor in tensors)


def test_second_verification_step_of_the_plan():
    head = ProgressHead(input_dim=128, hidden_dim=64, use_gru=True)
    pred = head(torch.randn(15, 128))
    assert 0 <= pred <= 1 and pred.shape == ()


@pytest.mark.parametrize(('epoch', 'num_epochs', 'settings', 'expected'), [
    (0, 50, {'coefficient': 0.3}, 0.3), (49, 50, {'coefficient': 0.3}, 0.3), (7, 50, {}, 0.1),
    (3, 9, {**CURRICULUM, 'lambda_curriculum': {'enabled': False, 'start': 1.0, 'end': 2.0}}, 0.3),
    (0, 50, CURRICULUM, 0.01), (49, 50, CURRICULUM, 0.5), (5, 11, CURRICULUM, 0.255), (0, 1, CURRICULUM, 0.01)])
def test_lambda(epoch, num_epochs, settings, expected):
    assert get_progress_lambda(epoch, num_epochs, settings) == pytest.approx(expected)


@pytest.mark.parametrize('loss_type', ['l1', 'l2'])
@pytest.mark.parametrize('sampling', ['segment', 'prefix', 'dense'])
def test_total_is_alignment_plus_lambda_times_progress(progress_config, sampling, loss_type):
    progress_config.PROGRESS_LOSS.update(sampling=sampling, loss_type=loss_type, **CURRICULUM)
    loss_fn, weights = get_loss_function(progress_config, num_epochs=3), []
    for epoch in range(3):
        terms = loss_fn(make_output(), epoch, times=TIMES[:2])
        weights.append(get_progress_lambda(epoch, 3, CURRICULUM))
        assert terms['total_loss'] == terms['alignment_loss'] + weights[-1] * terms['progress_loss']
        assert terms['alignment_loss'] == terms['tcc_loss'] and terms['progress_loss'] > 0
        assert all(value.ndim == 0 for value in terms.values())
    assert weights == sorted(weights) and weights[0] < weights[-1]


@pytest.mark.parametrize(('term', 'enabled'), [('tcc', True), ('tcc', False), ('GTCC', True), ('GTCC', False)])
def test_keys(config, term, enabled):
    config.LOSS_TYPE[term] = True
    config.PROGRESS_LOSS.enabled = enabled
    output = {**make_output(), 'dropouts': [torch.ones(WIDTH + 1)] * 2}
    terms = get_loss_function(config)(output, 0, times=TIMES[:2])
    present = {'alignment_loss', f'{term}_loss'} | ({'progress_loss'} if enabled else set())
    assert set(terms) == present | {'total_loss'} and terms.present == present
    if not enabled:
        assert terms['total_loss'] == terms['alignment_loss']


def test_config_without_progress_section_gives_alignment_only(config):
    config.LOSS_TYPE.tcc = True
    older = EasyDict({key: config[key] for key in ('LOSS_TYPE', 'TCC_ORIGINAL_PARAMS', 'GTCC_PARAMS')})
    assert set(get_loss_function(older)(make_output(), 0)) == {'tcc_loss', 'alignment_loss', 'total_loss'}


def test_batch_of_one_has_progress_but_no_alignment(progress_config):
    output = make_output(LENGTHS[:1])
    terms = get_loss_function(progress_config)(output, 0, times=TIMES[:1])
    assert terms.present == {'progress_loss'} and terms['progress_loss'] > 0
    assert terms['alignment_loss'] == terms['tcc_loss'] == 0
    terms['total_loss'].backward()
    assert gradient_norm(output['outputs']) > 0 and gradient_norm(output['progress_head'].parameters()) > 0


@pytest.mark.parametrize('enabled', [True, False])
@pytest.mark.parametrize(('output', 'times'), [(make_output([]), []), ([], []), ([make_output([])] * 2, [[], []])],
                         ids=['no recordings', 'no outputs', 'outputs without recordings'])
def test_empty_batch_gives_an_attached_zero(progress_config, output, times, enabled):
    progress_config.PROGRESS_LOSS.enabled = enabled
    terms = get_loss_function(progress_config)(output, 0, times=times)
    assert all(value == 0 and value.ndim == 0 for value in terms.values()) and not terms.present
    terms['total_loss'].backward()


@pytest.mark.parametrize('sampling', ['segment', 'prefix', 'dense'])
def test_recordings_without_actions_have_no_progress_term(progress_config, sampling):
    progress_config.PROGRESS_LOSS.sampling = sampling
    progress_config.LOSS_TYPE.tcc = False
    output = make_output()
    terms = get_loss_function(progress_config)(output, 0, times=NO_ACTION)
    assert terms['progress_loss'] == 0 and not terms.present
    terms['total_loss'].backward()
    tensors = [*output['outputs'], *output['progress_head'].parameters()]
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in tensors)


def test_background_labels_come_from_the_configuration(progress_config):
    progress_config.BACKGROUND_LABELS = ['cut', 'mix']
    progress_config.PROGRESS_LOSS.sampling = 'dense'
    with torch.no_grad():
        terms = get_loss_function(progress_config)(make_output([20]), 0, times=TIMES[:1])
    assert terms.present == {'progress_loss'}  # 'SIL' is an action now
    progress_config.BACKGROUND_LABELS = ['SIL', 'cut', 'mix']
    assert not get_loss_function(progress_config)(make_output([20]), 0, times=TIMES[:1]).present


def naive_progress_loss(output, times, settings):
    """Compute the loss segment by segment and frame by frame, with a separate call of the head for each."""
    head, errors = output['progress_head'], []
    for embeddings, recording in zip(output['outputs'], times, strict=True):
        for start, end, step in zip(recording['start_frame'], recording['end_frame'], recording['step'], strict=True):
            if settings.sampling == 'dense' and step not in ('SIL', '0'):
                of_frames = [head(embeddings[start:frame + 1]) - (frame - start + 1) / (end - start + 1)
                             for frame in range(start, end + 1)]
                errors.append(torch.stack(of_frames))
        for _ in range(0 if settings.sampling == 'dense' else settings.samples_per_video):
            if settings.sampling == 'prefix':
                segment, progress, _ = sample_action_prefix(embeddings, recording)
            else:
                for _attempt in range(4):
                    segment, progress, _ = sample_action_segment_with_random_index(embeddings, recording)
                    if len(segment) >= 2:
                        break
                else:
                    continue
            errors.append(head(segment) - progress)
    return torch.stack([(error.abs() if settings.loss_type == 'l1' else error ** 2).mean() for error in errors]).mean()


@pytest.mark.parametrize('loss_type', ['l1', 'l2'])
@pytest.mark.parametrize('sampling', ['segment', 'prefix', 'dense'])
def test_progress_is_the_mean_over_sampled_segments(progress_config, sampling, loss_type):
    progress_config.PROGRESS_LOSS.update(sampling=sampling, loss_type=loss_type)
    output = make_output(LENGTHS)
    random.seed(2)
    found = get_loss_function(progress_config)(output, 0, times=TIMES)['progress_loss']
    random.seed(2)
    expected = naive_progress_loss(output, TIMES, progress_config.PROGRESS_LOSS)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    tensors = [*output['outputs'], *output['progress_head'].parameters()]
    for ours, theirs in zip(torch.autograd.grad(found, tensors), torch.autograd.grad(expected, tensors), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_several_outputs_are_averaged(progress_config):
    progress_config.PROGRESS_LOSS.sampling = 'dense'
    loss_fn = get_loss_function(progress_config)
    pair, single = make_output(), {**make_output(LENGTHS[2:], seed=1), 'progress_head': make_output()['progress_head']}
    both = loss_fn([pair, single], 0, times=[TIMES[:2], TIMES[2:]])
    apart = loss_fn(pair, 0, times=TIMES[:2]), loss_fn(single, 0, times=TIMES[2:])
    # The single recording does not contribute a zero to the mean.
    assert both['alignment_loss'].item() == pytest.approx(apart[0]['alignment_loss'].item())
    assert both['progress_loss'].item() == pytest.approx(  # three actions in the pair, one in the single recording
        (3 * apart[0]['progress_loss'].item() + apart[1]['progress_loss'].item()) / 4)
    other = make_output(seed=3)
    two = loss_fn([pair, other], 0, times=[TIMES[:2], TIMES[:2]])['alignment_loss']
    assert two.item() == pytest.approx((apart[0]['alignment_loss'] +
                                        loss_fn(other, 0, times=TIMES[:2])['alignment_loss']).item() / 2)


def test_head_is_called_once_with_the_configured_number_of_segments(progress_config):
    output, calls = make_output(), []
    output['progress_head'].register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0]))
    progress_config.PROGRESS_LOSS.update(samples_per_video=5, sampling='prefix')
    get_loss_function(progress_config)(output, 0, times=TIMES[:2])
    assert [len(segments) for segments in calls] == [10]


@pytest.mark.parametrize(('lengths', 'segments', 'draws'), [
    ([1] * 9, 0, 4), ([1, 1, 1, 2], 1, 4), ([1, 2], 1, 2), ([2], 1, 1)])
def test_segments_of_one_frame_are_redrawn_three_times(progress_config, monkeypatch, lengths, segments, draws):
    script = iter(lengths)
    drawn = []

    def sample(embeddings, recording, min_segment_len, **options):
        drawn.append(min_segment_len)
        return embeddings[:next(script)], 0.5, 'cut'

    monkeypatch.setattr(loss_entry, 'sample_action_segment_with_random_index', sample)
    progress_config.PROGRESS_LOSS.update(samples_per_video=1, min_segment_len=6)
    terms = get_loss_function(progress_config)(make_output([20]), 0, times=TIMES[:1])
    assert len(terms.present) == segments and drawn == [6] * draws


@pytest.mark.parametrize('sampling', ['segment', 'prefix', 'dense'])
@pytest.mark.parametrize('detach', [True, False])
def test_gradient_reaches_the_head_and_the_encoder_unless_detached(progress_config, sampling, detach):
    progress_config.PROGRESS_LOSS.update(sampling=sampling, detach_embeddings=detach)
    output = make_output()
    terms = get_loss_function(progress_config)(output, 0, times=TIMES[:2])
    terms['progress_loss'].backward(retain_graph=True)
    assert (gradient_norm(output['outputs']) == 0) == detach
    assert all(weight.grad.norm() > 0 for name, weight in output['progress_head'].named_parameters() if 'gru' in name)
    terms['alignment_loss'].backward()
    assert gradient_norm(output['outputs']) > 0  # alignment trains the encoder in both cases


@pytest.mark.parametrize(('num_epochs', 'in_config', 'last'), [(3, 11, 2), (None, 11, 10), (None, None, 49)])
def test_curriculum_length(progress_config, num_epochs, in_config, last):
    progress_config.PROGRESS_LOSS.update(CURRICULUM)
    progress_config.NUM_EPOCHS = in_config
    terms = get_loss_function(progress_config, num_epochs)(make_output(), last, times=TIMES[:2])
    assert terms['total_loss'] == terms['alignment_loss'] + 0.5 * terms['progress_loss']


def test_unknown_loss_raises(config):
    config.LOSS_TYPE['SoftDTW'] = True
    with pytest.raises(UserError, match='LOSS_TYPE: SoftDTW is unknown, expected GTCC, tcc, LAV, VAVA'):
        get_loss_function(config)


@pytest.mark.parametrize('extra', [{}, {'dropouts': [torch.zeros(WIDTH + 1)] * 2}])
def test_losses_get_their_parameters_epoch_and_drop_vectors(config, monkeypatch, extra):
    seen = {}

    def record(name, original):
        @functools.wraps(original)  # the signature determines the arguments that a loss gets
        def loss(sequences, **options):
            seen[name] = options
            return sequences[0].sum() * 0 + 2
        return loss

    for term in LOSSES.values():
        module, name = term.function.split(':')
        monkeypatch.setattr(f'{module}.{name}', record(name, resolve_name(term.function)))
    config.LOSS_TYPE.update(GTCC=True, tcc=True, LAV=True, VAVA=True)
    terms = get_loss_function(config)({**make_output(), **extra}, 7, times=TIMES[:2])
    assert seen == {'TCC_loss': config.TCC_ORIGINAL_PARAMS,
                    'GTCC_loss': {**config.GTCC_PARAMS, 'dropouts': extra.get('dropouts'), 'epoch': 7},
                    'LAV_loss': config.LAV_PARAMS, 'VAVA_loss': {**config.VAVA_PARAMS, 'global_step': 7}}
    assert [float(terms[f'{name}_loss'].detach()) for name in ('alignment', *config.LOSS_TYPE)] == [8, 2, 2, 2, 2]


@pytest.mark.parametrize(('times', 'message'), [(None, 'times is None'), (TIMES, 'zip')])
def test_times_must_match_the_recordings(progress_config, times, message):
    with pytest.raises(ValueError, match=message):
        get_loss_function(progress_config)(make_output(), 0, times=times)


# The first recording has two actions; the second has two, one of them with a label not seen in training.
STEP_TIMES = [{**TIMES[0], 'task': 'cook'},
              {'step': ['0', 'cut', 'whisk'], 'start_frame': [0, 5, 15], 'end_frame': [4, 14, 17], 'name': 'b',
               'task': 'cook'}]


@pytest.fixture(scope='module')
def fitted():
    """A filter that knows two tasks, fitted on noise."""
    head = HSMMHead(WIDTH, steps=[('clean', 'mix'), ('cook', 'cut'), ('cook', 'mix')])
    generator = torch.Generator().manual_seed(0)
    head.fit([EmbeddedRecording(task, f'{task}{index}', torch.randn(30, WIDTH, generator=generator), actions)
              for index, (task, actions) in enumerate([
                  ('cook', [Action('cut', 0, 5), Action('mix', 6, 15)]), ('clean', [Action('mix', 0, 9)]),
                  ('cook', [Action('cut', 2, 13), Action('mix', 20, 25)]), ('clean', [Action('mix', 3, 20)])])])
    return head


@pytest.fixture
def filter_config(progress_config):
    progress_config.PROGRESS_LOSS.update(sampling='dense', head='hsmm')
    return progress_config


@pytest.mark.parametrize('loss_type', ['l1', 'l2'])
def test_the_error_of_a_filter_is_measured_in_validation(filter_config, fitted, loss_type):
    filter_config.PROGRESS_LOSS.loss_type = loss_type
    output = {**make_output(), 'progress_head': fitted.eval()}
    found = get_loss_function(filter_config)(output, 0, times=STEP_TIMES)
    errors = []
    for embeddings, times in zip(output['outputs'], STEP_TIMES, strict=True):
        actions = list_actions(times, len(embeddings))
        for action in actions:
            context = [fitted.context('cook', actions, action)]
            frames = torch.stack([fitted(embeddings[action.start:end + 1], context)
                                  for end in range(action.start, action.end + 1)])
            error = frames - torch.arange(1, action.length + 1) / action.length
            errors.append(error.abs().mean() if loss_type == 'l1' else error.square().mean())
    assert found['progress_loss'].item() == pytest.approx(torch.stack(errors).mean().item(), abs=1e-5)
    assert found['total_loss'] == found['alignment_loss'] + 0.3 * found['progress_loss']


def test_nothing_is_learned_from_a_filter(filter_config, fitted):
    alone = make_output()
    get_loss_function(filter_config)({**alone, 'progress_head': fitted.train()}, 0, times=STEP_TIMES)[
        'progress_loss'].backward()
    assert all(embeddings.grad is not None and not embeddings.grad.any() for embeddings in alone['outputs'])


@pytest.mark.parametrize('weight', [0.0, 0.5])
def test_alignment_has_a_weight(progress_config, weight):
    full = get_loss_function(progress_config)(make_output(), 0, times=TIMES[:2])
    progress_config.ALIGNMENT_WEIGHT = weight
    random.seed(0)
    terms = get_loss_function(progress_config)(make_output(), 0, times=TIMES[:2])
    assert terms['alignment_loss'].item() == pytest.approx(weight * full['alignment_loss'].item())
    assert terms['total_loss'] == terms['alignment_loss'] + 0.3 * terms['progress_loss']
    assert ('tcc_loss' in terms, 'alignment_loss' in terms.present) == (weight > 0, weight > 0)

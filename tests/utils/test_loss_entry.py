"""The loss function of a run: identities, keys, terms without data, and gradients."""

import functools
import random
from pkgutil import resolve_name

import pytest
import torch
from easydict import EasyDict

from configs.choices import LOSSES
from models.heads.step_durations import ActionContext
from models.heads.steps import StepProgressHead
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
TRAINED = {'cook': [[Action('cut', 0, 5), Action('mix', 6, 15)], [Action('cut', 2, 13), Action('mix', 20, 25)]],
           'clean': [[Action('mix', 0, 9)]]}


@pytest.fixture
def step_config(progress_config):
    progress_config.PROGRESS_LOSS.update(sampling='dense', head='steps')
    return progress_config


def make_step_output(lengths=LENGTHS[:2], **options):
    """Return an output as make_output does, with a partly trained head that recognizes steps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        head = StepProgressHead(WIDTH, 5, steps=[('clean', 'mix'), ('cook', 'cut'), ('cook', 'mix')], projection_dim=3,
                                dropout=0, **{'step_coefficient': 0.7, **options})
        torch.nn.init.normal_(head.fc[-2].weight)
    head.durations.fit(TRAINED)
    return {**make_output(lengths), 'progress_head': head}


def naive_step_loss(output, times, settings, steps=('clean mix', 'cook cut', 'cook mix')):
    """Compute the loss action by action and frame by frame, reading each prefix from the action's first frame."""
    head, errors, entropies = output['progress_head'], [], []
    for embeddings, recording in zip(output['outputs'], times, strict=True):
        actions = list_actions(recording, len(embeddings))
        for action in actions:
            context = [head.durations.context(recording.get('task'), actions, action)]
            ends = [embeddings[action.start:frame + 1] for frame in range(action.start, action.end + 1)]
            of_frames = torch.stack([head(prefix, context) for prefix in ends])
            truth = torch.arange(1, action.length + 1) / action.length
            error = of_frames - truth
            errors.append((error.abs() if settings.loss_type == 'l1' else error ** 2).mean())
            if (name := f'{recording.get("task")} {action.name}') in steps:
                posteriors = [head.forward_steps([prefix], context)[1][0][-1] for prefix in ends]
                entropies.append(-torch.stack([posterior[steps.index(name)] for posterior in posteriors]).mean())
    recognition = torch.stack(entropies).mean() if entropies else 0
    return torch.stack(errors).mean() + head.step_coefficient * recognition


@pytest.mark.parametrize('options', [{}, {'content_correction': False}, {'condition_on_step': True}])
@pytest.mark.parametrize('loss_type', ['l1', 'l2'])
def test_steps_head_is_trained_to_recognize_steps(step_config, loss_type, options):
    step_config.PROGRESS_LOSS.loss_type = loss_type
    output = make_step_output(**options)
    found = get_loss_function(step_config)(output, 0, times=STEP_TIMES)['progress_loss']
    expected = naive_step_loss(output, STEP_TIMES, step_config.PROGRESS_LOSS)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    tensors = [*output['outputs'], *output['progress_head'].parameters()]
    gradients = [torch.autograd.grad(loss, tensors, allow_unused=True, materialize_grads=True)
                 for loss in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_recognition_term_is_for_training_only(step_config):
    output = make_step_output()
    output['progress_head'].eval()
    found = get_loss_function(step_config)(output, 0, times=STEP_TIMES)['progress_loss']
    output['progress_head'].step_coefficient = 0.0
    expected = naive_step_loss(output, STEP_TIMES, step_config.PROGRESS_LOSS)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize('change', [{'step': ['0', 'whisk', 'whisk']}, {'task': 'garden'}, {'task': None}])
def test_unseen_steps_have_no_recognition_term_and_no_nan(step_config, change):
    times = [{**STEP_TIMES[1], **change}] * 2  # a validation recording may contain only such steps
    output = make_step_output(LENGTHS[1:2] * 2)
    terms = get_loss_function(step_config)(output, 0, times=times)
    output['progress_head'].step_coefficient = 0.0
    without = naive_step_loss(output, times, step_config.PROGRESS_LOSS)
    assert terms.present >= {'progress_loss'}
    assert terms['progress_loss'].item() == pytest.approx(without.item(), abs=1e-6)
    terms['total_loss'].backward()
    tensors = [*output['outputs'], *output['progress_head'].parameters()]
    assert all(tensor.grad.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize('coefficient', [0.0, 0.5, 3.0])
def test_total_is_exact_with_the_steps_head(step_config, coefficient):
    step_config.PROGRESS_LOSS.update(CURRICULUM)
    loss_fn, losses = get_loss_function(step_config, num_epochs=3), set()
    for epoch in range(3):
        terms = loss_fn(make_step_output(step_coefficient=coefficient), epoch, times=STEP_TIMES)
        weight = get_progress_lambda(epoch, 3, CURRICULUM)
        assert terms['total_loss'] == terms['alignment_loss'] + weight * terms['progress_loss']
        losses.add(terms['progress_loss'].item())
    assert len(losses) == 1  # all actions of these recordings are sampled, so there is no randomness
    assert set(terms) == {'tcc_loss', 'alignment_loss', 'progress_loss', 'total_loss'}


def test_steps_head_without_segments_gives_an_attached_zero(step_config):
    step_config.LOSS_TYPE.tcc = False
    output = make_step_output()
    terms = get_loss_function(step_config)(output, 0, times=NO_ACTION)
    assert terms['progress_loss'] == 0 and not terms.present
    terms['total_loss'].backward()
    tensors = [*output['outputs'], *output['progress_head'].parameters()]
    assert all(tensor.grad is not None and not tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize('detach', [True, False])
def test_recognition_trains_the_encoder_unless_detached(step_config, detach):
    step_config.PROGRESS_LOSS.update(detach_embeddings=detach)
    output = make_step_output()
    get_loss_function(step_config)(output, 0, times=STEP_TIMES)['progress_loss'].backward()
    assert (gradient_norm(output['outputs']) == 0) == detach
    assert all(weight.grad.norm() > 0 for weight in output['progress_head'].parameters())


@pytest.mark.parametrize('loss_type', ['l1', 'l2'])
def test_content_head_is_trained_separately_and_blended_in_validation(step_config, loss_type):
    step_config.PROGRESS_LOSS.loss_type = loss_type
    output = make_step_output(content_head=True, step_coefficient=0.25)
    head = output['progress_head']
    torch.nn.init.normal_(head.content.fc[-2].weight, std=3)

    def loss():
        random.seed(0)
        return get_loss_function(step_config)(output, 0, times=STEP_TIMES)

    def error(weight):
        head.content_weight.fill_(weight)
        return loss()['progress_loss'].item()

    head.eval()
    assert error(0) != pytest.approx(error(1), rel=0.01)
    by_steps, by_content = error(0), error(1)
    head.train()
    trained = loss()
    head.step_coefficient = 0
    assert loss()['progress_loss'].item() == pytest.approx((by_steps + by_content) / 2, rel=1e-5)
    assert trained['progress_loss'] > loss()['progress_loss']  # it includes the recognition term
    trained['progress_loss'].backward()
    assert all(weight.grad.norm() > 0 for weight in head.content.parameters())


def test_context_of_an_action_uses_only_earlier_actions(step_config, monkeypatch):
    output, seen = make_step_output(), []
    read = output['progress_head'].forward_experts
    monkeypatch.setattr(output['progress_head'], 'forward_experts',
                        lambda inputs, contexts: seen.append((inputs, contexts)) or read(inputs, contexts))
    step_config.PROGRESS_LOSS.samples_per_video = 1
    durations = output['progress_head'].durations
    paces = {action.name: durations.context('cook', list_actions(times, 20), action).log_pace
             for times in STEP_TIMES for action in list_actions(times, 20)}
    random.seed(0)
    for _ in range(12):
        get_loss_function(step_config)(output, 0, times=STEP_TIMES)
    known = {context for _, contexts in seen for context in contexts}
    # One action per recording is sampled, but its pace comes from all earlier actions.
    assert all(len(inputs) == len(contexts) == 2 for inputs, contexts in seen)
    assert known == {ActionContext('cook', 0.0, 'cut'), ActionContext('cook', paces['mix'], 'mix'),
                     ActionContext('cook', paces['whisk'], 'whisk')}
    assert paces['mix'] != 0 != paces['whisk']

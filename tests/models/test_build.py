"""Build models from configurations: sizes come from the data, and causal models do not see future frames."""

import inspect
import itertools
import random
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from easydict import EasyDict

import configs
from configs.choices import ENCODERS
from configs.entry_config import parse_training_arguments
from models.build import build_model, check_model, fill_in_head, fill_in_sizes, input_width
from models.encoders.layers import EMBEDDING_NORM
from models.encoders.short_memory import START_NORM
from models.heads.base import EmbeddedRecording
from models.heads.hsmm import HSMMHead
from models.heads.recurrent import ProgressHead
from utils.errors import UserError
from utils.tensorops import Action, list_actions

D = 5
TIMES = {'step': ['0', 'pour', 'mix', '0', 'pour', 'mix', 'serve'], 'start_frame': [0, 3, 12, 30, 34, 45, 60],
         'end_frame': [2, 11, 29, 33, 44, 59, 79], 'name': 'a', 'task': 'tea'}
TRAINING = {'tea': [[Action('pour', 0, 7), Action('mix', 8, 19), Action('serve', 20, 59)],
                    [Action('mix', 5, 30), Action('pour', 31, 45)]],
            'pie': [[Action('mix', 0, 30)], []]}
STEPS = [('pie', 'mix'), ('tea', 'mix'), ('tea', 'pour'), ('tea', 'serve')]


@pytest.fixture
def causal_config(config):
    """Return a small configuration similar to the recommended preset."""
    config.LOSS_TYPE.GTCC, config.CAUSAL = True, True
    config.BASEARCH.ARCHITECTURE = 'temporal_stacking'
    config.BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels = 16
    config.OUTPUT_DIMENSIONALITY = 8
    config.ARCHITECTURE.update(attn_layers=[6], drop_layers=[6])
    config.PROGRESS_LOSS.update(enabled=True, sampling='dense', head='hsmm')
    return config


def built(config):
    """The model of a configuration."""
    torch.manual_seed(0)
    fill_in_sizes(config, D, 2)
    fill_in_head(config, TRAINING)
    return build_model(config).eval()


def fitted(config):
    """The model of a configuration, its head fitted to noise if it is fitted in closed form."""
    model = built(config)
    model.progress_head.fit([
        EmbeddedRecording(task, f'{task}{index}', torch.randn(60, config.OUTPUT_DIMENSIONALITY), actions)
        for task, recordings in TRAINING.items() for index, actions in enumerate(recordings)])
    return model


def test_sizes_come_from_the_data(causal_config):
    assert input_width(causal_config) is None
    fill_in_sizes(causal_config, 9, 4)
    assert (input_width(causal_config), causal_config.ARCHITECTURE.num_heads) == (9, 4)
    with pytest.raises(UserError, match='input_dimensions is 9, but the files have 8 feature dimensions'):
        fill_in_sizes(causal_config, 8, 4)


def test_steps_come_from_the_training_recordings(causal_config):
    fill_in_head(causal_config, TRAINING)
    assert causal_config.PROGRESS_LOSS.steps == STEPS
    shuffled = {task: random.Random(0).sample(recordings, 2) for task, recordings in reversed(TRAINING.items())}
    fill_in_head(causal_config, shuffled)
    assert causal_config.PROGRESS_LOSS.steps == STEPS  # buffers belong to positions: the order must not change


def test_steps_are_filled_in_for_a_head_that_knows_them_alone(causal_config):
    causal_config.PROGRESS_LOSS.head = 'gru'
    fill_in_head(causal_config, TRAINING)
    assert causal_config.PROGRESS_LOSS.steps is None


def test_training_recordings_without_actions_are_refused(causal_config):
    with pytest.raises(UserError, match='PROGRESS_LOSS.head: .* recordings contain no action.*BACKGROUND_LABELS'):
        fill_in_head(causal_config, {'tea': [[], []], 'pie': []})
    causal_config.PROGRESS_LOSS.enabled = False
    fill_in_head(causal_config, {'tea': [[]]})


def test_no_head_is_built_if_progress_is_disabled(causal_config):
    causal_config.PROGRESS_LOSS.enabled = False
    fill_in_sizes(causal_config, D, 2)
    fill_in_head(causal_config, TRAINING)
    model = build_model(causal_config)
    assert set(model([torch.randn(4, D)])) == {'outputs', 'dropouts'}
    assert not any('progress_head' in name for name in model.state_dict())


@pytest.mark.parametrize('mcn', [True, False])
def test_identity_embedding_dim_is_feature_dim(causal_config, mcn):
    causal_config.BASEARCH.ARCHITECTURE, causal_config.ARCHITECTURE.MCN = 'identity', mcn
    model, features = built(causal_config), torch.randn(6, D)
    assert (causal_config.OUTPUT_DIMENSIONALITY, input_width(causal_config)) == (D, D)
    embeddings = model([features])['outputs'][0]
    assert embeddings.shape == (6, D) and torch.equal(embeddings, features) != mcn
    assert model.progress_head.forward_dense(embeddings).shape == (6,)
    fill_in_sizes(causal_config, D, 2)  # once filled in, it stays
    assert causal_config.OUTPUT_DIMENSIONALITY == D
    with pytest.raises(UserError, match='IDENTITY_ARCH.input_dimensions is 5, but the files have 4 feature dim'):
        fill_in_sizes(causal_config, 4, 2)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'sampling': 'segment'}, "sampling is 'segment', expected dense with PROGRESS_LOSS.head 'hsmm'"),
    ({'sampling': 'prefix'}, "sampling is 'prefix', expected dense"),
    ({'use_gru': False}, "use_gru is False, but it has no effect .* 'hsmm'; set PROGRESS_LOSS.head to 'gru'"),
    ({'head': 'gru', 'condition_on_step': True}, "condition_on_step is True, but .* 'gru'; set .* to 'hsmm'")])
def test_settings_that_do_not_fit_the_head_are_refused(causal_config, changes, message):
    check_model(causal_config)
    causal_config.PROGRESS_LOSS.update(changes)
    with pytest.raises(UserError, match=message):
        check_model(causal_config)


def test_encoder_without_weights_requires_other_weights(causal_config):
    causal_config.BASEARCH.ARCHITECTURE, causal_config.PROGRESS_LOSS.enabled = 'identity', False
    with pytest.raises(UserError, match='ARCHITECTURE is identity: nothing is left to train'):
        check_model(causal_config)
    causal_config.ARCHITECTURE.MCN = True
    check_model(causal_config)


def test_an_encoder_that_nothing_trains_is_refused(causal_config):
    causal_config.ALIGNMENT_WEIGHT = 0.0
    with pytest.raises(UserError, match='temporal_stacking: nothing trains it, as ALIGNMENT_WEIGHT is 0 and .*hsmm'):
        check_model(causal_config)
    for change in ({'FREEZE_ENCODER': True}, {'INIT_FROM': 'run'}):
        check_model(EasyDict({**causal_config, **change}))
    causal_config.PROGRESS_LOSS.update(head='gru', condition_on_step=False)
    check_model(causal_config)


def test_every_encoder_has_an_entry_among_the_settings():
    for entry in ENCODERS.values():
        assert {entry.input_key, *(setting.name for setting in entry.settings)} <= set(
            inspect.signature(resolve_name(entry.cls)).parameters)


def test_every_preset_is_valid_for_its_head(causal_config):
    for name in ('plan', 'recommended'):
        path = Path(configs.__file__).with_name(f'progress_{name}.json')
        command = ['1', '--dataset', 'demo', '--identity', '--config', str(path)]
        check_model(parse_training_arguments(command, 'test')[0])


def test_options_reach_the_head(causal_config):
    causal_config.PROGRESS_LOSS.condition_on_step = True
    head = built(causal_config).progress_head
    assert isinstance(head, HSMMHead) and head.condition_on_step
    assert [(task, label) for task in head.tasks for label in head.labels(task)] == STEPS
    causal_config.PROGRESS_LOSS.update(head='gru', hidden_dim=9)
    head = build_model(causal_config).progress_head
    assert type(head) is ProgressHead and head.gru.hidden_size == 9


@pytest.mark.parametrize(('architecture', 'causal', 'ahead'), [
    ('temporal_stacking', True, 0), ('temporal_stacking', False, 7), ('naive', True, 0), ('recurrent', True, 0),
    ('short_memory', True, 0), ('resnet50', True, 0), ('identity', True, 0), ('identity', False, 0)])
def test_causal_is_an_option_of_the_stacking_encoder(causal_config, architecture, causal, ahead):
    causal_config.BASEARCH.ARCHITECTURE, causal_config.CAUSAL = architecture, causal
    assert built(causal_config).lookahead == ahead


@torch.no_grad()
def predict(model, features, times):
    """Return the progress of each action as in evaluation: start of the action -> (n,)."""
    embeddings = model([features])['outputs'][0]
    actions = list_actions(times, len(features))
    segments = [embeddings[action.start:action.end + 1] for action in actions]
    progress = model.progress_head.forward_dense(segments, model.progress_head.contexts(times['task'], actions))
    return {action.start: rows for action, rows in zip(actions, progress, strict=True)}


def known_until(progress, frame):
    """Return the part of a prediction before a frame."""
    return torch.cat([rows[:max(0, frame - start)] for start, rows in progress.items()])


@pytest.mark.parametrize('mcn', [True, False])
@pytest.mark.parametrize('head', ['gru', 'hsmm'])
def test_future_frames_change_no_prediction_up_to_then(causal_config, mcn, head):
    causal_config.ARCHITECTURE.MCN = mcn
    causal_config.PROGRESS_LOSS.head = head
    features, models = torch.randn(80, D), {}
    for causal in (True, False):
        causal_config.CAUSAL = causal
        model = fitted(causal_config)
        models[causal] = model, predict(model, features, TIMES)
    for frame in (13, 34, 44, 61):
        changed = features.clone()
        changed[frame:] = 50 * torch.randn(80 - frame, D)
        (model, before), (centered, of_centered) = models[True], models[False]
        after = predict(model, changed, TIMES)
        torch.testing.assert_close(known_until(after, frame), known_until(before, frame), rtol=0, atol=1e-6)
        assert not torch.equal(torch.cat([*before.values()]), torch.cat([*after.values()]))
        after = predict(centered, changed, TIMES)  # and the test would see it
        assert (known_until(after, frame) - known_until(of_centered, frame)).abs().max() > 1e-4


def with_times(**changes):
    """Return the recording's annotation, changed by position -> (step, start, end)."""
    times = {key: list(values) if isinstance(values, list) else values for key, values in TIMES.items()}
    for position, segment in changes.items():
        for key, value in zip(('step', 'start_frame', 'end_frame'), segment, strict=True):
            times[key][int(position[1:])] = value
    return times


# What changes -> (the changed annotation, the frame up to which it must change nothing).
CHANGES = {
    'later actions': (with_times(_2=('mix', 12, 20), _3=('0', 21, 50), _4=('pour', 51, 52), _5=('mix', 53, 58)), 21),
    'end of the action in progress': (with_times(_4=('pour', 34, 58), _5=('serve', 59, 59)), 45),
    'label of the action in progress': (with_times(_4=('serve', 34, 44), _5=('pour', 45, 59)), 45),
    'an action becomes background': (with_times(_6=('0', 60, 79)), 60),
    'the next action starts earlier': (with_times(_5=('mix', 45, 47), _6=('serve', 48, 79)), 48)}


def test_prediction_depends_only_on_completed_actions(causal_config):
    model, features = fitted(causal_config), torch.randn(80, D)
    before = predict(model, features, TIMES)
    for change, (times, frame) in CHANGES.items():
        after = predict(model, features, times)
        torch.testing.assert_close(known_until(after, frame), known_until(before, frame), rtol=0, atol=1e-6,
                                   msg=lambda text, change=change: f'{change}: {text}')
    paced = predict(model, features, with_times(_1=('pour', 3, 4)))
    assert (before[12] != paced[12]).all(), 'completed actions determine the pace'


@pytest.mark.parametrize(('encoder', 'heads'), [
    *itertools.product(('naive', 'temporal_stacking', 'recurrent', 'short_memory'), (None, 3)), ('naive', 1),
    ('short_memory', 32)])
def test_embeddings_of_a_new_model_have_the_documented_norm(config, encoder, heads):
    config.BASEARCH.ARCHITECTURE, config.LOSS_TYPE.LAV = encoder, True
    config.ARCHITECTURE.update(MCN=heads is not None, num_heads=heads)
    fill_in_sizes(config, 32, 1)
    norms = []
    for seed in range(4):
        torch.manual_seed(seed)
        features = torch.randn(40, 32)  # mean square 1
        with torch.no_grad():
            norms.append(build_model(config)([features])['outputs'][0].norm(dim=1).mean().item())
    expected = START_NORM if encoder == 'short_memory' else EMBEDDING_NORM
    assert sum(norms) / len(norms) == pytest.approx(expected, rel=0.15)
    assert all(expected / 2 < norm < 2 * expected for norm in norms)

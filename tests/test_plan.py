"""Names and defaults of the user's plan and of the published code, from the options to the model and its training."""

import inspect
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from configs.entry_config import parse_training_arguments
from configs.generic_config import CONFIG
from configs.validation import flatten
from losses import GTCC_loss, LAV_loss, TCC_loss, VAVA_loss
from models.build import build_model, fill_in_sizes
from models.model_multiprong import MultiProngAttDropoutModel, ProgressHead
from training.step import build_optimizer, clip_gradients, clip_limits
from utils.ckpt_save import get_ckpt_MCN
from utils.loss_entry import get_progress_lambda
from utils.tensorops import sample_action_segment_with_random_index

PRESETS = Path(__file__).resolve().parents[1] / 'configs'
PLAN, RECOMMENDED = PRESETS / 'progress_plan.json', PRESETS / 'progress_recommended.json'
WIDTH = 5  # of the features


def parse(*options):
    return parse_training_arguments(['1', '--tcc', '--dataset', 'kitchen', '--naive', *map(str, options)], 'train')[0]


def build(*options):
    """Configuration and model of a small network with a progress head."""
    config = parse('--progress', '-od', 4, '--set', 'BASEARCH.NAIVE_ARCH.layers=[3]', '--set',
                   'ARCHITECTURE.attn_layers=[3]', '--set', 'ARCHITECTURE.drop_layers=[3]', *options)
    fill_in_sizes(config, WIDTH, 2)
    return config, build_model(config)


@pytest.mark.parametrize(('key', 'default'), [
    ('PROGRESS_LOSS.enabled', False), ('PROGRESS_LOSS.coefficient', 0.1), ('PROGRESS_LOSS.loss_type', 'l1'),
    ('PROGRESS_LOSS.min_segment_len', 3), ('PROGRESS_LOSS.hidden_dim', 64), ('PROGRESS_LOSS.use_gru', True),
    ('PROGRESS_LOSS.lambda_curriculum.enabled', False), ('PROGRESS_LOSS.lambda_curriculum.start', 0.01),
    ('PROGRESS_LOSS.lambda_curriculum.end', 0.5), ('PROGRESS_LOSS.head', 'gru'),
    ('PROGRESS_LOSS.samples_per_video', 8), ('PROGRESS_LOSS.sampling', 'segment'),
    ('PROGRESS_LOSS.normalize_embeddings', True), ('PROGRESS_LOSS.detach_embeddings', False),
    ('PROGRESS_LOSS.head_learning_rate', None), ('LEARNING_RATE', 1e-4), ('BATCH_SIZE', 2), ('NUM_EPOCHS', 50),
    ('OUTPUT_DIMENSIONALITY', 128), ('ARCHITECTURE.MCN', False), ('CLIP_GRAD_NORM', 1.0),
    ('HEAD_CLIP_GRAD_NORM', 1.0), ('BACKGROUND_LABELS', ['0', 'SIL', 'background'])])
def test_defaults_of_settings(key, default):
    assert flatten(CONFIG)[key] == default == flatten(parse())[key]


def test_the_plans_section_has_all_of_its_keys_in_order():
    keys = ['enabled', 'coefficient', 'loss_type', 'min_segment_len', 'hidden_dim', 'use_gru', 'lambda_curriculum']
    assert list(CONFIG.PROGRESS_LOSS)[:len(keys)] == keys
    assert list(CONFIG.PROGRESS_LOSS.lambda_curriculum) == ['enabled', 'start', 'end']


@pytest.mark.parametrize(('loss', 'defaults'), [
    (TCC_loss, {'softmax_temp': 0.1, 'alignment_variance': 0.001, 'reduction': 'mean'}),
    (GTCC_loss, {'n_components': 15, 'delta': 0.2, 'gamma': 0.95, 'dropouts': None, 'softmax_temp': 0.1,
                 'alignment_variance': 0, 'max_gmm_iters': 20, 'epoch': 0, 'max_comparisons': 20, 'reduction': 'mean',
                 'rng': None}),
    (LAV_loss, {'min_temp': 0.1, 'cr_coefficient': 1.0, 'window': 0.1, 'reduction': 'mean'}),
    (VAVA_loss, {'maxIter': 20, 'lambda1': 1, 'lambda2': 0.1, 'gamma': 100.0, 'zeta': 0.5, 'delta': 0.6,
                 'global_step': 0, 'window': 0.1, 'reduction': 'mean'}),
    (ProgressHead, {'input_dim': 128, 'hidden_dim': 64, 'use_gru': True}),
    (MultiProngAttDropoutModel, {'dropping': False, 'use_progress_head': False, 'progress_head_hidden_dim': 64,
                                 'progress_head_use_gru': True}),
    (sample_action_segment_with_random_index, {'min_segment_len': 3}),
    (get_ckpt_MCN, {'dropout': False, 'checkpoint_type': 'combined'})])
def test_defaults_of_arguments(loss, defaults):
    found = {name: parameter.default for name, parameter in inspect.signature(loss).parameters.items()}
    assert {name: found[name] for name in defaults} == defaults
    if loss.__module__.startswith('losses'):
        assert set(found) == {'sequences', *defaults}


def test_the_settings_of_the_losses_are_their_defaults_except_for_the_window_of_gtcc():
    sections = {TCC_loss: 'TCC_ORIGINAL_PARAMS', GTCC_loss: 'GTCC_PARAMS', LAV_loss: 'LAV_PARAMS',
                VAVA_loss: 'VAVA_PARAMS'}
    for loss, section in sections.items():
        defaults = {name: parameter.default for name, parameter in inspect.signature(loss).parameters.items()}
        settings = {'delta': 0.2} if loss is GTCC_loss else {}
        assert {name: defaults[name] for name in CONFIG[section]} == {**CONFIG[section], **settings}
    assert CONFIG.GTCC_PARAMS.delta == 1.0


@pytest.mark.parametrize('network', [[], ['--mcn']], ids=['one encoder', 'mcn'])
def test_the_options_of_the_head_reach_the_model(network):
    head = build(*network)[1].progress_head
    assert head.use_gru and isinstance(head.gru, nn.GRU) and head.gru.hidden_size == 64
    head = build(*network, '--progress_pooling', 'mean', '--set', 'PROGRESS_LOSS.hidden_dim=7')[1].progress_head
    assert not head.use_gru and not hasattr(head, 'gru') and head.fc[0].out_features == 7
    embeddings = torch.randn(6, 4)
    assert torch.allclose(head(embeddings), head(embeddings.flip(0)))  # the mean does not know the order
    for normalized in (True, False):
        head = build(*network, '--set', f'PROGRESS_LOSS.normalize_embeddings={json.dumps(normalized)}')[1].progress_head
        assert torch.allclose(head(embeddings), head(5 * embeddings), atol=1e-4) == normalized


def test_the_head_has_a_learning_rate_and_a_clip_of_its_own():
    config, model = build('-lr', 0.1, '--set', 'PROGRESS_LOSS.head_learning_rate=0.5', '--set', 'CLIP_GRAD_NORM=3',
                          '--set', 'HEAD_CLIP_GRAD_NORM=0.25')
    optimizer = build_optimizer(model, config.LEARNING_RATE, config.PROGRESS_LOSS.head_learning_rate)
    assert {group['name']: group['lr'] for group in optimizer.param_groups} == {'encoder': 0.1, 'progress_head': 0.5}
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 100.0)
    clip_gradients(optimizer, clip_limits(config))
    head = list(model.progress_head.parameters())
    rest = [weight for name, weight in model.named_parameters() if not name.startswith('progress_head')]
    for weights, limit in ((head, 0.25), (rest, 3.0)):
        norm = torch.stack([weight.grad.norm() for weight in weights]).norm()
        assert float(norm) == pytest.approx(limit, rel=1e-4)


@pytest.mark.parametrize(('options', 'first', 'last'), [
    ([], 0.1, 0.1), (['--config', PLAN], 0.01, 0.5),
    (['--progress', '--progress_lambda', 2], 2.0, 2.0), (['--progress', '--progress_curriculum', 0, 3], 0.0, 3.0),
    (['--config', PLAN, '--progress_lambda', 2], 2.0, 2.0)])
def test_lambda_from_the_first_epoch_to_the_last(options, first, last):
    config = parse('-ep', 11, *options)
    weights = [get_progress_lambda(epoch, config.NUM_EPOCHS, config.PROGRESS_LOSS) for epoch in (0, 5, 10)]
    assert weights == pytest.approx([first, (first + last) / 2, last])


def test_the_recommended_preset_is_what_was_measured():
    assert json.loads(RECOMMENDED.read_text()) == {
        'LOSS_TYPE': {'GTCC': True}, 'ALIGNMENT_WEIGHT': 0.0, 'BASEARCH': {'ARCHITECTURE': 'identity'}, 'NUM_EPOCHS': 1,
        'PROGRESS_LOSS': {'enabled': True, 'sampling': 'dense', 'head': 'hsmm'}}

"""Command line and config file: names, precedence, presets of datasets and one-line errors."""

import copy
import json
from pathlib import Path

import pytest

from configs.choices import LOSSES
from configs.entry_config import parse_training_arguments
from configs.generic_config import CONFIG
from configs.validation import flatten
from utils.errors import UserError

PLAN = Path(__file__).resolve().parents[2] / 'configs/progress_plan.json'
RECOMMENDED = PLAN.with_name('progress_recommended.json')
PUBLISHED = PLAN.with_name('published_defaults.json')
CHOICES = ['1', '--gtcc', '--ego', '--tstack']
STEPS = ['--set', 'PROGRESS_LOSS.head=hsmm']
DENSE = ['--progress_sampling', 'dense']
HEAD = {'PROGRESS_LOSS.enabled': True}


def parse(*argv):
    return parse_training_arguments([str(argument) for argument in argv], 'multitask_train.py')[0]


def changed(config):
    """Return the dotted settings that differ from the defaults."""
    defaults = flatten(CONFIG)
    return {key: value for key, value in flatten(config).items() if value != defaults[key]}


def refused(*argv):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def config_file(tmp_path):
    def write(content):
        path = tmp_path / 'settings.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path
    return write


def test_choices_change_no_other_setting():
    assert changed(parse(*CHOICES)) == {
        'LOSS_TYPE.GTCC': True, 'DATASET_NAME': 'egoprocel', 'BASEARCH.ARCHITECTURE': 'temporal_stacking',
        'EXPERIMENTNAME': 'V1___GTCC_egoprocel',
        'GTCC_PARAMS.delta': 0.2}  # published for the dataset


def test_published_defaults_differ_from_ours_as_documented():
    assert changed(parse('1', '--lav', '--dataset', 'tea', '--tstack', '--config', PUBLISHED)).items() >= {
        'GTCC_PARAMS.delta': 0.2, 'LAV_PARAMS.cr_coefficient': 0.01, 'LAV_PARAMS.window': 15, 'VAVA_PARAMS.gamma': 0.5,
        **{f'{loss.section}.reduction': 'sum' for loss in LOSSES.values()}}.items()


def test_defaults_are_not_modified():
    before = copy.deepcopy(CONFIG)
    config = parse(*CHOICES, '-lr', '0.5', '--set', 'PROGRESS_LOSS.hidden_dim=3')
    config.GTCC_PARAMS.delta = 0.7
    assert before == CONFIG


@pytest.mark.parametrize(('spellings', 'key', 'value'), [
    (('--tcc', '--TCC'), 'LOSS_TYPE.tcc', True), (('--gtcc', '--GTCC'), 'LOSS_TYPE.GTCC', True),
    (('--temporal_stacking', '--tstack', '--temp'), 'BASEARCH.ARCHITECTURE', 'temporal_stacking'),
    (('--naive',), 'BASEARCH.ARCHITECTURE', 'naive'),
    (('--resnet50', '--rnet50', '--resnet', '--rnet'), 'BASEARCH.ARCHITECTURE', 'resnet50'),
    (('--egoprocel', '--ego'), 'DATASET_NAME', 'egoprocel'), (('--cmu',), 'DATASET_NAME', 'cmu'),
    (('--egtea',), 'DATASET_NAME', 'egtea'), (('--penn_action', '--penn'), 'DATASET_NAME', 'penn-action'),
    (('--pouring', '--pour'), 'DATASET_NAME', 'pouring'), (('--coin',), 'DATASET_NAME', 'coin')])
def test_published_spellings_of_the_choices(spellings, key, value):
    groups = {'LOSS_TYPE': '--tcc', 'BASEARCH': '--naive', 'DATASET_NAME': '--ego'}
    others = [flag for group, flag in groups.items() if group != key.split('.')[0]]
    for spelling in spellings:
        assert flatten(parse('1', spelling, *others))[key] == value


@pytest.mark.parametrize('option', [
    ['--progress_loss', 'l2'], ['--progress_sampling', 'dense'], ['--progress_lambda', '0'],
    ['--progress_curriculum', '0', '1'], ['--progress_pooling', 'gru']])
def test_options_of_the_head_require_a_head(option):
    with pytest.raises(UserError, match=f'^{option[0]}: there is no progress head to take it; give --progress, too$'):
        parse(*CHOICES, *option)


@pytest.mark.parametrize(('options', 'expected'), [
    (['-lr', '0.01'], {'LEARNING_RATE': 0.01}), (['--learning_rate', '1'], {'LEARNING_RATE': 1.0}),
    (['-bs', '4'], {'BATCH_SIZE': 4}), (['--batch_size', '4'], {'BATCH_SIZE': 4}),
    (['-ep', '5'], {'NUM_EPOCHS': 5}), (['--epochs', '5'], {'NUM_EPOCHS': 5}),
    (['-od', '64'], {'OUTPUT_DIMENSIONALITY': 64}), (['--output_dimensions', '64'], {'OUTPUT_DIMENSIONALITY': 64}),
    (['--mcn'], {'ARCHITECTURE.MCN': True}), (['--debug'], {'DEBUG': True}), (['--seed', '7'], {'SEED': 7}),
    (['--device', 'cuda:1'], {'DEVICE': 'cuda:1'}), (['--workers', '2'], {'WORKERS': 2}),
    (['--progress'], HEAD), (['--progress', '--progress_loss', 'l2'], {**HEAD, 'PROGRESS_LOSS.loss_type': 'l2'}),
    (['--progress', '--progress_sampling', 'dense'], {**HEAD, 'PROGRESS_LOSS.sampling': 'dense'}),
    (['--progress', '--progress_pooling', 'mean'], {**HEAD, 'PROGRESS_LOSS.use_gru': False}),
    (['--progress', '--progress_pooling', 'gru'], HEAD),
    (['--progress', '--progress_lambda', '2'], {**HEAD, 'PROGRESS_LOSS.coefficient': 2.0}),
    (['--progress', '--progress_curriculum', '0.1', '0.9'],
     {**HEAD, 'PROGRESS_LOSS.lambda_curriculum.enabled': True, 'PROGRESS_LOSS.lambda_curriculum.start': 0.1,
      'PROGRESS_LOSS.lambda_curriculum.end': 0.9}),
    (['--amp'], {'AMP': True}), (['--max_frames', '90'], {'MAX_FRAMES': 90}),
    (['--set', 'TIME_SCALE=7.5', '--set', 'VERSION=b'], {'TIME_SCALE': 7.5, 'VERSION': 'b',
                                                         'EXPERIMENTNAME': 'Vb___GTCC_egoprocel'}),
    # allowed without a head, as in a config file for several runs
    (['--set', 'PROGRESS_LOSS.hidden_dim=3'], {'PROGRESS_LOSS.hidden_dim': 3}),
    (['--progress', *STEPS, *DENSE, '--condition_on_step'],
     {'PROGRESS_LOSS.enabled': True, 'PROGRESS_LOSS.head': 'hsmm', 'PROGRESS_LOSS.sampling': 'dense',
      'PROGRESS_LOSS.condition_on_step': True}),
    (['--init_from', 'runs/1'], {'INIT_FROM': 'runs/1'}),
    (['--progress', '--freeze_encoder'], {'PROGRESS_LOSS.enabled': True, 'FREEZE_ENCODER': True}),
    (['--set', 'CAUSAL=true', '--set', 'LEARNING_RATE_SCHEDULE=cosine', '--set', 'WEIGHT_DECAY=1'],
     {'CAUSAL': True, 'LEARNING_RATE_SCHEDULE': 'cosine', 'WEIGHT_DECAY': 1.0}),
    (['--set', 'AUGMENTATION.shift=0.2'], {'AUGMENTATION.shift': 0.2}),
    (['--set', 'BACKGROUND_LABELS=["x"]'], {'BACKGROUND_LABELS': ['x']}),
    (['--set', 'PROGRESS_LOSS.head_learning_rate=1'], {'PROGRESS_LOSS.head_learning_rate': 1.0})])
def test_options_set_their_setting_and_no_other(options, expected):
    assert changed(parse(*CHOICES, *options)) == {**changed(parse(*CHOICES)), **expected}


@pytest.mark.parametrize(('options', 'in_file', 'expected'), [
    ([], None, 50), ([], 20, 20), (['-ep', '5'], None, 5), (['-ep', '5'], 20, 5), (['--set', 'NUM_EPOCHS=6'], 20, 6)])
def test_command_line_over_file_over_defaults(config_file, options, in_file, expected):
    if in_file:
        options = [*options, '--config', config_file({'NUM_EPOCHS': in_file})]
    assert parse(*CHOICES, *options).NUM_EPOCHS == expected


def test_choices_on_the_command_line_replace_those_in_the_file(config_file):
    path = config_file({'LOSS_TYPE': {'GTCC': True}, 'DATASET_NAME': 'coin', 'BASEARCH': {'ARCHITECTURE': 'naive'},
                        'VERSION': 9, 'GTCC_PARAMS': {'n_components': 3}})
    from_file = parse('1', '--config', path)
    assert from_file.LOSS_TYPE.GTCC
    assert (from_file.DATASET_NAME, from_file.BASEARCH.ARCHITECTURE) == ('coin', 'naive')
    assert from_file.EXPERIMENTNAME == 'V1___GTCC_coin'
    # The file overrides the preset of the dataset, which overrides the defaults.
    assert (from_file.GTCC_PARAMS.n_components, from_file.GTCC_PARAMS.delta) == (3, 0.5)
    from_line = parse('1', '--config', path, '--tcc', '--ego', '--tstack')
    assert from_line.LOSS_TYPE == {'GTCC': False, 'tcc': True, 'LAV': False, 'VAVA': False}
    assert (from_line.DATASET_NAME, from_line.BASEARCH.ARCHITECTURE) == ('egoprocel', 'temporal_stacking')
    assert from_line.GTCC_PARAMS.delta == 0.2


@pytest.mark.parametrize(('dataset', 'expected'), [
    (['--ego'], (15, 0.2, 0.95)), (['--cmu'], (15, 0.2, 0.95)), (['--egtea'], (15, 0.2, 0.95)),
    (['--dataset', 'kitchen'], (15, 1.0, 0.95)), (['--penn'], (5, 0.5, 1.0)), (['--pour'], (5, 0.5, 1.0)),
    (['--coin'], (5, 0.5, 1.0)), (['--coin', '--set', 'GTCC_PARAMS.gamma=0.8'], (5, 0.5, 0.8))])
def test_gtcc_defaults_follow_the_dataset(dataset, expected):
    params = parse('1', '--gtcc', '--tstack', *dataset).GTCC_PARAMS
    assert (params.n_components, params.delta, params.gamma) == expected


@pytest.mark.parametrize('more', [['--mcn'], ['--progress'], ['--mcn', '--progress', '--freeze_encoder']])
def test_identity_encoder_is_accepted_if_something_is_trained(more):
    assert parse('1', '--tcc', '--ego', '--identity', *more).BASEARCH.ARCHITECTURE == 'identity'


def test_example_of_the_plan(config_file):
    example = {'enabled': True, 'coefficient': 0.1, 'loss_type': 'l1', 'min_segment_len': 3, 'hidden_dim': 64,
               'use_gru': True, 'lambda_curriculum': {'enabled': True, 'start': 0.01, 'end': 0.5}}
    config = parse('1', '--ego', '--resnet', '--mcn', '-bs', '2', '-ep', '5', '--config', PLAN)
    assert {key: config.PROGRESS_LOSS[key] for key in example} == example
    assert config.LOSS_TYPE.GTCC and config.PROGRESS_LOSS.samples_per_video == 1
    assert not config.PROGRESS_LOSS.normalize_embeddings
    assert parse(*CHOICES, '--config', config_file({'PROGRESS_LOSS': example})).PROGRESS_LOSS == {
        **CONFIG.PROGRESS_LOSS, **example}


def test_the_recommended_preset_is_a_filter_on_the_features_without_alignment():
    config = parse('1', '--dataset', 'demo', '--config', RECOMMENDED)
    settings = config.PROGRESS_LOSS
    assert settings.enabled and settings.head == 'hsmm' and settings.sampling == 'dense'
    assert config.BASEARCH.ARCHITECTURE == 'identity' and config.LOSS_TYPE.GTCC
    assert (config.ALIGNMENT_WEIGHT, config.EXPERIMENTNAME) == (0.0, 'V1___GTCC_demo')
    assert not settings.condition_on_step and settings.steps is None
    assert parse(*CHOICES, '--config', RECOMMENDED, '--condition_on_step').PROGRESS_LOSS == {
        **settings, 'condition_on_step': True}


def test_constant_lambda_disables_the_curriculum():
    settings = parse(*CHOICES, '--config', PLAN, '--progress_lambda', '0.7').PROGRESS_LOSS
    assert (settings.coefficient, settings.lambda_curriculum.enabled, settings.enabled) == (0.7, False, True)


@pytest.mark.parametrize(('options', 'name'), [
    (['7', '--tcc', '--ego'], 'V7___tcc_egoprocel'),
    (['1', '--gtcc', '--ego', '-m', 'progress'], 'V1___GTCC_egoprocel.progress'),
    (['1.2b', '--gtcc', '--penn', '--message', 'a-b_c'], 'V1.2b___GTCC_penn-action.a-b_c'),
    (['1', '--tcc', '--dataset', 'my.set'], 'V1___tcc_my.set'), (['1', '--lav', '--ego'], 'V1___LAV_egoprocel'),
    (['1', '--VAVA', '--ego'], 'V1___VAVA_egoprocel'),
    (['1', '--tcc', '--ego', '--set', 'EXPERIMENTNAME=mine'], 'mine')])
def test_name_of_the_run_folder(options, name):
    assert parse(*options, '--tstack').EXPERIMENTNAME == name


@pytest.mark.parametrize(('argv', 'expected'), [
    ([], 'required: VERSION'),
    (['1', '--ego', '--tstack', '--set', 'ALIGNMENT_WEIGHT=0'], 'ALIGNMENT_WEIGHT is 0: without alignment'),
    (['1', '--ego', '--tstack'], 'LOSS_TYPE: no alignment loss chosen, expected one; set LOSS_TYPE.GTCC (--gtcc), '),
    (['1', '--gtcc', '--ego'], 'no encoder chosen, expected one; set BASEARCH.ARCHITECTURE (--tstack, '),
    (['1', '--gtcc', '--tstack'], 'no dataset chosen, expected one; set DATASET_NAME (--egoprocel, --cmu'),
    ([*CHOICES, '--tcc'], 'not allowed with'), ([*CHOICES, '--coin'], 'not allowed with'),
    ([*CHOICES, '--naive'], 'not allowed with'), ([*CHOICES, '--dataset', 'x'], 'not allowed with'),
    ([*CHOICES, '--progress_lambda', '1', '--progress_curriculum', '0', '1'], 'not allowed with'),
    ([*CHOICES, '--set', 'LOSS_TYPE.tcc=true'], 'LOSS_TYPE: GTCC and tcc chosen, expected one; set'),
    (['../1', *CHOICES[1:]], "run folder name 'V../1___GTCC_egoprocel'"), ([*CHOICES, '-m', 'a/b'], 'run folder name'),
    ([*CHOICES, '-m', 'x' * 100], '100 at most'),
    (['1', '--gtcc', '--tstack', '--dataset', '../x'], "--dataset: DATASET_NAME is '../x', expected a name of letters"),
    ([*CHOICES, '--set', 'PROGRES_LOSS.hiden_dim=3'], "the nearest is 'PROGRESS_LOSS.hidden_dim'"),
    ([*CHOICES, '--set', 'learning_rate=3'], "the nearest is 'LEARNING_RATE'"),
    ([*CHOICES, '--set', 'PROGRESS_LOSS=3'], 'PROGRESS_LOSS is a section, not a setting'),
    ([*CHOICES, '--set', 'NUM_EPOCHS'], '--set NUM_EPOCHS: expected KEY=VALUE'),
    ([*CHOICES, '--set', 'NUM_EPOCHS=many'], "--set NUM_EPOCHS=many: NUM_EPOCHS is 'many' (str), expected a whole"),
    ([*CHOICES, '-ep', '2.5'], "invalid int value: '2.5'"),
    ([*CHOICES, '-ep', '0'], '--epochs: NUM_EPOCHS is 0, expected a whole number from 1 to 1000000'),
    ([*CHOICES, '-lr', '-1'], 'LEARNING_RATE is -1.0, expected a number above 0'),
    ([*CHOICES, '-lr', 'nan'], 'LEARNING_RATE is nan'), ([*CHOICES, '-lr', 'inf'], 'LEARNING_RATE is inf'),
    ([*CHOICES, *STEPS, *DENSE, '--condition_on_step'], 'the label; set PROGRESS_LOSS.enabled (--progress)'),
    ([*CHOICES, '--config', RECOMMENDED, '--condition_on_step', '--set', 'PROGRESS_LOSS.enabled=false',
      '--set', 'ALIGNMENT_WEIGHT=1'], 'no head'),
    ([*CHOICES, '--freeze_encoder'], 'nothing is left to train; set PROGRESS_LOSS.enabled (--progress)'),
    ([*CHOICES, '--identity'], 'not allowed with'),
    ([*CHOICES, '--set', 'INIT_FROM='], "INIT_FROM is '', expected the folder of a run"),
    ([*CHOICES, '--progress_loss', 'l3'], 'invalid choice'), ([*CHOICES, '--re'], 'ambiguous option'),
    ([*CHOICES, '--no_such'], 'unrecognized arguments: --no_such')])
def test_user_errors_are_one_line(argv, expected):
    assert expected in refused(*argv)


@pytest.mark.parametrize(('content', 'expected'), [
    ({'PROGRESS_LOSS': {'enabeld': True}},
     "unknown key 'PROGRESS_LOSS.enabeld'; the nearest is 'PROGRESS_LOSS.enabled'"),
    ({'PROGRESS_LOSS': True}, 'PROGRESS_LOSS is a section'), ({'NUM_EPOCHS': True}, 'NUM_EPOCHS is True (bool)'),
    ({'NUM_EPOCHS': {'a': 1}}, "unknown key 'NUM_EPOCHS.a'"),
    ({'GTCC_PARAMS': {'delta': 1.5}}, 'expected a number in (0, 1]'),
    ('[' * 10**5, 'not valid JSON'),
    ([1], 'contains a list, expected an object of settings'), ('{"a": ', 'not valid JSON'), ('', 'not valid JSON')])
def test_errors_in_a_file_name_the_file(config_file, content, expected):
    path = config_file(content)
    message = refused(*CHOICES, '--config', path)
    assert message.startswith(f'--config {path}: ') and expected in message


def test_error_names_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / 'nowhere.json', tmp_path):
        assert f'--config {path}: cannot be read' in refused(*CHOICES, '--config', path)


def test_detect_anomaly_option():
    assert not parse('1', '--tcc', '--tstack', '--ego').DETECT_ANOMALY
    assert parse('1', '--tcc', '--tstack', '--ego', '--detect_anomaly').DETECT_ANOMALY

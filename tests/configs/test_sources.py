"""Sources of the values of a configuration."""

import json
from pathlib import Path

import pytest

import multitask_train
from configs.entry_config import config_sources, describe_config, parse_training_arguments
from configs.generic_config import CONFIG
from configs.validation import flatten

PLAN = Path(__file__).resolve().parents[2] / 'configs/progress_plan.json'


def sources(*options):
    config, arguments = parse_training_arguments(['1', '--tstack', *map(str, options)], 'train')
    return {key: source for key, source in config_sources(config, arguments).items() if source != 'default'}


def test_every_kind_of_source_is_named():
    found = sources('--egoprocel', '--config', PLAN, '-ep', '3', '--progress_curriculum', '0', '1', '--set',
                    'PROGRESS_LOSS.coefficient=2', '--mcn')
    file, plan = f'--config {PLAN}', flatten(json.loads(PLAN.read_text())['PROGRESS_LOSS'])
    assert found == {
        'VERSION': 'VERSION', 'EXPERIMENTNAME': 'VERSION, loss, dataset and --message',
        'BASEARCH.ARCHITECTURE': '--tstack', 'DATASET_NAME': '--egoprocel', 'NUM_EPOCHS': '--epochs',
        'GTCC_PARAMS.delta': 'preset of egoprocel', 'ARCHITECTURE.MCN': '--mcn',
        **dict.fromkeys((f'LOSS_TYPE.{name}' for name in CONFIG.LOSS_TYPE), file),
        **dict.fromkeys((f'PROGRESS_LOSS.{key}' for key in plan), file),
        **dict.fromkeys((f'PROGRESS_LOSS.lambda_curriculum.{key}' for key in ('enabled', 'start', 'end')),
                        '--progress_curriculum'),
        'PROGRESS_LOSS.coefficient': '--set PROGRESS_LOSS.coefficient=2'}


@pytest.mark.parametrize(('options', 'key', 'source'), [
    (['--dataset', 'kitchen'], 'DATASET_NAME', '--dataset'),
    (['--coin', '--set', 'GTCC_PARAMS.gamma=0.8'], 'GTCC_PARAMS.gamma', '--set GTCC_PARAMS.gamma=0.8'),
    (['--coin', '--set', 'GTCC_PARAMS.gamma=0.8'], 'GTCC_PARAMS.delta', 'preset of coin'),
    (['--coin', '-ep', '3', '--set', 'NUM_EPOCHS=4'], 'NUM_EPOCHS', '--set NUM_EPOCHS=4'),
    (['--coin', '--set', 'EXPERIMENTNAME=mine'], 'EXPERIMENTNAME', '--set EXPERIMENTNAME=mine'),
    (['--coin', '--progress', '--progress_pooling', 'gru'], 'PROGRESS_LOSS.use_gru', '--progress_pooling'),
    (['--coin', '--progress', '--progress_lambda', '1'], 'PROGRESS_LOSS.lambda_curriculum.enabled',
     '--progress_lambda')])
def test_last_source_of_a_setting_is_reported(options, key, source):
    assert sources('--gtcc', *options)[key] == source


def test_each_setting_has_a_line_with_its_value():
    config, arguments = parse_training_arguments(['1', '--tcc', '--naive', '--ego', '-lr', '0.5'], 'train')
    lines = [line.split(maxsplit=1) for line in describe_config(config, arguments).splitlines()]
    assert [key for key, _ in lines] == list(flatten(config))
    assert dict(lines)['LEARNING_RATE'].split() == ['0.5', '--learning_rate']
    assert dict(lines)['PROGRESS_LOSS.steps'].split() == ['null', 'default']
    assert dict(lines)['BACKGROUND_LABELS'].startswith('["0", "SIL", "background"] ')


def test_print_config_needs_no_data(capsys, monkeypatch):
    monkeypatch.delenv('JSON_DPATH', raising=False)
    assert multitask_train.main(['1', '--tcc', '--naive', '--dataset', 'nowhere', '--print_config']) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(flatten(CONFIG)) and err == ''

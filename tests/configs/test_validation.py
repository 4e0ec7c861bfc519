"""Types, ranges and names of settings."""

import math

import pytest

from configs.settings import SETTINGS
from configs.validation import check_key, check_value, flatten
from utils.errors import UserError


def check(key, value):
    return check_value(key, value, 'here')


def test_every_default_passes_its_check_and_mappings_do_not():
    for key, setting in SETTINGS.items():
        assert check(key, setting.default) == setting.default
        with pytest.raises(UserError, match=f'here: {key} is '):
            check(key, {'a': 1})


def test_every_number_has_a_range():
    numbers = [setting for setting in SETTINGS.values() if type(setting.default) in (int, float)]
    assert numbers and all(not setting.kind.accepts(-1) for setting in numbers)


def test_flatten():
    assert flatten({'A': {'b': {'c': 1}, 'd': [2]}, 'E': None, 'F': {}}) == {'A.b.c': 1, 'A.d': [2], 'E': None, 'F': {}}


@pytest.mark.parametrize(('key', 'value', 'expected'), [
    ('LEARNING_RATE', 1, 1.0), ('PROGRESS_LOSS.coefficient', 0, 0.0), ('TIME_SCALE', 4, 4), ('TIME_SCALE', 7.5, 7.5),
    ('TIME_SCALE', 'median', 'median'), ('VERSION', 3, 3), ('TRAIN_SPLIT', [1, 0, 0], [1, 0, 0]),
    ('PROGRESS_LOSS.head_learning_rate', 1, 1.0), ('PROGRESS_LOSS.steps', [['tea', 'pour']], [['tea', 'pour']]),
    ('WEIGHT_DECAY', 0, 0.0), ('AUGMENTATION.noise', 1, 1.0), ('ALIGNMENT_WEIGHT', 0, 0.0),
    ('ARCHITECTURE.num_heads', 4, 4), ('DATASET_NAME', None, None)])
def test_valid_values(key, value, expected):
    found = check(key, value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('LEARNING_RATE', '1e-3', r"LEARNING_RATE is '1e-3' \(str\), expected a number above 0"),
    ('LEARNING_RATE', 0.0, 'expected a number above 0'), ('LEARNING_RATE', math.nan, 'LEARNING_RATE is nan'),
    ('LEARNING_RATE', math.inf, 'LEARNING_RATE is inf'), ('PROGRESS_LOSS.coefficient', math.inf, 'is inf'),
    ('BATCH_SIZE', 2.0, r'BATCH_SIZE is 2.0 \(float\), expected a whole number of at least 1'),
    ('BATCH_SIZE', True, r'\(bool\), expected a whole number'),
    ('LEARNING_RATE', True, r'\(bool\), expected a number'), ('BATCH_SIZE', None, 'NoneType'),
    ('BATCH_SIZE', 0, 'expected a whole number of at least 1'),
    ('DEBUG', 1, r'DEBUG is 1 \(int\), expected true or false'),
    ('GTCC_PARAMS.delta', 1.01, r'expected a number in \(0, 1\]'),
    ('GTCC_PARAMS.gamma', 0.0, r'expected a number in \(0, 1\]'),
    ('TIME_SCALE', 'fast', "'auto', 'median' or a number"),
    ('TIME_SCALE', 0, "'auto', 'median' or a number"), ('TIME_SCALE', math.inf, 'TIME_SCALE is inf'),
    ('TRAIN_SPLIT', [0.5, 0.5], 'three fractions'), ('TRAIN_SPLIT', [0.5, 0.4, 0.2], 'three fractions'),
    ('TRAIN_SPLIT', [0, 0.5, 0.5], 'three fractions'), ('TRAIN_SPLIT', ['a', 'b', 'c'], 'three fractions'),
    ('TRAIN_SPLIT', [1.5, -0.5, 0], 'three fractions'), ('BACKGROUND_LABELS', [0], 'a list of strings'),
    ('BACKGROUND_LABELS', 'SIL', r'\(str\), expected a list'),
    ('BASEARCH.NAIVE_ARCH.layers', [], 'a list of whole numbers'),
    ('BASEARCH.NAIVE_ARCH.layers', [4, 0], 'a list of whole numbers'),
    ('ARCHITECTURE.attn_layers', [True], 'a list of whole numbers'),
    ('BASEARCH.ARCHITECTURE', 'resnet', 'one of temporal_'),
    ('PROGRESS_LOSS.sampling', 'random', 'one of segment, prefix, dense'), ('PROGRESS_LOSS.loss_type', 'l3', 'l1, l2'),
    ('ALIGNMENT_WEIGHT', -1.0, 'at least 0'), ('PROGRESS_LOSS.hidden_dim', 0, r'from 1 to 2\^20'),
    ('OUTPUT_DIMENSIONALITY', 10**30, r'from 1 to 2\^20'), ('LEARNING_RATE', 1e300, 'at most 1e6'),
    ('BASEARCH.NAIVE_ARCH.layers', [10**30], r'numbers from 1 to 2\^20'), ('TIME_SCALE', 1e-320, 'from 1e-6'),
    ('BACKGROUND_LABELS', ['a\ud800'], 'without unpaired surrogates'), ('BATCH_SIZE', {}, r'\{\} \(dict\), expected a'),
    ('PROGRESS_LOSS.steps', 'tea', r'\(str\), expected a list'),
    ('PROGRESS_LOSS.head', 'lstm', 'one of gru, hsmm'), ('DATASET_NAME', '../x', 'expected a name of letters'),
    ('CAUSAL', 'yes', r'\(str\), expected true or false'),
    ('LEARNING_RATE_SCHEDULE', 'linear', 'one of constant, cosine'), ('WEIGHT_DECAY', -0.1, 'at least 0'),
    ('AUGMENTATION.scale', -0.1, 'at least 0'), ('AUGMENTATION.shift', math.inf, 'is inf'),
    ('LEARNING_RATE', 10**400, 'LEARNING_RATE is inf'), ('SEED', 2**62 + 1, r'from 0 to 2\^62'),
    ('ARCHITECTURE.num_heads', 0, r'from 1 to 4096'), ('DATASET_NAME', 3, r'\(int\), expected a name')])
def test_invalid_values(key, value, message):
    with pytest.raises(UserError, match=message) as caught:
        check(key, value)
    assert str(caught.value).startswith(f'here: {key} is ')


@pytest.mark.parametrize(('key', 'message'), [
    ('PROGRESS_LOSS.hiden_dim', "unknown key 'PROGRESS_LOSS.hiden_dim'; the nearest is 'PROGRESS_LOSS.hidden_dim'"),
    ('num_epochs', "the nearest is 'NUM_EPOCHS'"), ('zzz', 'unknown key'), ('', 'unknown key'),
    ('PROGRESS_LOSS.lambda_curriculum', 'is a section, .* set one of its keys, such as PROGRESS_LOSS.lambda_')])
def test_unknown_keys(key, message):
    with pytest.raises(UserError, match=f'^here: .*{message}'):
        check_key(key, 'here')
    check_key('NUM_EPOCHS', 'here')

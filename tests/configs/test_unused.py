"""Settings on the command line that have no effect are named; those that have one, defaults, and files are not."""

import pytest

from configs.entry_config import parse_training_arguments
from configs.unused import unused_settings
from models.build import has_weights

NETWORK = ['--gtcc', '--tstack', '--mcn', '--progress', '--dataset', 'demo']
FITTED = ['--dataset', 'demo', '--config', 'configs/progress_recommended.json']


@pytest.mark.parametrize(('options', 'expected'), [
    ([*NETWORK, '--set', 'LAV_PARAMS.min_temp=1'], 'LAV_PARAMS.min_temp has no effect, as LAV is not the align'),
    ([*NETWORK, '--set', 'ALIGNMENT_WEIGHT=0', '--set', 'GTCC_PARAMS.delta=0.5'], 'GTCC_PARAMS.delta has no'),
    ([*NETWORK, '--set', 'BASEARCH.NAIVE_ARCH.layers=[8]'], 'has no effect, as the encoder is temporal_stacking'),
    (['--lav', '--naive', '--dataset', 'demo', '--set', 'CAUSAL=true'], 'CAUSAL has no effect, as the encoder'),
    (['--lav', '--naive', '--dataset', 'demo', '--set', 'ARCHITECTURE.num_heads=2'], 'ARCHITECTURE.MCN is false'),
    (['--lav', '--naive', '--dataset', 'demo', '--set', 'ARCHITECTURE.drop_layers=[8]'], 'only GTCC drops'),
    (['--lav', '--naive', '--dataset', 'demo', '--set', 'PROGRESS_LOSS.hidden_dim=8'], 'there is no progress'),
    ([*NETWORK, '--progress_sampling', 'dense', '--set', 'PROGRESS_LOSS.min_segment_len=5'], 'sampling is dense'),
    ([*NETWORK, '--splits', 'a.json', '--set', 'TRAIN_SPLIT=[1,0,0]'], '--splits gives the split'),
    ([*FITTED, '-lr', '0.1'], '--learning_rate: LEARNING_RATE has no effect, as this run has no weights'),
    ([*FITTED, '--amp'], '--amp: AMP has no effect'),
    ([*NETWORK, '-lr', '0.1', '--amp', '--set', 'GTCC_PARAMS.delta=0.5', '--set', 'CAUSAL=true', '--set',
      'ARCHITECTURE.num_heads=2', '--set', 'PROGRESS_LOSS.min_segment_len=5', '--set', 'TRAIN_SPLIT=[1,0,0]'], None),
    ([*NETWORK, '--set', 'LAV_PARAMS.min_temp=0.1'], None), (FITTED, None)])
def test_a_setting_without_effect_is_named_with_the_reason(options, expected):
    config, arguments = parse_training_arguments(['1', *options], 'x')
    found = unused_settings(config, arguments, has_weights=has_weights(config))
    assert len(found) == (expected is not None)
    assert not found or (found[0].startswith('--') and expected in found[0] and found[0].endswith('leave it out'))

"""Reasons why a recording is not used in training."""

import json

import numpy as np
import pytest

from recordings.from_config import explain_unused
from recordings.json_dataset import Recording, RecordingsByTask, load_recordings
from utils.tensorops import Action


def recording(handle, *actions, task='tea'):
    """Return a recording of 20 frames; an action is a label with its first and last frame."""
    segments = tuple(Action(*action) for action in actions)
    return Recording(task, handle, None, 20, 4, segments, tuple(one for one in segments if one.name != '0'))


@pytest.fixture
def parts():
    train = [recording('cuts', ('cut', 0, 9)), recording('short', ('cut', 0, 1)), recording('idle', ('0', 0, 19))]
    alone = {'wash': [recording('washes', ('wash', 0, 9), task='wash')], 'rest': [recording('rests', task='rest')]}
    return {'train': RecordingsByTask({'tea': train, **alone}), 'val': RecordingsByTask({'tea': [recording('seen')]}),
            'test': RecordingsByTask({'tea': []})}


@pytest.fixture
def recordings(parts):
    everything = {task: [*parts['train'][task], *parts['val'].get(task, [])] for task in parts['train']}
    everything['tea'].append(recording('forgotten'))
    return RecordingsByTask(everything, ['S07', 'S08'])


def test_with_progress_recording_needs_action_or_partner(config, recordings, parts):
    config.PROGRESS_LOSS.enabled = True
    reasons = explain_unused(config, recordings, parts)
    assert list(reasons.values()) == [['S07', 'S08'], ['forgotten'], ['rests'], ['idle', 'short']]
    assert 'cannot be matched' in list(reasons)[0] and 'an action of 3 frames or more' in list(reasons)[3]
    config.PROGRESS_LOSS.sampling = 'dense'
    assert list(explain_unused(config, recordings, parts).values())[3] == ['idle']


def test_without_progress_recording_needs_partner(config, recordings, parts):
    assert list(explain_unused(config, recordings, parts).values())[2:] == [['rests', 'washes']]
    config.BATCH_SIZE = 1
    assert len(list(explain_unused(config, recordings, parts).values())[2]) == 5


def test_no_reasons_if_all_recordings_are_used(config, parts):
    train = {'tea': [recording('a', ('cut', 0, 9)), recording('b', ('cut', 3, 9))]}
    parts = {'train': RecordingsByTask(train)}
    assert explain_unused(config, RecordingsByTask(train), parts) == {}


def test_left_out_recordings_are_listed(tmp_path):
    same = {'hdl_actions': [['cut']] * 9, 'hdl_start_times': [[0]] * 9, 'hdl_end_times': [[10]] * 9}
    content = {'tea': {'handles': ['a', 'b'], **{key: lists[:2] for key, lists in same.items()}},
               'pie': {'handles': ['c', 'd'], **same}}
    (tmp_path / 'set.json').write_text(json.dumps(content))
    for handle in 'abcd':
        np.save(tmp_path / f'{handle}.npy', np.zeros((10, 3), np.float32))
    loaded = load_recordings(tmp_path / 'set.json', tmp_path, background_labels=['0'])
    assert list(loaded) == ['tea'] and loaded.left_out == ['c', 'd']

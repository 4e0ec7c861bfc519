"""Load the dataset and split of a configuration, with paths from environment variables."""

import json

import numpy as np
import pytest

from recordings.from_config import (
    choose_splits,
    count_recordings,
    list_all_actions,
    load_dataset,
    reading_options,
    split_recordings,
)
from recordings.json_dataset import RecordingDataset
from recordings.kept_frames import SelectedFrames
from utils.errors import UserError
from utils.tensorops import Action


@pytest.fixture
def dataset(tmp_path, monkeypatch, config):
    """Write the dataset 'egoprocel' with a .cmu and an .egtea task, 4-dimensional features, frames of 6 channels."""
    content = {}
    for task in ('Pie.cmu', 'Tea.egtea'):
        names = [f'{task}{index}' for index in range(4)]
        content[task] = {'handles': names, 'hdl_actions': [['cut', '0']] * 4, 'hdl_start_times': [[0, 6]] * 4,
                         'hdl_end_times': [[6, 12]] * 4}
        for kind, shape in (('features', (12, 4)), ('frames', (12, 6, 2, 2))):
            (tmp_path / 'data/egoprocel' / kind).mkdir(parents=True, exist_ok=True)
            for name in names:
                np.save(tmp_path / f'data/egoprocel/{kind}/{name}.npy', np.ones(shape, np.float16))
    (tmp_path / 'json').mkdir()
    (tmp_path / 'json/egoprocel.json').write_text(json.dumps(content))
    monkeypatch.setenv('DATASET_PATH', str(tmp_path / 'data'))
    monkeypatch.setenv('JSON_DPATH', str(tmp_path / 'json'))
    config.DATASET_NAME, config.BASEARCH.ARCHITECTURE = 'egoprocel', 'temporal_stacking'
    return config


@pytest.mark.parametrize(('name', 'tasks'), [
    ('egoprocel', ['Pie.cmu', 'Tea.egtea']), ('cmu', ['Pie.cmu']), ('egtea', ['Tea.egtea'])])
def test_parts_of_a_dataset_are_its_tasks_with_a_suffix(dataset, name, tasks):
    dataset.DATASET_NAME = name
    assert list(load_dataset(dataset)) == tasks


@pytest.mark.parametrize(('frames', 'width'), [(False, 4), (True, 6)])
def test_features_or_frames_are_read(dataset, frames, width):
    dataset.SKIP_RATE = 5
    recordings = load_dataset(dataset, frames=frames)
    recording = recordings['Pie.cmu'][0]
    assert (recording.width, recording.num_frames) == (width, 3)
    assert recording.times == {'step': ['cut', '0'], 'start_frame': [0, 2], 'end_frame': [1, 2], 'name': 'Pie.cmu0',
                               'task': 'Pie.cmu'}
    features, _, _ = RecordingDataset([recording], **reading_options(dataset, recordings, frames=frames))[0]
    assert features.shape[:2] == (3, width) and isinstance(features, SelectedFrames) == frames


@pytest.mark.parametrize('limit', [0.0, 4.0])
def test_values_are_checked_once_up_front_or_on_read(dataset, monkeypatch, limit):
    from recordings import json_dataset
    checked = []
    monkeypatch.setattr(json_dataset, 'check_finite', lambda array, path: checked.append(path))
    dataset.CHECK_VALUES_GB = limit
    recordings = load_dataset(dataset)
    assert len(checked) == (8 if limit else 0)
    members = [recording for task in recordings.values() for recording in task]
    reader = RecordingDataset(members, **reading_options(dataset, recordings))
    for index in (*range(8), *range(8)):
        reader[index]
    assert sorted(checked) == sorted(recording.path for recording in members)


def test_values_of_tasks_that_are_left_out_do_not_count(dataset, tmp_path):
    content = json.loads((tmp_path / 'json/egoprocel.json').read_text())
    for key in ('hdl_actions', 'hdl_start_times', 'hdl_end_times'):
        content['Pie.cmu'][key] = content['Pie.cmu'][key][:1] * 9  # lists of one person for four recordings
    (tmp_path / 'json/egoprocel.json').write_text(json.dumps(content))
    members = load_dataset(dataset)['Tea.egtea']
    dataset.CHECK_VALUES_GB = 1.5 * sum(recording.path.stat().st_size for recording in members) / 2**30
    np.save(members[0].path, np.full((12, 4), np.nan, np.float16))
    with pytest.raises(UserError, match='frame 0 holds NaN'):
        load_dataset(dataset)


def test_splits_are_drawn_from_the_configuration_or_read(dataset, tmp_path):
    recordings = load_dataset(dataset)
    drawn = choose_splits(dataset, recordings, None)
    assert drawn == choose_splits(dataset, recordings, None) and list(drawn) == list(recordings)
    parts = split_recordings(recordings, drawn)
    assert list(count_recordings(parts)) == [6, 0, 2]
    dataset.SEED = 1
    assert choose_splits(dataset, recordings, None) != drawn
    path = tmp_path / 'mine.json'
    mine = {'Tea.egtea': {'train': ['Tea.egtea3', 'Tea.egtea1'], 'val': ['Tea.egtea0'], 'test': ['Tea.egtea2']}}
    path.write_text(json.dumps({'splits': mine}))
    parts = split_recordings(recordings, choose_splits(dataset, recordings, path))
    assert {part: {task: [recording.handle for recording in members] for task, members in tasks.items()}
            for part, tasks in parts.items()} == {
        part: {'Tea.egtea': sorted(mine['Tea.egtea'][part])} for part in ('train', 'val', 'test')}


def test_error_names_missing_recording(dataset):
    recordings = load_dataset(dataset)
    splits = choose_splits(dataset, recordings, None)
    gone = recordings['Pie.cmu'].pop(2)
    with pytest.raises(UserError, match=f"recording '{gone.handle}' of task 'Pie.cmu' is in the split, but not"):
        split_recordings(recordings, splits)


def test_a_split_cannot_rename_a_task(dataset):
    recordings = load_dataset(dataset)
    splits = choose_splits(dataset, recordings, None)
    splits['../../elsewhere'] = splits.pop('Pie.cmu')  # evaluation names pictures by the task
    with pytest.raises(UserError, match="of task '../../elsewhere' is in the split, but not in the dataset"):
        split_recordings(recordings, splits)


@pytest.mark.parametrize(('background', 'expected'), [
    (['0'], [Action('cut', 0, 5)]), (['cut'], [Action('0', 6, 11)]), ([], [Action('cut', 0, 5), Action('0', 6, 11)]),
    (['0', 'cut'], [])])
def test_actions_of_every_recording_by_task(dataset, background, expected):
    dataset.BACKGROUND_LABELS = background
    recordings = load_dataset(dataset)
    recordings['Pie.cmu'] = recordings['Pie.cmu'][:1]
    assert list_all_actions(recordings) == {'Pie.cmu': [tuple(expected)], 'Tea.egtea': [tuple(expected)] * 4}
    assert recordings['Pie.cmu'][0].segments == (Action('cut', 0, 5), Action('0', 6, 11))


def test_recording_has_at_most_max_frames(dataset):
    assert load_dataset(dataset)['Pie.cmu'][0].num_frames == 12
    dataset.MAX_FRAMES = 5  # frames 0, 2, 4, 7, 9 of 12, the first six of which are 'cut'
    recordings = load_dataset(dataset)
    recording = recordings['Pie.cmu'][0]
    assert recording.num_frames == 5
    assert recording.times == {'step': ['cut', '0'], 'start_frame': [0, 3], 'end_frame': [2, 4], 'name': 'Pie.cmu0',
                               'task': 'Pie.cmu'}
    assert len(RecordingDataset([recording], **reading_options(dataset, recordings))[0][0]) == 5

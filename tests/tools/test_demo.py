"""The demo dataset: its format, the people in each part, its difficulty, and the command line that writes it."""

import hashlib
import itertools
import json
import logging
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from evaluation.counters import FrameCounters
from recordings.annotations import load_annotations
from recordings.json_dataset import load_recordings
from recordings.splits import load_splits
from tools import demo
from utils.errors import UserError
from utils.tensorops import Action, seeded_draws

ROOT = Path(__file__).resolve().parents[2]
SMALL = demo.DemoSettings(people=4, repetitions=1)
SMALL_OPTIONS = ['--people', '4', '--repetitions', '1']
SEEDS = (0, 1)
PAST_FRAMES = 5  # stacked for the regressor


@dataclass
class Sample:
    """Recording in the form that the measurements need."""

    task: str
    handle: str
    features: np.ndarray
    actions: list[Action]

    @property
    def person(self):
        return self.handle.split('_')[0]

    def frames_of(self, action):
        return self.features[action.start:action.end + 1]


def hashes(folder):
    """Return relative path -> hash for every file below a folder."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def load(out):
    """Part -> samples, read by the project's own reader."""
    recordings = load_recordings(out / 'dset_jsons/demo.json', out / 'data/demo/features', background_labels=['0'])
    handles = {task: [recording.handle for recording in members] for task, members in recordings.items()}
    splits = load_splits(out / 'dset_jsons/demo.splits.json', handles)
    return {part: [Sample(task, recording.handle, np.load(recording.path), recording.actions)
                   for task, members in recordings.items() for recording in members
                   if recording.handle in splits[task][part]]
            for part in ('train', 'val', 'test')}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Seed -> folder that holds the demo dataset of that seed, with every setting at its default."""
    folders = {seed: tmp_path_factory.mktemp(f'demo{seed}') for seed in SEEDS}
    for seed, folder in folders.items():
        demo.write_demo(folder, 'demo', seed)
    return folders


@pytest.fixture(scope='module')
def samples(written):
    return {seed: load(folder) for seed, folder in written.items()}


# Format -------------------------------------------------------------------------------------------------------------

def test_annotations_fit_the_features(written):
    last_ends = Counter()
    for task, annotated in load_annotations(written[0] / 'dset_jsons/demo.json').items():
        assert task in demo.TASKS and len(annotated.handles) >= 16
        for handle, labels, starts, ends in zip(annotated.handles, annotated.actions, annotated.starts,
                                                annotated.ends, strict=True):
            features = np.load(written[0] / f'data/demo/features/{handle}.npy', allow_pickle=False)
            assert features.dtype == np.float32 and features.shape[1] == 48 and np.isfinite(features).all()
            assert starts[0] == 0 and starts[1:] == ends[:-1]
            assert all(end > start for start, end in zip(starts, ends, strict=True))
            assert set(labels) <= {'0', *demo.TASKS[task]}
            last_ends[len(features) - ends[-1]] += 1
    assert set(last_ends) == {0, 1} and min(last_ends.values()) >= 10


@pytest.mark.parametrize('seed', SEEDS)
def test_times_are_at_the_feature_rate(written, samples, seed):
    annotations = json.loads((written[seed] / 'dset_jsons/demo.json').read_text())
    read = {sample.handle: sample.actions for part in samples[seed].values() for sample in part}
    for fields in annotations.values():
        for handle, *segments in zip(fields['handles'], fields['hdl_actions'], fields['hdl_start_times'],
                                     fields['hdl_end_times'], strict=True):
            expected = [(label, start, end - 1) for label, start, end in zip(*segments, strict=True) if label != '0']
            assert [tuple(action) for action in read[handle]] == expected


def test_reading_gives_no_warnings(written, caplog):
    # the project's loggers stop propagating once a command line has set them up
    root = logging.getLogger('progress')
    root.addHandler(caplog.handler)
    try:
        load(written[0])
    finally:
        root.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_frames_carry_the_signal_of_the_features(written):
    paths = sorted((written[0] / 'data/demo/frames').glob('*.npy'))
    frames = [np.load(path, allow_pickle=False) for path in paths]
    assert all(array.dtype == np.float16 and array.shape[1:] == (8, 3, 3) for array in frames)
    features = [np.load(written[0] / 'data/demo/features' / path.name) for path in paths]
    assert [len(array) for array in frames] == [len(array) for array in features]
    flat = np.concatenate(frames).reshape(-1, 72).astype(np.float64)
    assert Ridge(1e-3).fit(flat[::2], np.concatenate(features)[::2]).score(flat[1::2],
                                                                         np.concatenate(features)[1::2]) > 0.99


@pytest.mark.parametrize('seed', SEEDS)
def test_split_separates_people_and_uses_all_recordings(written, seed):
    annotations = json.loads((written[seed] / 'dset_jsons/demo.json').read_text())
    splits = json.loads((written[seed] / 'dset_jsons/demo.splits.json').read_text())
    assert list(splits) == ['splits', 'groups'] and list(splits['splits']) == list(annotations)
    people = {part: set() for part in ('train', 'val', 'test')}
    for task, parts in splits['splits'].items():
        assert list(parts) == ['train', 'val', 'test']
        assert sorted(itertools.chain(*parts.values())) == sorted(annotations[task]['handles'])
        assert len(parts['val']) >= 2 and len(parts['test']) >= 2
        assert len(parts['train']) >= 0.65 * len(annotations[task]['handles'])
        for part, handles in parts.items():
            people[part] |= {handle.split('_')[0] for handle in handles}
    assert all(first.isdisjoint(second) for first, second in itertools.combinations(people.values(), 2))


# Content ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('seed', SEEDS)
def test_recordings_vary_as_real_ones_do(samples, seed):
    everything = [sample for part in samples[seed].values() for sample in part]
    lengths = np.array([action.length for sample in everything for action in sample.actions])
    assert np.percentile(lengths, 95) >= 10 * np.percentile(lengths, 5)
    assert 0.02 < np.mean(lengths <= 5) < 0.2
    assert 100 < np.mean([len(sample.features) for sample in everything]) < 250
    for task, steps in demo.TASKS.items():
        performed = [[action.name for action in sample.actions] for sample in everything if sample.task == task]
        assert len({tuple(dict.fromkeys(names)) for names in performed}) > len(performed) / 3  # orders
        assert sum(max(Counter(names).values()) > 1 for names in performed) > 3  # repeated
        assert sum(len(set(names)) < len(steps) for names in performed) > 3  # skipped
    covered = np.mean([sum(action.length for action in sample.actions) / len(sample.features) for sample in everything])
    assert 0.5 < covered < 0.95


@pytest.mark.parametrize('seed', SEEDS)
def test_labels_look_similar_for_all_people(samples, seed):
    train, test = samples[seed]['train'], samples[seed]['test']
    looks = {}
    for sample in train:
        for action in sample.actions:
            looks.setdefault(action.name, []).append(sample.frames_of(action).mean(axis=0))
    names, centers = list(looks), np.stack([np.mean(rows, axis=0) for rows in looks.values()])
    hits = [names[int(np.argmin(np.linalg.norm(frame - centers, axis=1)))] == action.name
            for sample in test for action in sample.actions for frame in sample.frames_of(action)]
    assert np.mean(hits) > 0.95  # of 18 steps


@pytest.mark.parametrize('seed', SEEDS)
def test_people_have_a_style(samples, seed):
    """The features that recordings of one person have in common differ between people."""
    everything = [sample for part in samples[seed].values() for sample in part]
    background = {}
    for sample in everything:
        busy = np.zeros(len(sample.features), dtype=bool)
        for action in sample.actions:
            busy[action.start:action.end + 1] = True
        busy[-1] = True  # if the last end is T - 1, this frame may look like an action
        if not busy.all():
            background.setdefault(sample.person, []).append(sample.features[~busy].mean(axis=0))
    centers = {person: np.mean(rows, axis=0) for person, rows in background.items()}
    within = np.mean([np.linalg.norm(row - centers[person]) for person, rows in background.items() for row in rows])
    between = np.mean([np.linalg.norm(centers[one] - centers[other])
                       for one, other in itertools.combinations(centers, 2)])
    assert len(centers) == 10 and between > 3 * within


# Difficulty ---------------------------------------------------------------------------------------------------------

def true_progress(action):
    return np.arange(1, action.length + 1) / action.length


def mean_error(test, predict):
    """MAE of ``predict(sample, action)``: frames of a recording, then recordings, then tasks."""
    errors = {}
    for sample in test:
        frames = [np.abs(predict(sample, action) - true_progress(action)) for action in sample.actions]
        errors.setdefault(sample.task, []).append(np.concatenate(frames).mean())
    return float(np.mean([np.mean(task) for task in errors.values()]))


def average_index_error(train, test):
    """The baseline as a loop: at frame i the mean true progress at i, past the longest its last value."""
    curves = {}
    for task in demo.TASKS:
        actions = [action for sample in train if sample.task == task for action in sample.actions]
        longest = max(action.length for action in actions)
        curves[task] = [np.mean([(i + 1) / action.length for action in actions if i < action.length])
                        for i in range(longest)]
    return mean_error(test, lambda sample, action: np.array(
        [curves[sample.task][min(i, len(curves[sample.task]) - 1)] for i in range(action.length)]))


def per_step_errors(train, test):
    """MAE of the baseline that is told the step, and of the one that knows the pace so far as well."""
    durations = {task: FrameCounters([sample.actions for sample in train if sample.task == task])
                 for task in demo.TASKS}

    def paced(sample, action):
        known = durations[sample.task]
        pace = known.pace([other for other in sample.actions if other.end < action.start])
        return known.average_index_per_step(action.name, action.length, pace)

    return (mean_error(test, lambda sample, action: durations[sample.task].average_index_per_step(
        action.name, action.length)), mean_error(test, paced))


def stacked(frames):
    """Return an action's frames, each concatenated with the frames before it: causal within the action."""
    padded = np.concatenate([np.repeat(frames[:1], PAST_FRAMES - 1, axis=0), frames])
    return np.concatenate([padded[shift:shift + len(frames)] for shift in range(PAST_FRAMES)], axis=1)


def regressor_error(train, test, epochs=10):
    """Return the MAE of a small network without label and time as input: it must derive the phase from the features."""
    inputs = torch.from_numpy(np.concatenate(
        [stacked(sample.frames_of(action)) for sample in train for action in sample.actions]))
    targets = torch.from_numpy(np.concatenate(
        [true_progress(action) for sample in train for action in sample.actions])).float()
    with seeded_draws(0):
        network = nn.Sequential(nn.Linear(inputs.shape[1], 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 64),
                                nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
        optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-2)
        for _ in range(epochs):
            for batch in torch.randperm(len(inputs)).split(256):
                optimizer.zero_grad()
                nn.functional.l1_loss(network(inputs[batch])[:, 0], targets[batch]).backward()
                optimizer.step()
    network.eval()
    with torch.no_grad():
        return mean_error(test, lambda sample, action: network(
            torch.from_numpy(stacked(sample.frames_of(action))))[:, 0].numpy())


@pytest.mark.parametrize('seed', SEEDS)
def test_a_linear_probe_hardly_reads_progress(samples, seed):
    inputs, targets = {}, {}
    for part in ('train', 'test'):
        inputs[part] = np.concatenate([sample.frames_of(action) for sample in samples[seed][part]
                                       for action in sample.actions])
        targets[part] = np.concatenate([true_progress(action) for sample in samples[seed][part]
                                        for action in sample.actions])
    score = Ridge(1.0).fit(inputs['train'], targets['train']).score(inputs['test'], targets['test'])
    assert score <= 0.3


@pytest.mark.parametrize('seed', SEEDS)
def test_counting_frames_gives_a_middling_error(samples, seed):
    error = average_index_error(samples[seed]['train'], samples[seed]['test'])
    assert 0.14 <= error <= 0.20


@pytest.mark.parametrize('seed', SEEDS)
def test_pace_is_informative_beyond_label(samples, seed):
    per_step, paced = per_step_errors(samples[seed]['train'], samples[seed]['test'])
    assert paced < per_step < average_index_error(samples[seed]['train'], samples[seed]['test'])


@pytest.mark.parametrize('seed', SEEDS)
def test_a_small_regressor_halves_the_best_baseline_on_unseen_people(samples, seed):
    train, test = samples[seed]['train'], samples[seed]['test']
    assert regressor_error(train, test) <= 0.5 * per_step_errors(train, test)[1]


def test_without_phase_the_regressor_has_nothing_to_read(tmp_path):
    demo.write_demo(tmp_path, settings=demo.DemoSettings(phase=0))
    parts = load(tmp_path)
    assert regressor_error(parts['train'], parts['test']) > 0.8 * per_step_errors(parts['train'], parts['test'])[1]


# Writing ------------------------------------------------------------------------------------------------------------

def test_same_seed_gives_the_same_bytes_under_any_name(tmp_path, written):
    demo.write_demo(tmp_path, 'egoprocel', 0)
    renamed = {path.replace('egoprocel', 'demo'): value for path, value in hashes(tmp_path).items()}
    assert renamed == hashes(written[0]) and len(renamed) == 2 * 60 + 2


def test_seeds_differ(written):
    first, second = hashes(written[0]), hashes(written[1])
    assert [path for path in first if path != 'dset_jsons/demo.splits.json' and first[path] == second[path]] == []


@pytest.mark.parametrize('setting', [{'noise': 0.5}, {'phase': 0.5}, {'style': 0.5}, {'pace': 0.1}, {'width': 32}])
def test_every_setting_changes_features(tmp_path, setting):
    demo.write_demo(tmp_path, 'plain', settings=SMALL)
    demo.write_demo(tmp_path, 'turned', settings=demo.DemoSettings(people=4, repetitions=1, **setting))
    name = 'features/p00_make_tea_1.npy'
    assert (tmp_path / 'data/plain' / name).read_bytes() != (tmp_path / 'data/turned' / name).read_bytes()


def test_interrupted_run_leaves_the_earlier_dataset_and_can_be_repeated(tmp_path, monkeypatch):
    demo.write_demo(tmp_path, seed=7, settings=SMALL)
    before = hashes(tmp_path)
    save, calls = np.save, itertools.count()

    def interrupted(path, array):
        if next(calls) == 9:
            raise KeyboardInterrupt
        save(path, array)

    monkeypatch.setattr(np, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.write_demo(tmp_path, settings=SMALL, overwrite=True)
    assert hashes(tmp_path) == before
    monkeypatch.undo()
    demo.write_demo(tmp_path, settings=SMALL, overwrite=True)
    demo.write_demo(tmp_path / 'straight', settings=SMALL)
    straight = hashes(tmp_path / 'straight')
    assert {path: value for path, value in hashes(tmp_path).items() if path in straight} == straight


def test_an_existing_dataset_is_kept_without_overwrite(tmp_path):
    demo.write_demo(tmp_path, settings=SMALL)
    before = hashes(tmp_path)
    with pytest.raises(UserError, match=r'demo\.json: this dataset exists; --overwrite replaces it'):
        demo.write_demo(tmp_path, seed=1, settings=SMALL)
    assert hashes(tmp_path) == before
    demo.write_demo(tmp_path, seed=1, settings=SMALL, overwrite=True)
    assert hashes(tmp_path) != before and set(hashes(tmp_path)) == set(before)


@pytest.mark.parametrize(('options', 'message'), [
    (['--seed', '-1'], '--seed -1: expected 0 or more'), (['--people', '3'], '--people 3: expected 4 to 1000'),
    (['--repetitions', '0'], '--repetitions 0: expected 1 to 1000'), (['--width', '5'], '--width 5: expected 6 to'),
    (['--noise', 'nan'], '--noise nan: expected 0 to 10'), (['--pace', 'inf'], '--pace inf: expected 0 to 1'),
    (['--phase', '-1'], '--phase -1.0: expected 0 to 10'), (['--name', '../x'], "--name '../x': expected letters"),
    (['--name', ''], '--name: an empty argument'), (['--name', 'my demo'], "--name 'my demo': expected letters"),
    (['--name', 'x' * 101], '100 at most'), (['--name', 'cmu'], '--name cmu: stands for a part of egoprocel'),
    (['--people', 'many'], "invalid int value: 'many'")])
def test_a_mistake_is_one_line_and_touches_nothing(tmp_path, capsys, options, message):
    demo.write_demo(tmp_path, settings=SMALL)
    before = hashes(tmp_path)
    assert demo.main([str(tmp_path), '--overwrite', *SMALL_OPTIONS, *options]) == 2
    output = capsys.readouterr()
    assert message in output.err and output.err.count('\n') == 1 and output.out == ''
    assert hashes(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_named(tmp_path, capsys):
    (tmp_path / 'out').write_text('kept')
    assert demo.main([str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / 'out') in error and 'choose another' in error and error.count('\n') == 1
    assert (tmp_path / 'out').read_text() == 'kept'


def test_extremes_of_the_settings_can_be_read_back(tmp_path):
    loudest = demo.DemoSettings(people=4, repetitions=1, width=6, noise=10, phase=10, style=10, pace=1, variation=1)
    demo.write_demo(tmp_path, settings=loudest)
    assert all(np.isfinite(np.load(path)).all() for path in (tmp_path / 'data').rglob('*.npy'))


def test_command_line_writes_prints_usage_and_refuses_to_overwrite(tmp_path):
    out = tmp_path / 'a folder'  # the shell has to take the lines it prints as they are
    command = [sys.executable, '-m', 'tools.demo', str(out), *SMALL_OPTIONS]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, '') and 'synthetic' in first.stdout
    exports = [line for line in first.stdout.splitlines() if line.startswith('export ')]
    shell = subprocess.run(['sh', '-c', '\n'.join([*exports, 'echo "$DATASET_PATH|$JSON_DPATH|$OUTPUT_PATH"'])],
                           capture_output=True, text=True, check=True)
    assert shell.stdout.strip().split('|') == [str(out / 'data'), str(out / 'dset_jsons'), str(out / 'output')]
    assert load_annotations(out / 'dset_jsons/demo.json').keys() == demo.TASKS.keys()
    assert (second.returncode, second.stdout) == (2, '')
    assert '--overwrite' in second.stderr and second.stderr.count('\n') == 1

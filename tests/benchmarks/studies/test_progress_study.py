"""Studies train and evaluate what they name, on the recordings that they should."""

import json
import logging
import os
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.studies import alignment_quality, progress_study
from configs.entry_config import parse_training_arguments
from evaluation.baselines import BASELINES
from tools.demo import DemoSettings, write_demo

pytestmark = pytest.mark.usefixtures('blank_pictures')


@pytest.fixture
def study(tmp_path, monkeypatch):
    """One task of a tiny demo dataset; the result is what chooses it. What the command sets is set back."""
    paths = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    annotations = json.loads((paths['JSON_DPATH'] / 'tiny.json').read_text())
    (paths['JSON_DPATH'] / 'tiny.json').write_text(json.dumps({'make_tea': annotations['make_tea']}))
    for variable, path in paths.items():
        monkeypatch.setenv(variable, str(path))
    threads = torch.get_num_threads()
    yield ['--dataset', 'tiny', '--splits', str(paths['JSON_DPATH'] / 'tiny.splits.json'), '--threads', '1']
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def test_progress_study_trains_and_evaluates_what_it_names(study, tmp_path, monkeypatch, capsys):
    trained, train = [], progress_study.train
    small = [option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]',
                                'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=4') for option in ('--set', key)]

    def noted(config, arguments):
        trained.append(config)
        train(config, arguments)

    monkeypatch.setattr(progress_study, 'train', noted)
    names = ['tcc, then frozen', 'tcc, no progress', 'raw features']
    command = ['--study', 'alignment', '--configurations', *names, *study, '--seeds', '3', '--epochs', '1', '-o',
               str(tmp_path / 'table.md'), '--options', '-od', '4', '--set', 'SKIP_RATE=4', *small]
    assert progress_study.main(command) == 0
    printed = capsys.readouterr().out
    header, rule, *rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines()
                           if line.startswith('|')]
    assert header == ['configuration', *progress_study.MEASURES] and [row[0] for row in rows] == names
    for row in rows:
        scores = dict(zip(header, row, strict=True))
        has_head = row[0] != 'tcc, no progress'
        assert (scores['MAE'] != '-') == (scores['skill'] != '-') == has_head
        assert 0 < float(scores['OGPE']) < 1 and (not has_head or 0 < float(scores['MAE']) < 0.5)
    assert (tmp_path / 'table.md').read_text() == printed
    # The frozen encoder's run comes first, and is not trained again where the study names it, too.
    assert [config.EXPERIMENTNAME for config in trained] == [
        'V3___tcc_tiny.tcc__no_progress', 'V3___tcc_tiny.tcc__then_frozen', 'V3___GTCC_tiny.raw_features']
    assert [config.FREEZE_ENCODER for config in trained] == [False, True, False]
    assert [config.INIT_FROM and Path(config.INIT_FROM).name for config in trained] == [
        None, trained[0].EXPERIMENTNAME, None]
    assert [config.SEED for config in trained] == [3] * 3 and trained[2].OUTPUT_DIMENSIONALITY == 6


def test_progress_study_tunes_on_folds_of_the_training_recordings(study, monkeypatch, capsys):
    trained = []

    def train(config, arguments):
        trained.append((config, json.loads(arguments.splits.read_text())['splits']['make_tea']))
        (Path(os.environ['OUTPUT_PATH']) / 'multi-task-setting' / config.EXPERIMENTNAME / 'ckpt').mkdir(parents=True)

    monkeypatch.setattr(progress_study, 'train', train)
    monkeypatch.setattr(progress_study, 'evaluate_checkpoint', lambda run, kind, device: SimpleNamespace(
        tables={'ogpe': [{'task': 'MEAN', 'ogpe': 0.25}]}))
    command = ['--study', 'alignment', '--configurations', 'LAV, then frozen', *study, '--folds', '2', '--seeds', '0',
               '1', '2']
    assert progress_study.main(command) == 0
    split = json.loads(Path(study[study.index('--splits') + 1]).read_text())['splits']['make_tea']
    first, second = split['train']
    assert [parts['test'] for _, parts in trained] == [[first]] * 2 + [[second]] * 2 + [[first]] * 2
    assert all(parts['train'] == [handle for handle in (first, second) if handle not in parts['test']]
               and parts['val'] == split['val'] for _, parts in trained)
    assert [config.LOSS_TYPE.LAV for config, _ in trained] == [True] * 6
    assert '0.250 ± 0.000' in capsys.readouterr().out


@pytest.mark.parametrize(('options', 'expected'), [
    (['--configurations', 'plan', 'joint'], "'joint' is not in the study, expected some of ['plan',"),
    (['--study', 'alignment', '--configurations', 'plan'], "'plan' is not in the study"),
    (['--splits', 'mine.json'], '--splits: requires a dataset; also give --dataset'),
    (['--folds', '0'], "'0' is not an integer >= 1"),
    (['--dataset', 'tiny', '--splits', 'nowhere.json', '--folds', '2'], '--splits nowhere.json: cannot be read')])
def test_progress_study_refuses_what_it_would_not_do(study, capsys, options, expected):
    assert progress_study.main(options) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and expected in errors[0]


@pytest.mark.parametrize(('count', 'tested'), [(1, 0), (2, 0), (3, 1), (4, 1), (10, 2), (12, 3)])
def test_the_last_quarter_of_the_sorted_handles_tests(monkeypatch, count, tested):
    handles = [f'rec{number:02d}' for number in range(count)]

    def load_dataset(config):
        assert config.DATASET_NAME == 'tiny'
        shuffled = random.Random(count).sample(handles, count)
        return {'tea': [SimpleNamespace(handle=handle) for handle in shuffled], 'pie': [SimpleNamespace(handle='p')]}

    monkeypatch.setattr(progress_study, 'load_dataset', load_dataset)
    assert progress_study.last_quarter_splits('tiny') == {
        'tea': {'train': handles[:count - tested], 'val': [], 'test': handles[count - tested:]},
        'pie': {'train': ['p'], 'val': [], 'test': []}}


def test_a_study_of_a_dataset_without_a_split_takes_its_last_quarter(study):
    arguments = progress_study.parse_arguments(['--dataset', 'tiny'])
    with progress_study.data_of(arguments) as options:
        assert options[:3] == ['--dataset', 'tiny', '--splits']
        parts = json.loads(Path(options[3]).read_text())['splits']['make_tea']
    assert parts == {'train': [f'p0{person}_make_tea_1' for person in range(3)], 'val': [],
                     'test': ['p03_make_tea_1']}


@pytest.mark.parametrize('folds', [1, 2, 3, 5, 9])
def test_folds_partition_the_training_recordings_and_leave_the_test_ones_out(tmp_path, monkeypatch, folds):
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))  # not there yet
    splits = {task: {'train': [f'{task}{number}' for number in range(count)], 'val': [f'{task}v'], 'test': [f'{task}t']}
              for task, count in (('tea', 7), ('pie', 2))}
    path = tmp_path / 'splits.json'
    path.write_text(json.dumps({'splits': splits}))
    written = [progress_study.fold_splits(path, fold, folds) for fold in range(folds)]
    assert len(set(written)) == folds and json.loads(path.read_text()) == {'splits': splits}
    contents = [json.loads(file.read_text())['splits'] for file in written]
    for task, parts in splits.items():
        tested = [content[task]['test'] for content in contents]
        assert sum(tested, []) == parts['train']  # each once, and none of the test recordings
        assert max(map(len, tested)) - min(map(len, tested)) <= 1
        for content in contents:
            assert content[task]['val'] == parts['val']
            assert sorted(content[task]['train'] + content[task]['test']) == parts['train']


def test_every_study_has_the_controls_that_tell_what_a_gain_is_due_to():
    controls = {'raw features', 'untrained network', 'progress, no alignment', 'alignment, no progress'}
    assert all(controls <= set(study) for study in progress_study.STUDIES.values())
    config = {name: parse_training_arguments(['1', *progress_study.CONTROLS[name], '--dataset', 'tiny'], 'x')[0]
              for name in controls}
    assert {name for name in controls if config[name].ALIGNMENT_WEIGHT == 0} == {'raw features',
                                                                                'progress, no alignment'}
    assert config['untrained network'].FREEZE_ENCODER and not config['untrained network'].INIT_FROM
    assert config['alignment, no progress'].PROGRESS_LOSS.detach_embeddings
    columns = {*progress_study.MEASURES['best baseline'][1],
               *progress_study.MEASURES['best baseline given the label'][1]}
    assert columns == {f'baseline_{name}' for name in BASELINES}


def test_a_study_shows_means_and_spreads_and_a_dash_where_a_measure_is_missing():
    results = [{**dict.fromkeys(progress_study.MEASURES, 0.5), 'MAE': mae, 'skill': skill}
               for mae, skill in ((0.1, 0.2), (0.2, float('nan')), (0.6, 0.4))]
    # Squared deviations from 0.3: 0.04 + 0.01 + 0.09, over two.
    summary = progress_study.summarize(results)
    assert list(summary) == list(progress_study.MEASURES)
    assert (summary['MAE'], summary['skill'], summary['OGPE']) == ('0.300 ± 0.265', '-', '0.500 ± 0.000')
    alone = progress_study.summarize(results[:1])
    assert (alone['MAE'], alone['skill']) == ('0.100', '0.200')


CONFIGURATIONS = {**progress_study.STUDIES['heads'], **progress_study.STUDIES['alignment']}


@pytest.mark.parametrize('name', CONFIGURATIONS)
def test_each_configuration_of_a_study_is_one(name):
    options = CONFIGURATIONS[name]
    parse_training_arguments(['1', *options, '--dataset', 'tiny'], 'multitask_train.py')


def test_alignment_quality_compares_losses_with_controls(study, capsys):
    splits = Path(study[3])
    parts = json.loads(splits.read_text())
    tea = parts['splits']['make_tea']
    tea['test'].append(tea['val'].pop())  # pairs of test recordings need two
    splits.write_text(json.dumps(parts))
    for path in Path(os.environ['DATASET_PATH'], 'tiny', 'features').iterdir():
        np.save(path, 1000 * np.load(path))  # the preset standardizes them, for the loss at the start, too
    rows = ['elapsed frames', 'untrained network', 'LAV, joint']
    command = ['--rows', *rows, *study, '--seeds', '3', '4', '--epochs', '1', '--options', '-od', '8', '--set',
               'BASEARCH.SHORT_MEMORY_ARCH.hidden_dim=4', '--set', 'SKIP_RATE=3']
    assert alignment_quality.main(command) == 0
    header, _, *table = [[cell.strip() for cell in line.split('|')[1:-1]]
                         for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert header == ['embeddings', *alignment_quality.MEASURES, 'loss at the start']
    found = {row[0]: dict(zip(header, row, strict=True)) for row in table}
    assert list(found) == rows
    # Nearest neighbors in time keep the order of time, except for frames that have no later neighbor.
    assert float(found['elapsed frames']["Kendall's tau"]) > 0.8
    for name in rows[1:]:
        assert ' ± ' in found[name]['area error'] and 0 < float(found[name]['phase accuracy'].split()[0]) <= 1
    assert found['untrained network']['loss at the start'] == found['elapsed frames']['loss at the start'] == '-'
    assert 0.1 < float(found['LAV, joint']['loss at the start'].split()[0]) < 5


def test_velocity_is_the_change_over_five_frames():
    features = torch.arange(8.).square().unsqueeze(1)  # 0, 1, 4, ..., 49
    expected = [0., 1, 4, 9, 16, 25, 35, 45]
    torch.testing.assert_close(alignment_quality.with_velocity(features), torch.stack(
        [features[:, 0], torch.tensor(expected)], dim=1))

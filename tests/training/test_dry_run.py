"""What a run would take, without running it."""

import re

import pytest
import torch
from torch import nn

import multitask_train
from recordings.batches import make_train_loaders, make_validation_loaders
from recordings.json_dataset import Recording
from tools.demo import DemoSettings, write_demo
from training import dry_run as module
from training.dry_run import (
    count_frames,
    describe_parameters,
    extreme_batches,
    fit_seconds,
    format_duration,
    frames_of_batches,
)

OPTIONS = ['1', '--dataset', 'tiny', '--gtcc', '--naive', '--mcn', '--progress', '-ep', '7', '-od', '4', '--dry_run', *(
    option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]', 'BASEARCH.NAIVE_ARCH.layers=[5]')
    for option in ('--set', key))]


def recordings(tmp_path, **lengths):
    return {task: [Recording(task, f'{task}{index}', tmp_path / f'{task}{index}.npy', length, 3, (), ())
                   for index, length in enumerate(members)] for task, members in lengths.items()}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A demo dataset of a few recordings in the working directory, with the environment set to it."""
    monkeypatch.chdir(tmp_path)
    written = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    for variable, path in written.items():
        monkeypatch.setenv(variable, str(path))
    return tmp_path


def files(folder):
    return sorted(path for path in folder.rglob('*'))


def test_a_dry_run_prints_what_a_run_takes_and_writes_nothing(tiny, capsys):
    before = files(tiny)
    assert multitask_train.main(OPTIONS) == 0
    assert files(tiny) == before
    lines = dict(re.split(r'  +| (?=of )', line.strip(), maxsplit=1)
                 for line in capsys.readouterr().out.splitlines()[1:])
    shapes = re.findall(r'\((\d+), 6\)', lines['largest batch'])
    assert lines['outputs'] == ', '.join(f'({length}, 4)' for length in shapes) and len(shapes) == 2
    assert lines['dropouts'] == '(5,), (5,)'
    parts = ('base_model', 'dropout', 'progress_head', 'head_models', 'attention_layer')
    assert sum(int(lines[part].replace(',', '')) for part in parts) == int(lines['parameters'].replace(',', ''))
    assert int(lines['base_model']) == 6 * 5 + 5 + 5 * 4 + 4
    for name in ('GTCC_loss', 'alignment_loss', 'progress_loss', 'total_loss'):
        assert re.search(rf'\b{name} \d', lines['losses'])
    assert re.fullmatch(r'about [\d.]+ m?s? ?.*for 7 epochs.*', lines['run']) and 'MiB' in lines['memory']
    assert f'{sum(map(int, shapes)):,} frames' in lines['step']


@pytest.mark.parametrize('error', [
    MemoryError(), RuntimeError('not enough memory: you tried'), torch.OutOfMemoryError('CUDA out of memory')])
def test_running_out_of_memory_names_the_batch(tiny, capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, 'training_step', fail)
    assert multitask_train.main(OPTIONS) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r'error: the largest batch \(.+, .+ of task .+ frames\) does not fit into memory; lower BA', last)


def test_another_error_is_not_taken_for_memory(tiny, monkeypatch):
    def fail(*_):
        raise RuntimeError('shapes differ')

    monkeypatch.setattr(module, 'training_step', fail)
    with pytest.raises(RuntimeError, match='shapes differ'):
        multitask_train.main(OPTIONS)


def test_extreme_batches(tmp_path):
    loaders = make_train_loaders(recordings(tmp_path, tea=[5, 90, 7, 20], tyre=[50, 70], one=[100]), 2, seed=0)
    datasets = {task: loader.dataset for task, loader in loaders.items()}
    smallest, largest = extreme_batches(datasets, 2)
    assert (smallest, largest) == (('tea', [0, 2]), ('tyre', [1, 0]))
    assert (count_frames(datasets, smallest), count_frames(datasets, largest)) == (12, 120)


def test_frames_of_batches_count_what_fills_a_batch(tmp_path):
    members = recordings(tmp_path, tea=[10, 10, 10], one=[7])
    assert sorted(frames_of_batches(make_train_loaders(members, 2, seed=0))) == [7, 20, 20]
    alone = [Recording('one', 'other', tmp_path / 'other.npy', 3, 3, (), ())]
    assert frames_of_batches(make_validation_loaders({'one': alone}, members, 2)) == [3 + 7]


@pytest.mark.parametrize(('frames', 'seconds', 'expected'), [
    ((10, 30), (2.0, 4.0), (1.0, 0.1)), ((10, 30), (1.0, 6.0), (0.0, 0.2)),  # grows faster than frames do
    ((10, 30), (4.0, 3.0), (4.0, 0.0)), ((10, 10), (1.0, 2.0), (2.0, 0.0))])
def test_seconds_through_two_batches(frames, seconds, expected):
    assert fit_seconds(frames, seconds) == pytest.approx(expected)


def test_frozen_parameters_are_told_apart():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    lines = [' '.join(line.split()) for line in describe_parameters(model)]
    assert lines == ['parameters 13, 4 of them trained', '0 9, 0 of them trained', '1 4']


@pytest.mark.parametrize(('seconds', 'expected'), [
    (0.123, '0.12 s'), (3.21, '3.2 s'), (45.2, '45 s'), (59.9, '60 s'), (61, '1 min 1 s'), (3600, '1 h 0 min'),
    (100000, '27 h 46 min')])
def test_durations_in_words(seconds, expected):
    assert format_duration(seconds) == expected

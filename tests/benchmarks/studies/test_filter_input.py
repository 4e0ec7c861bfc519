"""The study of the filter's input fits encoder and head without the people that it tests on."""

import json
import logging

import numpy as np
import pytest
import torch

from benchmarks.studies import filter_input
from benchmarks.studies.few_recordings import DEMO_PEOPLE
from benchmarks.studies.filter_input import ALIGNED, ALL, BOTH, RAW, choose_training, fold_splits_by_group
from recordings.splits import Splits
from tools.demo import DemoSettings, write_demo

FIRST = 'change_tyre'  # of the tasks by name
SMALL = ['-od', '4', '--set', 'BASEARCH.SHORT_MEMORY_ARCH.hidden_dim=4', '--set', 'SKIP_RATE=8']


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A tiny demo dataset, as its split file; what the command sets is set back."""
    paths = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=6, repetitions=2, width=6))
    for variable, path in paths.items():
        monkeypatch.setenv(variable, str(path))
    threads = torch.get_num_threads()
    yield paths['JSON_DPATH'] / 'tiny.splits.json'
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def people(handles):
    return {handle.split('_')[0] for handle in handles}


def test_the_table(dataset, monkeypatch, capsys):
    train, embed, fit_head, trained, embedded, fitted = (filter_input.train, filter_input.embed,
                                                         filter_input.fit_head, [], [], [])

    def noted_training(config, arguments):
        trained.append(json.loads(arguments.splits.read_text())['splits'][FIRST])
        train(config, arguments)

    def noted_embedding(embedder, members, reading, device):
        embedded.append(embed(embedder, members, reading, device))
        return embedded[-1]

    def noted_fit(tasks):
        fitted.append([recording.handle for recording in tasks[FIRST].recordings])
        return fit_head(tasks)

    monkeypatch.setattr(filter_input, 'train', noted_training)
    monkeypatch.setattr(filter_input, 'embed', noted_embedding)
    monkeypatch.setattr(filter_input, 'fit_head', noted_fit)
    command = ['--dataset', 'tiny', '--splits', str(dataset), '--group_regex', DEMO_PEOPLE, '--sizes', '2',
               '--tasks', '1', '--folds', '2', '--epochs', '1', '--options', *SMALL]
    assert filter_input.main(command) == 0
    split = json.loads(dataset.read_text())['splits'][FIRST]
    assert len(trained) == 2  # a fold each
    for number, parts in enumerate(trained):
        assert len(parts['train']) == 2 and not people(parts['train']) & people(parts['test'])
        assert not set(parts['train'] + parts['test']) - set(split['train'])
        assert fitted[3 * number:3 * number + 3] == [parts['train']] * 3
    # Training and left-out recordings of each input: features side by side with the encoder's output.
    raw, aligned, both = embedded[:6:2]
    assert [part.embeddings[0].shape[1] for part in (raw, aligned, both)] == [6, 4, 10]
    assert torch.equal(both.embeddings[0], torch.cat([raw.embeddings[0], aligned.embeddings[0]], dim=1))

    header, _, *table = [[cell.strip() for cell in line.split('|')[1:-1]]
                         for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    rows = [dict(zip(header, row, strict=True)) for row in table]
    assert [(row['training recordings'], row['filter reads']) for row in rows] == [
        ('2', name) for name in (RAW, ALIGNED, BOTH)]
    for row in rows:
        assert 0 < float(row['MAE']) < 0.5 and 0 < float(row['MAE, boundaries unknown']) < 1
        assert (row['folds better'] == '-') == (row['filter reads'] == RAW)
    assert len({row['MAE'] for row in rows}) == 3
    assert sorted([ALL, '20', '5'], key=filter_input.order) == ['5', '20', ALL]


def test_folds_leave_out_people_of_the_training_recordings(dataset):
    options = ['--dataset', 'tiny', '--splits', str(dataset), '--set', f'GROUP_REGEX={DEMO_PEOPLE}']
    known = sorted(json.loads(dataset.read_text())['splits'][FIRST]['train'])
    folds = [splits[FIRST] for splits in fold_splits_by_group(options, 3, tasks=1)]
    assert sorted(sum((parts['test'] for parts in folds), [])) == known
    for parts in folds:
        assert sorted(parts['train'] + parts['test']) == known and not people(parts['train']) & people(parts['test'])
    assert len(fold_splits_by_group(options, 3)[0]) == 3
    fewer = [splits[FIRST] for splits in fold_splits_by_group(options, 2, 3, 1)]
    middle = known[round((len(known) - 1) / 2)]
    assert sorted(fewer[0]['train'] + fewer[0]['test']) == [known[0], middle, known[-1]]


def test_a_number_of_training_recordings():
    splits = Splits({'tea': {'train': list('abcdefgh'), 'val': [], 'test': ['z']}}, {'a': 'one'})
    three, five = (choose_training(splits, count)['tea'] for count in (3, 5))
    assert len(three['train']) == 3 and set(three['train']) < set(five['train']) and three['test'] == ['z']
    assert choose_training(splits, ALL) == splits and choose_training(splits, 3).groups == splits.groups


def test_a_row_counts_the_folds_in_which_an_input_is_better():
    raw = [np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.2, 0.4])]
    other = [np.array([0.05, 0.3, 0.4]), np.array([0.35, 0.1, 0.4])]
    assert filter_input.summarize(other, raw) == {
        'MAE': '0.2000', 'ratio to counter': '0.500', 'folds better than features': '1 of 2',
        'MAE, boundaries unknown': '0.2000', 'its ratio': '0.500', 'folds better': '1 of 2'}
    assert filter_input.summarize(raw, raw)['folds better'] == '-'


@pytest.mark.parametrize(('options', 'message'), [(['--sizes', 'most'], '--sizes'), (['--folds', '1'], '--folds 1')])
def test_what_leaves_nothing_to_measure_is_refused(dataset, capsys, options, message):
    assert filter_input.main(['--dataset', 'tiny', '--splits', str(dataset), *options]) == 2
    assert message in capsys.readouterr().err

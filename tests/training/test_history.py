"""Means over batches, and the table of losses."""

import csv
import math

import pytest
import torch

from training.history import COLUMNS, ComponentMeans, History
from utils.loss_entry import LossTerms


def terms(alignment=None, progress=None, names=('alignment_loss', 'progress_loss')):
    """Terms of a batch; an absent one is the zero that the loss gives."""
    values = {'alignment_loss': alignment, 'progress_loss': progress}
    losses = {name: torch.tensor(values[name] or 0.0) for name in names}
    return LossTerms({**losses, 'total_loss': torch.tensor(99.0)}, [name for name in names if values[name] is not None])


def as_floats(means):
    return {name: float(value) for name, value in means.items()}


@pytest.mark.parametrize(('batches', 'expected'), [
    ([terms(1.0, 0.2), terms(3.0, 0.4)], (2.0, 0.3)),
    ([terms(1.0, 0.2), terms(None, 0.4), terms(3.0, None)], (2.0, 0.3)),  # absent terms are no zeros
    ([terms(None, 0.2), terms(None, 0.6)], (0.0, 0.4)),
    ([terms(2.0, None)], (2.0, None))])
def test_means_count_a_term_where_it_is(batches, expected):
    means = ComponentMeans()
    for batch in batches:
        means.add(batch)
    result = means.means(0.5)
    alignment, progress = expected
    with_progress = {} if progress is None else {'progress_loss': progress}
    assert as_floats(result) == pytest.approx({'alignment_loss': alignment, **with_progress,
                                               'total_loss': alignment + 0.5 * (progress or 0.0)})
    assert all(value.ndim == 0 for value in result.values())
    assert result['total_loss'] == result['alignment_loss'] + 0.5 * result.get('progress_loss', 0.0)


def test_without_progress_the_total_is_the_alignment():
    means = ComponentMeans()
    means.add(terms(1.5, names=('alignment_loss',)))
    assert as_floats(means.means(0.5)) == {'alignment_loss': 1.5, 'total_loss': 1.5}


def test_without_batches_there_is_nothing():
    assert ComponentMeans().means(0.5) == {}


def means_of(alignment, progress, weight):
    return {'alignment_loss': torch.tensor(alignment), 'progress_loss': torch.tensor(progress),
            'total_loss': torch.tensor(alignment + weight * progress), 'GTCC_loss': torch.tensor(alignment)}


@pytest.fixture
def history():
    made = History()
    for epoch, weight in ((1, 0.01), (2, 0.5)):
        made.add(epoch, weight, means_of(1.0 / epoch, 0.4, weight), means_of(2.0, 0.3, 0.5), 1.23456)
    return made


def read(history, path):
    history.write_csv(path)
    with path.open() as file:
        reader = csv.DictReader(file)
        return tuple(reader.fieldnames), list(reader)


def test_csv_holds_the_identities(history, tmp_path):
    columns, rows = read(history, tmp_path / 'losses.csv')
    assert columns == COLUMNS == ('epoch', 'lambda', 'train_total', 'train_alignment', 'train_progress', 'val_total',
                                  'val_alignment', 'val_progress', 'seconds')
    assert [row['epoch'] for row in rows] == ['1', '2'] and rows[0]['seconds'] == '1.235'
    for row in ({name: float(value) for name, value in row.items()} for row in rows):
        assert row['train_total'] == pytest.approx(row['train_alignment'] + row['lambda'] * row['train_progress'])
        assert row['val_total'] == pytest.approx(row['val_alignment'] + 0.5 * row['val_progress'])
    assert (tmp_path / 'losses.csv').read_bytes().count(b'\n') == 3


def test_absent_values_are_empty(tmp_path):
    history = History()
    history.add(1, None, {'alignment_loss': torch.tensor(1.0), 'total_loss': torch.tensor(1.0)}, {}, 1.0)
    _, [row] = read(history, tmp_path / 'losses.csv')
    assert {name for name, value in row.items() if value == ''} == {'lambda', 'train_progress', 'val_total',
                                                                    'val_alignment', 'val_progress'}
    assert history.curves('train') == {'total_loss': [1.0], 'alignment_loss': [1.0], 'progress_loss': []}
    assert history.curves('val') == {'total_loss': [], 'alignment_loss': [], 'progress_loss': []}


def test_a_curve_has_a_gap_where_an_epoch_lacks_a_loss(history):
    history.add(3, 0.5, {'alignment_loss': torch.tensor(1.0), 'total_loss': torch.tensor(1.0)}, {}, 1.0)
    assert history.curves('train')['progress_loss'] == pytest.approx([0.4, 0.4, math.nan], nan_ok=True)


def test_curves_have_the_keys_of_the_plan(history):
    assert history.curves('train') == {'total_loss': pytest.approx([1.004, 0.7]), 'alignment_loss': [1.0, 0.5],
                                       'progress_loss': pytest.approx([0.4, 0.4])}

"""Curves in TensorBoard, read back with its own reader."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.tensorboard import FOLDER, TensorBoardCurves
from utils.errors import UserError

ROW = {'lambda': 0.1, 'train_total': 3.0, 'train_alignment': 1.0, 'train_progress': 20.0, 'val_total': None,
       'val_alignment': None, 'val_progress': None, 'seconds': 1.5}


def read(folder):
    accumulator = EventAccumulator(str(folder / FOLDER)).Reload()
    return {name: [(event.step, event.value) for event in accumulator.Scalars(name)]
            for name in accumulator.Tags()['scalars']}


def test_each_epoch_is_a_point_of_each_curve(tmp_path):
    curves = TensorBoardCurves(tmp_path)
    for epoch in (1, 2):
        curves.add(ROW | {'epoch': epoch, 'train_total': 3.0 / epoch}, {'encoder': 0.5}, {'encoder': 2.0})
    curves.close()
    assert read(tmp_path) == {
        'loss train/total': [(1, 3.0), (2, 1.5)], 'loss train/alignment': [(1, 1.0), (2, 1.0)],
        'loss train/progress': [(1, 20.0), (2, 20.0)],
        'schedule/lambda': [(1, pytest.approx(0.1)), (2, pytest.approx(0.1))],
        'time/seconds per epoch': [(1, 1.5), (2, 1.5)], 'schedule/learning rate encoder': [(1, 0.5), (2, 0.5)],
        'optimizer/gradient norm encoder': [(1, 2.0), (2, 2.0)]}


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path):
    for epochs_done, factor in ((0, 1.0), (1, 10.0)):
        curves = TensorBoardCurves(tmp_path, epochs_done)
        for epoch in range(epochs_done + 1, 4):
            curves.add(ROW | {'epoch': epoch, 'train_total': factor * epoch}, {}, {})
        curves.close()
        time.sleep(1)  # files are read in the order of their names, which tell seconds apart
    assert read(tmp_path)['loss train/total'] == [(1, 1.0), (2, 20.0), (3, 30.0)]


def test_nothing_is_written_where_curves_are_off(tmp_path):
    curves = TensorBoardCurves(None)
    curves.add(ROW | {'epoch': 1}, {}, {})
    curves.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / FOLDER).write_text('a file in the way')
    with pytest.raises(UserError, match='tensorboard: cannot be written'):
        TensorBoardCurves(tmp_path)

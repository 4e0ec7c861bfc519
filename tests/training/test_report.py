"""The lines at the end of a run: steps, recordings that took no part and why, memory."""

import logging

import pytest
import torch

from recordings.batches import Batch
from training.report import RunReport, max_memory
from training.step import StepResult
from utils.loss_entry import LossTerms

TERMS = LossTerms({'total_loss': torch.zeros(())}, ['total_loss'])
TAKEN = StepResult(TERMS, True, {})


def batch(*names):
    return Batch([None] * len(names), [{'name': name} for name in names], 'tea')


@pytest.fixture
def log(caplog):
    logging.getLogger('progress').propagate = True
    caplog.set_level(logging.INFO, logger='progress')
    return lambda: caplog.messages


def test_recordings_without_a_step_are_named(log):
    report = RunReport(['a', 'b', 'c', 'd', 'e'], {'without an action': ['b'], 'never used, alone': ['e']})
    report.add(batch('a', 'b'), TAKEN)
    report.add(batch('c', 'a'), StepResult(TERMS, False, {}))
    report.add(batch('d'), StepResult(LossTerms({}, []), True, {}))
    report.log(steps=2, skipped=1)
    assert log()[0] == '2 steps taken, 1 skipped because loss or gradient was not finite'
    assert log()[1:-1] == ['1 recording without an action: b', '1 recording never used, alone: e',
                           '2 recordings never used because every step with them was skipped: c, d']
    assert log()[-1].startswith('max memory: ') and log()[-1].endswith('MiB of the process')


def test_a_long_list_is_cut_and_a_run_without_steps_accuses_nobody(log):
    report = RunReport(['a'], {'out': list('bcdefgh')})
    report.log(steps=12, skipped=0)
    assert log()[:-1] == ['12 steps taken, 0 skipped because loss or gradient was not finite',
                          '7 recordings out: b, c, d, e, f and 2 more']


def test_what_another_process_used_counts(log):
    report = RunReport(['a', 'b'])
    report.add(batch('a'), TAKEN)
    report.log(steps=1, skipped=0, all_gather=lambda value: [value, {'b'} if isinstance(value, set) else 3 * 2**40])
    assert log()[1:] == [f'max memory: {3 * 2**20} MiB of the process']


def test_memory_is_that_of_the_process():
    assert 2**24 < max_memory() < 2**37

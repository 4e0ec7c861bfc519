"""Signals: noted when they come, obeyed when asked, and the command that goes on afterwards."""

import os
import signal

import pytest

from training.interrupt import REPEATED_WITHIN, StopRequest, command_to_go_on, stop_on_signals
from utils.errors import StoppedError

PROGRAM = ['python', 'multitask_train.py']


@pytest.mark.parametrize(('signum', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_where_it_asks_and_nowhere_else(signum, status, capfd):
    before = signal.getsignal(signum)
    with stop_on_signals(StopRequest()) as stop:
        stop.check()
        os.kill(os.getpid(), signum)
        with pytest.raises(StoppedError) as stopped:
            stop.check()
    assert stopped.value.status == status and signal.getsignal(signum) is before
    assert 'stopping after this step' in capfd.readouterr().err


def test_the_same_signal_sent_twice_at_once_counts_once_but_ctrl_c_later_stops_at_once(monkeypatch, capfd):
    now = [0.0]
    monkeypatch.setattr('training.interrupt.time.monotonic', lambda: now[0])
    stop = StopRequest()
    for signum in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        stop.note(signum)
    now[0] = REPEATED_WITHIN + 0.1
    stop.note(signal.SIGTERM)  # who sends SIGTERM again has SIGKILL for what must not wait
    with pytest.raises(KeyboardInterrupt):
        stop.note(signal.SIGINT)
    assert capfd.readouterr().err.count('stopping') == 1


def test_a_signal_to_another_process_of_the_run_stops_this_one():
    with pytest.raises(StoppedError) as stopped:
        StopRequest(lambda own: max(own, signal.SIGTERM)).check()
    assert stopped.value.signum == signal.SIGTERM


@pytest.mark.parametrize(('argv', 'expected'), [
    (['1', '--gtcc', '-m', 'two words'], "1 --gtcc -m 'two words' --resume"),
    (['1', '--overwrite', '--splits', 'a.json', '--ego'], '1 --ego --resume'),
    (['1', '--over', '--splits=a.json', '--ego'], '1 --ego --resume'),
    (['1', '--set', 'SEED=1', '--resume'], '1 --set SEED=1 --resume')])
def test_the_command_keeps_all_options_but_those_of_a_new_run(argv, expected):
    assert command_to_go_on(PROGRAM, argv, saved=True) == f'python multitask_train.py {expected}'


def test_without_a_whole_epoch_the_run_starts_again():
    command = command_to_go_on(PROGRAM, ['1', '--splits', 'a.json', '--ego'], saved=False)
    assert command == 'python multitask_train.py 1 --splits a.json --ego --overwrite'

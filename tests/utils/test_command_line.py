"""Exit status, one-line errors, devices and seeds of command lines."""

import os
import random
from pathlib import Path

import pytest
import torch

from utils.command_line import OneLineParser, choose_device, option, run_command, seed_everything
from utils.errors import UserError


def test_user_error_is_one_line_and_status_2(capsys):
    def fail():
        raise UserError('file x:\n  found 1,   expected 2')

    assert run_command(fail) == 2
    assert capsys.readouterr().err == 'error: file x: found 1, expected 2\n'


def test_success_is_status_0_and_interrupt_130():
    def interrupt():
        raise KeyboardInterrupt

    assert run_command(lambda: None) == 0
    assert run_command(interrupt) == 130


@pytest.mark.parametrize('chosen, expected', [(None, 'PASSIVE'), ('ACTIVE', 'ACTIVE')])
def test_threads_sleep_while_they_wait_unless_the_user_chose_otherwise(monkeypatch, chosen, expected):
    monkeypatch.setenv('OMP_WAIT_POLICY', chosen or '')
    if chosen is None:
        monkeypatch.delenv('OMP_WAIT_POLICY')
    assert run_command(lambda: None) == 0
    assert os.environ['OMP_WAIT_POLICY'] == expected


def test_other_exceptions_propagate():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)


@pytest.mark.parametrize('name', ['no_such_device', 'cuda:99'])
def test_missing_device_is_a_user_error(name):
    with pytest.raises(UserError, match=f'^{name}: not available as a device here'):
        choose_device(name)


def test_option_is_prefixed_to_the_message():
    with pytest.raises(UserError, match=r'^--device moon: not available'), option('--device'):
        choose_device('moon')


def test_auto_selects_an_available_device():
    assert torch.zeros(1, device=choose_device('auto')).item() == 0
    assert choose_device('cpu') == torch.device('cpu')


def test_seed_everything_seeds_both_generators():
    def draws():
        seed_everything(5)
        return random.random(), torch.rand(1).item()

    assert draws() == draws()


def test_home_folder_in_options(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    parser = OneLineParser()
    parser.add_argument('files', nargs='+', type=Path)
    parser.add_argument('--splits', type=Path)
    parser.add_argument('--name')
    arguments = parser.parse_args(['~/a', 'b~', '--splits=~/c', '--name', '~/d'])
    assert vars(arguments) == {'files': [tmp_path / 'a', Path('b~')], 'splits': tmp_path / 'c', 'name': '~/d'}
    for options, named in ((['a', '--name', ''], '--name'), (['a', '--splits='], '--splits='), ([''], 'the first')):
        with pytest.raises(UserError, match=f'^{named}.*: an empty argument, expected a value'):
            parser.parse_args(options)
    with pytest.raises(UserError, match='splits ~nobody_of_this_name/c: there is no home folder'):
        parser.parse_args(['a', '--splits', '~nobody_of_this_name/c'])

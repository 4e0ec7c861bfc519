"""The log file of a run: failing to open it is an error, failing to write later is a warning."""

import logging
import os

import pytest

from utils.errors import UserError
from utils.logging import get_logger, log_to_file


@pytest.fixture
def logger(monkeypatch):
    project = logging.getLogger('progress')
    monkeypatch.setattr(project, 'propagate', True)
    monkeypatch.setattr(project, 'handlers', [])
    return get_logger('test')


def test_log_is_copied_to_the_file(tmp_path, logger):
    handler = log_to_file(tmp_path / 'train.log')
    logger.warning('Café %d', 3)
    handler.close()
    assert (tmp_path / 'train.log').read_text(encoding='utf-8').endswith('WARNING Café 3\n')


def test_file_that_cannot_be_opened_is_a_user_error(tmp_path, logger):
    with pytest.raises(UserError, match='train.log: cannot be written .No such file or directory.; make'):
        log_to_file(tmp_path / 'nowhere/train.log')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs a device that is always full')
def test_full_disk_warns_once_and_does_not_raise(logger, caplog, capsys):
    log_to_file('/dev/full')
    for number in range(3):
        logger.warning('line %d', number)
    messages = [record.getMessage() for record in caplog.records]
    assert [message[:6] for message in messages if message.startswith('line')] == ['line 0', 'line 1', 'line 2']
    warnings = [message for message in messages if message.startswith('/dev/full: can no longer be written')]
    assert len(warnings) == 1 and 'No space left on device' in warnings[0] and capsys.readouterr().err == ''

"""Memory usage of a process, also on systems that report less."""

import pytest

from utils import memory
from utils.memory import process_memory


def test_peak_is_at_least_the_current_memory():
    assert 2**24 < process_memory('VmRSS') <= process_memory('VmHWM') < 2**37


@pytest.mark.parametrize('status', ['Name:\tpython\nVmRSS:\t  4096 kB\n', None])
def test_peak_falls_back_to_getrusage(tmp_path, monkeypatch, status):
    if status:
        (tmp_path / 'status').write_text(status)
    monkeypatch.setattr(memory, 'Path', lambda _: tmp_path / 'status')
    assert 2**24 < process_memory('VmHWM') < 2**37
    if status:
        assert process_memory('VmRSS') == 4096 * 1024

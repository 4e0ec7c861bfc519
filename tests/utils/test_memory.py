"""Memory of a process, also where the system tells less of it."""

import pytest

from utils import memory
from utils.memory import process_memory


def test_the_most_so_far_is_at_least_what_is_held_now():
    assert 2**24 < process_memory('VmRSS') <= process_memory('VmHWM') < 2**37


@pytest.mark.parametrize('status', ['Name:\tpython\nVmRSS:\t  4096 kB\n', None])
def test_where_the_system_has_no_such_line_another_source_tells_the_most(tmp_path, monkeypatch, status):
    if status:
        (tmp_path / 'status').write_text(status)
    monkeypatch.setattr(memory, 'Path', lambda _: tmp_path / 'status')
    assert 2**24 < process_memory('VmHWM') < 2**37
    if status:
        assert process_memory('VmRSS') == 4096 * 1024

"""A short seeded run of the fuzz benchmark, and a check that it detects wrong outcomes."""

import random
import time

import pytest

from benchmarks.reliability import fuzz_commands, fuzz_loaders
from utils.errors import UserError

CASES = range(250)
FILES = ('annotations', 'splits', 'features')
COMMAND_CASES = range(40)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level('ERROR', logger='progress')


def test_mutated_files_give_a_dataset_or_a_one_line_error():
    outcomes = fuzz_loaders.fuzz(3, CASES, FILES)
    assert [finding for outcome in outcomes.values() for finding in outcome.findings] == []
    assert sum(outcome.counts.total() for outcome in outcomes.values()) == len(CASES)
    for outcome in outcomes.values():
        assert outcome.counts['accepted'] > 3 and outcome.counts['refused'] > 50


def test_mutated_command_lines_end_well_or_with_a_one_line_error():
    outcome = fuzz_loaders.fuzz(5, COMMAND_CASES, [fuzz_loaders.COMMANDS])[fuzz_loaders.COMMANDS]
    assert outcome.findings == [] and outcome.counts.total() == len(COMMAND_CASES)
    assert outcome.counts['accepted'] > 3 and outcome.counts['refused'] > 15


@pytest.mark.parametrize(('status', 'errors'), [(1, ''), (2, ''), (2, 'error: a\nerror: b\n'), (0, 'error: a\n'),
                                                (139, '')])
def test_commands_that_end_in_another_way_are_findings(tmp_path, monkeypatch, status, errors):
    fuzz_loaders.write_dataset(tmp_path)
    monkeypatch.setattr(fuzz_commands, 'draw_case', lambda *_: ('eval', ['-f', 'run']))
    monkeypatch.setattr(fuzz_commands, '_call', lambda *_: (status, errors))
    with pytest.raises(fuzz_commands.WrongEndError, match=f"eval '-f run': status {status}"):
        fuzz_commands.run_command_line(tmp_path, random.Random(0))


def fail_with(error):
    def load(folder):
        raise error
    return load


@pytest.mark.parametrize(('load', 'result', 'finding'), [
    (fail_with(KeyError('handles')), 'other exception', "case 7: KeyError: 'handles'"),
    (fail_with(UserError('two\nlines')), 'refused', 'case 7: a message of several lines'),
    (lambda folder: time.sleep(600), 'hang', 'case 7: longer than')])
def test_other_outcomes_are_findings_and_fail_the_command(monkeypatch, capsys, load, result, finding):
    monkeypatch.setattr(fuzz_loaders, 'load_and_read', load)
    if result == 'hang':
        monkeypatch.setattr(fuzz_loaders, 'MOST_SECONDS', 1)
    monkeypatch.setattr(fuzz_loaders, 'MUTATIONS', {kind: fuzz_loaders.MUTATIONS[kind] for kind in FILES})
    (outcome,) = [outcome for outcome in fuzz_loaders.fuzz(0, [7]).values() if outcome.counts]
    assert outcome.counts == {result: 1}
    assert fuzz_loaders.main(['--cases', '1', '--first', '7']) == 2
    assert [line[:len(finding)] for line in outcome.findings] == [finding]
    output = capsys.readouterr()
    assert finding in output.err and '| annotations' in output.out


def test_unmutated_dataset_is_read(tmp_path):
    fuzz_loaders.write_dataset(tmp_path)
    fuzz_loaders.load_and_read(tmp_path)

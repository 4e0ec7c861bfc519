"""A short seeded run of the fuzz benchmark, and a check that it detects wrong outcomes."""

import time

import pytest

from benchmarks.reliability import fuzz_loaders
from utils.errors import UserError

CASES = range(500)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level('ERROR', logger='progress')


def test_mutated_files_give_a_dataset_or_a_one_line_error():
    outcomes = fuzz_loaders.fuzz(3, CASES)
    assert [finding for outcome in outcomes.values() for finding in outcome.findings] == []
    assert sum(outcome.counts.total() for outcome in outcomes.values()) == len(CASES)
    for outcome in outcomes.values():
        assert outcome.counts['accepted'] > 3 and outcome.counts['refused'] > 50


def fail_with(error):
    def load(folder):
        raise error
    return load


@pytest.mark.parametrize(('load', 'result', 'finding'), [
    (fail_with(KeyError('handles')), 'other exception', "case 7: KeyError: 'handles'"),
    (fail_with(UserError('two\nlines')), 'refused', 'case 7: a message of several lines'),
    (lambda folder: time.sleep(5), 'hang', 'case 7: longer than')])
def test_other_outcomes_are_findings_and_fail_the_command(monkeypatch, capsys, load, result, finding):
    monkeypatch.setattr(fuzz_loaders, 'load_and_read', load)
    monkeypatch.setattr(fuzz_loaders, 'MOST_SECONDS', 1)
    (outcome,) = [outcome for outcome in fuzz_loaders.fuzz(0, [7]).values() if outcome.counts]
    assert outcome.counts == {result: 1}
    assert fuzz_loaders.main(['--cases', '1', '--first', '7']) == 2
    assert [line[:len(finding)] for line in outcome.findings] == [finding]
    output = capsys.readouterr()
    assert finding in output.err and '| annotations' in output.out


def test_unmutated_dataset_is_read(tmp_path):
    fuzz_loaders.write_dataset(tmp_path)
    fuzz_loaders.load_and_read(tmp_path)

"""A short seeded run of the fuzz benchmark of tables, label files and imports."""

import pytest

from benchmarks.reliability import fuzz_inputs

CASES = range(200)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level('CRITICAL', logger='progress')


@pytest.mark.filterwarnings('ignore')
def test_mutated_inputs_give_a_result_or_a_one_line_error():
    outcomes = fuzz_inputs.fuzz(3, CASES)
    assert [finding for outcome in outcomes.values() for finding in outcome.findings] == []
    assert sum(outcome.counts.total() for outcome in outcomes.values()) == len(CASES)
    for kind, outcome in outcomes.items():
        assert outcome.counts['accepted'] > 5, kind
        assert outcome.counts['refused'] > 5 or kind == 'inspections', kind


def test_a_wrong_outcome_is_a_finding(monkeypatch):
    monkeypatch.setattr(fuzz_inputs, 'read_label_file', lambda path, mapping: [][0])
    outcome = fuzz_inputs.fuzz(0, range(40))['label files']
    assert outcome.counts.total() == outcome.counts['other exception'] > 0
    assert all('IndexError' in finding for finding in outcome.findings)

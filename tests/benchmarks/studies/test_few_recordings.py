"""The study of few recordings trains on what it says, and never on a test recording."""

import logging

import pytest
import torch

from benchmarks.studies import few_recordings
from benchmarks.studies.few_recordings import draw_trials
from models.heads.base import EmbeddedRecording
from tools.demo import DemoSettings, write_demo
from utils.action import Action
from utils.errors import UserError


def make_recording(person, number):
    return EmbeddedRecording('task', f'{person}{number}', torch.randn(20, 2), [Action('a', 0, 9), Action('b', 10, 19)],
                             person)


def test_trials_leave_the_new_person_out_except_one_recording():
    recordings = [make_recording(person, number) for person in 'abc' for number in range(2)]
    recordings.append(make_recording('d', 0))  # by a person without a second recording, who is never the new person
    trials = list(draw_trials(recordings, 4, 2))
    assert len(trials) == 3 * 2
    for without, added in trials:
        (person,) = {recording.group for recording in without.test}
        assert len(without.test) == 1 and without.test == added.test
        assert len(without.training) == 4 and person not in {recording.group for recording in without.training}
        assert added.training[:4] == without.training and added.training[4].group == person
        assert without.test[0].handle not in {recording.handle for recording in added.training}
    assert not list(draw_trials(recordings, 6, 1))
    smaller = next(draw_trials(recordings, 2, 1))[0].training
    assert smaller == trials[0][0].training[:2]


def test_the_table(tmp_path, monkeypatch, capsys):
    paths = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=4, repetitions=2, width=6))
    for variable, path in paths.items():
        monkeypatch.setenv(variable, str(path))
    threads = torch.get_num_threads()
    command = ['--dataset', 'tiny', '--group_regex', few_recordings.DEMO_PEOPLE, '--sizes', '1', '9', '--draws', '1']
    assert few_recordings.main(command) == 0
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)
    header, _, one, nine = [[cell.strip() for cell in line.split('|')[1:-1]]
                            for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    scores = dict(zip(header, one, strict=True))
    assert scores['training recordings of other people'] == '1' and scores['trials'] == '12'  # 3 tasks, 4 people
    assert 0 < float(scores['MAE']) < 0.5 and 0 < float(scores['counter, one of the person added']) < 0.5
    assert float(scores['ratio']) == pytest.approx(float(scores['MAE']) / float(scores['counter']), abs=0.01)
    assert nine[:3] == ['9', '0', '-']  # the other people have six recordings of a task


@pytest.mark.parametrize(('options', 'message'), [
    (['--dataset', 'x'], 'give both or none'), (['--sizes', '0'], '--sizes'), (['--group_regex', 'x'], 'give both'),
])
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        few_recordings.parse_arguments(options)

"""The crash benchmark kills, resumes and compares training, and detects files that are not intact."""

import json

import pytest
import torch

from benchmarks.reliability import crash_commands, crash_safety
from benchmarks.reliability.crash_commands import Job
from benchmarks.reliability.crash_safety import Bench, SlowPath, Tally
from tests.launch import ROOT, run_program
from utils.errors import UserError

# The benchmark on every third frame, for half as many epochs, on shorter videos.
SMALL = '''
import sys
from benchmarks.reliability import crash_commands, crash_safety
crash_commands.VIDEO_FRAMES = 4
crash_safety.EPOCHS = 2
crash_safety.OPTIONS += ['-ep', '2', '--set', 'SKIP_RATE=3']
sys.exit(crash_safety.main(['--kills', '2']))
'''


def test_few_kills_lose_nothing():
    # Use a separate process: this one may have threads, so it must not be forked.
    result = run_program('-c', SMALL, pictures=False, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr
    assert '2 kills in all' in result.stdout and '| while a checkpoint is written' in result.stdout
    assert all(f'| {name}' in result.stdout for name in ('import', 'evaluation', 'prediction'))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a bench with the files of a run that was killed after an epoch."""
    monkeypatch.setattr(crash_safety, '_load_what_training_loads', lambda folder: None)
    bench = Bench(tmp_path)
    for run in (bench._whole, bench._run):
        (run / 'ckpt').mkdir(parents=True)
        for name in ('config.json', 'splits.json'):
            (run / name).write_text(json.dumps({'SEED': 0}))
        (run / 'losses.csv').write_text('epoch,train_total,seconds\n1,0.5,3\n')
    with (bench._whole / 'losses.csv').open('a') as file:
        file.write('2,0.25,3\n')
    return bench


def damage_checkpoint(run):
    torch.save({'config': {}}, run / 'ckpt/last.pt')
    (run / 'ckpt/last.pt').write_bytes((run / 'ckpt/last.pt').read_bytes()[:-30])


@pytest.mark.parametrize(('damage', 'message'), [
    (damage_checkpoint, 'last.pt: cannot be read as a checkpoint'),
    (lambda run: (run / 'config.json').write_text('{"SEED"'), 'config.json: not valid JSON'),
    (lambda run: (run / 'splits.json').write_text('{}'), 'splits.json is that of the run'),
    (lambda run: (run / 'losses.csv').write_text('epoch,train_total,seconds\n1,0.6,3\n'), 'losses.csv is the'),
    (lambda run: (run / 'val.png').write_bytes(b'\x89PNG half'), 'val.png is whole')])
def test_damaged_files_are_detected(bench, damage, message):
    assert bench._read_all() == 0
    damage(bench._run)
    with pytest.raises(UserError, match=message):
        bench._read_all()


def test_leftovers_are_detected(bench):
    assert bench._leftovers() == []
    (bench._run / 'ckpt/.last.12.partial.pt').touch()
    (bench._run.parent / '.V1___GTCC_demo.12.new').mkdir()
    assert bench._leftovers() == ['.V1___GTCC_demo.12.new', '.last.12.partial.pt']
    assert bench._read_all() == 0, 'a name that begins with a dot is not a checkpoint'


def test_slow_path_writes_all_data(tmp_path):
    data = bytes(range(256)) * 2000
    assert SlowPath(tmp_path / 'a').write_bytes(memoryview(data)) == len(data)
    assert (tmp_path / 'a').read_bytes() == data


def test_kills_during_saving_are_counted():
    tally = Tally()
    tally.kills.update({b'writing': 2, b'renaming': 1, b'done': 4})
    assert tally.aimed == 3


def test_half_written_or_mixed_results_of_other_commands_are_detected(tmp_path):
    job, before, after = Job('import', 'tools.import_segments', []), {}, {}
    for files, mark in ((before, 'old'), (after, 'new')):
        for name in ('json/imported.json', 'data/imported/features/r0.npy'):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(mark)
        files.update(crash_commands._files(tmp_path))
    (tmp_path / 'data/imported/.features.12.new').mkdir()
    assert crash_commands._check_whole(job, tmp_path, before, after) == 2
    assert crash_commands._hidden(tmp_path) == ['data/imported/.features.12.new']
    (tmp_path / 'json/imported.json').write_text('old')
    with pytest.raises(UserError, match='the annotations do not belong to the features'):
        crash_commands._check_whole(job, tmp_path, before, after)
    (tmp_path / 'json/imported.json').write_text('ne')
    with pytest.raises(UserError, match='json/imported.json is not whole'):
        crash_commands._check_whole(job, tmp_path, before, after)

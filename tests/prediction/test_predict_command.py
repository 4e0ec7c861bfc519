"""predict.py as a user runs it: what it writes, prints and refuses."""

import io
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import predict as predict_command
from prediction import FrameProgress, load_run, predict, stream
from recordings.feature_info import FeatureInfo, write_feature_info
from tests.launch import run_program
from tests.prediction.comparison import assert_equal_rows, read_rows

HEADER = f'{",".join(FrameProgress._fields)}\n'
ROOT = Path(__file__).resolve().parents[2]
SEGMENTS = [(0, 10, 'boil'), (12, 20, 'pour')]
pytestmark = pytest.mark.usefixtures('blank_pictures')  # test_picture.py looks at what is drawn


@pytest.fixture(scope='module')
def run_folder(make_run, save_run, step_options, tmp_path_factory):
    """A run that sees 7 frames ahead, whose head knows steps."""
    return save_run(make_run('--tstack', *step_options), tmp_path_factory.mktemp('runs') / 'V1')


@pytest.fixture
def filter_run(filter_head, make_run, save_run, tmp_path):
    """A run whose head infers boundaries."""
    return save_run(make_run('--naive'), tmp_path / 'V2')


@pytest.fixture
def recordings(make_features, tmp_path, monkeypatch):
    """Two recordings, features/a.npy and features/b.npy, and their segments, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in ('features', 'segments'):
        Path(folder).mkdir()
    for name, length in (('a', 20), ('b', 25)):
        np.save(f'features/{name}.npy', make_features(length))
    Path('segments/a.csv').write_text(''.join(f'{start},{end},{label}\n' for start, end, label in SEGMENTS))
    Path('segments/b.json').write_text(json.dumps(SEGMENTS))


def call(run_folder, *arguments):
    return predict_command.main(['-f', str(run_folder), '--device', 'cpu', *map(str, arguments)])


def pipe(monkeypatch, content):
    stdin = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(content)), isatty=lambda: False)
    monkeypatch.setattr(sys, 'stdin', stdin)


def refused(capsys, run_folder, *arguments):
    assert call(run_folder, *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and not Path('predictions').exists()
    return errors[0]


def test_csv_json_and_picture_hold_the_prediction(run_folder, recordings, capsys, figures):
    assert call(run_folder, '--features', 'features/a.npy', '--segments', 'segments/a.csv', '--task', 'tea') == 0
    printed = capsys.readouterr()
    assert 'a: 20 frames, actions: 2 -> predictions/a.csv' in printed.out and '7 frames ahead' in printed.out
    assert 'no --segments' not in printed.err
    expected = predict(load_run(run_folder, device='cpu'), np.load('features/a.npy'), SEGMENTS, 'tea')
    rows = read_rows(Path('predictions/a.csv').read_text())
    assert [row['step'] for row in rows] == ['boil'] * 10 + ['background'] * 2 + ['pour'] * 8
    assert_equal_rows(rows, expected.rows)
    content = json.loads(Path('predictions/a.json').read_text())
    actions = content.pop('actions')
    assert content == {'recording': 'a', 'run': 'V1', 'checkpoint': 'best_model_combined', 'epoch': 1, 'task': 'tea',
                       'fps': None, 'frames': 20, 'frames_ahead': 7, 'boundaries': 'given'}
    assert [(action['frames'][0], action['frames'][-1] + 1, action['label']) for action in actions] == SEGMENTS
    np.testing.assert_allclose(actions[1]['progress'], expected.progress[12:], atol=1e-6)
    assert [line.get_xdata().tolist() for line in figures[0].axes[1].lines] == [[*range(10)], [*range(12, 20)]]
    assert sorted(os.listdir('predictions')) == ['a.csv', 'a.json', 'a.png']


def test_a_folder_is_predicted_file_by_file(run_folder, recordings, capsys):
    assert call(run_folder, '--features', 'features', '--segments', 'segments', '--task', 'tea', '-o', 'out/deep') == 0
    assert sorted(os.listdir('out/deep')) == [f'{name}.{ending}' for name in 'ab' for ending in ('csv', 'json', 'png')]
    assert json.loads(Path('out/deep/b.json').read_text())['actions'][1]['frames'][-1] == 19


def test_one_table_of_all_recordings_in_seconds(run_folder, recordings):
    rows = [f'{name}.npy,{start / 10},{end / 10},{label}\n' for name in 'ab' for start, end, label in SEGMENTS]
    Path('all.csv').write_text(f'video,start,end,label\n{"".join(rows)}')
    command = ['--features', 'features', '--task', 'tea', '--segments']
    assert call(run_folder, *command, 'segments', '-o', 'unknown') == 0
    assert call(run_folder, *command, 'segments', '--fps', '10', '--unit', 'frames', '-o', 'frames') == 0
    assert call(run_folder, *command, 'all.csv', '--fps', '10', '-o', 'seconds') == 0
    info = FeatureInfo('net', '1', Fraction(10), 224, 'features', (6,))
    write_feature_info(Path('features'), info)
    assert call(run_folder, *command, 'all.csv', '-o', 'described') == 0
    for name in ('a.csv', 'b.csv'):
        assert len({Path(folder, name).read_bytes() for folder in ('frames', 'seconds', 'described')}) == 1
        timed, untimed = (read_rows(Path(folder, name).read_text()) for folder in ('frames', 'unknown'))
        assert [row['time_s'] for row in timed] == [row['frame'] / 10 for row in timed]
        assert all(row['time_s'] is row['remaining_s'] is None for row in untimed)
        assert_equal_rows([{**row, 'time_s': None, 'remaining_s': None} for row in timed], untimed)
    assert json.loads(Path('described/a.json').read_text())['fps'] == 10


def test_without_segments_a_recording_is_one_action_for_a_head_that_needs_them(make_run, save_run, recordings, capsys):
    folder = save_run(make_run('--tstack'), Path('V2'))
    assert call(folder, '--features', 'features/b.npy') == 0
    assert 'each recording counts as one action, from its first frame to its last' in capsys.readouterr().err
    rows = read_rows(Path('predictions/b.csv').read_text())
    assert len(rows) == 25 and all(row['step'] is None and row['progress'] > 0 for row in rows)
    assert json.loads(Path('predictions/b.json').read_text())['boundaries'] == 'whole recording'
    assert sorted(os.listdir('predictions')) == ['b.csv', 'b.json']  # a picture would mislead


@pytest.mark.parametrize('form', ['csv', 'jsonl'])
def test_without_segments_a_head_that_can_infers_them(filter_head, filter_run, recordings, capsys, form):
    run = load_run(filter_run, device='cpu')
    features = np.load('features/b.npy')
    options = ['--task', 'tea', '--fps', '4', '--format', form]
    assert call(filter_run, '--features', 'features/b.npy', *options) == 0
    assert 'one action' not in capsys.readouterr().err
    expected = predict(run, features, task='tea', fps=4)
    assert_equal_rows(read_rows(Path(f'predictions/b.{form}').read_text(), form), expected.rows)
    assert sorted(os.listdir('predictions')) == sorted([f'b.{form}', 'b.json', 'b.png'])
    content = json.loads(Path('predictions/b.json').read_text())
    assert content['boundaries'] == 'inferred' and content['fps'] == 4
    assert [action['label'] for action in content['actions']] == [action.name for action in expected.actions]
    assert {frame: action['label'] for action in content['actions'] for frame in action['frames']} == {
        row.frame: row.step for row in expected.rows if row.step != 'background'}
    with Path('features/b.npy').open('rb') as file:
        items = [b'{"fps": 4}\n', file.read()]
    assert_equal_rows(list(stream(run, features, 'tea', fps=4)), expected.rows)
    with pytest.MonkeyPatch.context() as patch:
        pipe(patch, b''.join(items))
        assert call(filter_run, '--stream', '--task', 'tea', '--format', form) == 0
    assert_equal_rows(read_rows(capsys.readouterr().out, form), expected.rows)


def test_results_are_kept_unless_overwritten(run_folder, recordings, capsys):
    Path('out').mkdir()
    Path('out/b.json').write_text('mine')
    command = ['--features', 'features', '-o', 'out']
    assert 'out/b.json: exists; give --overwrite to replace it' in refused(capsys, run_folder, *command)
    assert os.listdir('out') == ['b.json'] and Path('out/b.json').read_text() == 'mine'
    assert call(run_folder, *command, '--overwrite') == 0 and Path('out/b.json').read_text() != 'mine'


@pytest.mark.parametrize('segments', ['segments', 'segments/a.csv'])
def test_a_result_never_replaces_what_was_given(run_folder, recordings, capsys, segments):
    features = 'features' if segments == 'segments' else 'features/a.npy'
    before = Path('segments/a.csv').read_text()
    command = ['--features', features, '--segments', segments, '--task', 'tea', '-o', 'segments', '--overwrite']
    assert 'segments/a.csv: would be replaced by a result' in refused(capsys, run_folder, *command)
    assert Path('segments/a.csv').read_text() == before


def test_hidden_files_beside_the_features_are_none(run_folder, recordings):
    Path('features/._a.npy').write_text('what some systems leave')
    assert call(run_folder, '--features', 'features') == 0
    assert {path.stem for path in Path('predictions').iterdir()} == {'a', 'b'}


def test_the_frames_ahead_are_those_of_the_recording(make_run, save_run, make_features, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_run(make_run('--tstack', '--max_frames', '20'), tmp_path / 'V1')
    np.save('a.npy', make_features(65))
    assert call(folder, '--features', 'a.npy') == 0
    # Of 65 frames the numbers floor(65 i / 20) are looked at: seven on are 22 or 23 frames later.
    assert json.loads(Path('predictions/a.json').read_text())['frames_ahead'] == 23
    assert 'sees 23 frames ahead' in capsys.readouterr().out


def break_features(change):
    features = np.load('features/b.npy')
    np.save('features/b.npy', change(features))


def put_nan(features):
    features[3, 1] = np.nan
    return features


MISTAKES = {
    'width': (lambda: [np.save(f'features/{name}.npy', np.ones((9, 4))) for name in 'ab'], [],
              'features/a.npy: shape (9, 4), expected (T, D) with at least one frame and D = 6, as in training'),
    'rank': (lambda: break_features(np.ravel), [], 'features/b.npy: shape (150,), expected (T, D)'),
    'no .npy': (lambda: Path('features/a.npy').write_text('text'), [], 'cannot be read as a .npy array'),
    'task': (None, ['--task', 'coffee'], "--task 'coffee': not a task of the run, expected one of tea, tyre"),
    'beyond': (lambda: Path('segments/b.json').write_text('[[0, 28]]'), ['--segments', 'segments'],
               'features/b.npy: segment 0, from 0 to 28, ends beyond the recording of 25 frames'),
    'overlap': (lambda: Path('segments/a.csv').write_text('0,5\n4,6\n'), ['--segments', 'segments'],
                'segments/a.csv: line 1 (no label) ends after the start of line 2'),
    'backwards': (lambda: Path('segments/a.csv').write_text('5,4\n'), ['--segments', 'segments'],
                  'segments/a.csv: line 1: from 5 to 4, expected'),
    'no segments of one': (lambda: Path('segments/b.json').unlink(), ['--segments', 'segments'],
                           'segments: 0 files for b.npy, expected one of b.csv, b.tsv, b.json, b.txt'),
    'two of one': (lambda: Path('segments/b.csv').write_text('0,1'), ['--segments', 'segments'], '2 files for b.npy'),
    'a file for a folder': (None, ['--segments', 'segments/a.csv'], 'a.csv: a file without a column of recordings'),
    'output': (lambda: Path('out').write_text(''), ['-o', 'out/a'], 'out/a: cannot be made'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_ends_in_one_line_before_anything_is_written(run_folder, recordings, capsys, mistake):
    change, options, expected = MISTAKES[mistake]
    if change:
        change()
    assert expected in refused(capsys, run_folder, '--features', 'features', *options)


def test_values_that_are_not_finite_end_in_one_line(run_folder, recordings, capsys):
    break_features(put_nan)
    assert 'features/b.npy: frame 3 holds NaN' in refused(capsys, run_folder, '--features', 'features/b.npy')


@pytest.mark.parametrize(('options', 'expected'), [
    (['--features', 'features', '--unit', 'frames'], '--unit: applies to the times of --segments'),
    (['--features', 'features', '--skip_bad'], '--skip_bad: applies to the lines of --stream'),
    (['--features', 'features', '--segments', 'segments', '--unit', 'seconds'], 'frame rate of the features is not'),
    (['--features', 'features', '--segments', 'segments', '--fps', '0'], '--fps 0: expected a number above 0'),
    (['--features', 'nowhere'], 'nowhere: no such file or folder'),
    (['--features', 'segments'], 'segments: contains no .npy file'), ([], 'one of the arguments'),
    (['--features', 'features', '--stream'], 'not allowed with'),
    (['--stream', '-o', 'out'], '--stream: not with --segments, -o or --overwrite'),
    (['--features', 'features/a.npy', '--segments', 'segments'], 'a folder of segments, but features/a.npy is')])
def test_options_that_do_not_go_together_end_in_one_line(run_folder, recordings, capsys, options, expected):
    assert expected in refused(capsys, run_folder, *options)


def test_an_unknown_run_ends_in_one_line(recordings, capsys):
    assert '-f nowhere: no such run folder' in refused(capsys, 'nowhere', '--features', 'features')


def test_a_stream_prints_what_the_file_would_hold(run_folder, recordings, capsys, monkeypatch):
    features = np.load('features/a.npy')
    markers = {0: {'action': 'boil'}, 10: {'action': False}, 12: {'action': 'pour'}}
    lines = [item for number, frame in enumerate(features) for item in
             ([json.dumps(markers[number])] if number in markers else []) + [json.dumps(frame.tolist())]]
    pipe(monkeypatch, '\n'.join(lines).encode())
    assert call(run_folder, '--stream', '--task', 'tea') == 0
    printed = capsys.readouterr()
    assert 'the progress of a frame comes 7 frames after it' in printed.err
    assert call(run_folder, '--features', 'features/a.npy', '--segments', 'segments/a.csv', '--task', 'tea') == 0
    assert_equal_rows(read_rows(printed.out), read_rows(Path('predictions/a.csv').read_text()))


@pytest.mark.parametrize(('content', 'expected'), [
    (b'', 'standard input: ended before the first frame'), (b'[1, 2]\n', 'standard input: frame 0: shape (1, 2)'),
    (b'[1, 2, 3, 4, 5, 6]\n[1,', 'standard input: line 2: not valid JSON'),
    (b'[1, 2, 3, 4, 5, NaN]\n', 'standard input: frame 0 holds NaN')])
def test_a_malformed_stream_ends_in_one_line(run_folder, recordings, capsys, monkeypatch, content, expected):
    pipe(monkeypatch, content)
    assert expected in refused(capsys, run_folder, '--stream')


@pytest.mark.parametrize(('stdin', 'expected'), [(SimpleNamespace(isatty=lambda: True), 'a terminal'),
                                                 (None, 'closed')])
def test_input_that_never_comes_is_not_waited_for(run_folder, recordings, capsys, monkeypatch, stdin, expected):
    monkeypatch.setattr(sys, 'stdin', stdin)
    assert f'--stream: standard input is {expected}, expected frames' in refused(capsys, run_folder, '--stream')


def frame_lines(features, recording=None):
    """Lines of a stream; with a recording, each frame after the name of it."""
    marker = [] if recording is None else [json.dumps({'recording': recording})]
    return [line for frame in features for line in [*marker, json.dumps(frame.tolist())]]


@pytest.mark.parametrize('form', ['csv', 'jsonl'])
def test_interleaved_recordings_are_predicted_as_if_alone(filter_run, make_features, capsys, monkeypatch, form):
    features = {'a': make_features(12), 'b': make_features(9)}
    lines = [line for pair in zip(np.array_split(features['a'], 4), np.array_split(features['b'], 4), strict=True)
             for name, part in zip('ab', pair, strict=True) for line in frame_lines(part, name)]
    again = ['{"end": "a"}', '{"recording": "a", "task": "tyre"}', *frame_lines(features['b'])]
    pipe(monkeypatch, '\n'.join(['{"fps": 5}', *lines, *again]).encode())
    assert call(filter_run, '--stream', '--task', 'tea', '--format', form) == 0
    rows = read_rows(capsys.readouterr().out, form)
    run, found = load_run(filter_run, device='cpu'), {'a': [], 'b': []}
    for row in rows:
        found[row.pop('recording')].append(row)
    assert_equal_rows(found['a'][:12], predict(run, features['a'], task='tea', fps=5).rows)
    assert_equal_rows(found['b'], predict(run, features['b'], task='tea', fps=5).rows)
    assert_equal_rows(found['a'][12:], predict(run, features['b'], task='tyre', fps=5).rows)


BAD = {'not JSON': b'[1, 2', 'another shape': b'[1, 2]', 'not finite': b'[1, 2, 3, 4, 5, NaN]',
       'nothing to end': b'{"end": "x"}', 'a late name': b'{"recording": "x"}', 'a late marker': b'{"action": true}'}


@pytest.mark.parametrize('bad', BAD)
def test_a_bad_line_ends_a_stream_unless_it_is_skipped(filter_run, recordings, capsys, monkeypatch, bad):
    features = np.load('features/a.npy')
    lines = [line.encode() for line in frame_lines(features)]
    lines[3:3] = [BAD[bad]]
    pipe(monkeypatch, b'\n'.join(lines))
    assert call(filter_run, '--stream', '--task', 'tea') == 2
    ended = capsys.readouterr()
    assert len(read_rows(ended.out)) == 3 and ended.err.splitlines()[-1].startswith('error: standard input')
    pipe(monkeypatch, b'\n'.join(lines))
    assert call(filter_run, '--stream', '--task', 'tea', '--skip_bad') == 0
    skipped = capsys.readouterr()
    assert_equal_rows(read_rows(skipped.out), predict(load_run(filter_run, device='cpu'), features, task='tea').rows)
    assert 'skipped: standard input' in skipped.err and 'standard input: 1 bad lines were skipped' in skipped.err


def test_each_row_is_flushed_before_the_next_line_is_read(filter_run, make_features, monkeypatch):
    written, flushed = [], []

    class Source(io.RawIOBase):
        """Hands out one line at a time, and notes how many rows were flushed by then."""

        lines = iter(f'{line}\n'.encode() for line in frame_lines(make_features(4), 'a'))

        def readable(self):
            return True

        def readinto(self, buffer):
            line = next(self.lines, b'')
            flushed.append(''.join(written).count('\n'))
            buffer[:len(line)] = line
            return len(line)

    class Sink(io.StringIO):
        def reconfigure(self, **options):
            pass

        def flush(self):
            written[:] = [self.getvalue()]

    stdin = SimpleNamespace(buffer=io.BufferedReader(Source()), isatty=lambda: False)
    monkeypatch.setattr(sys, 'stdin', stdin)
    monkeypatch.setattr(sys, 'stdout', Sink())
    assert call(filter_run, '--stream', '--task', 'tea') == 0
    assert flushed == [0, 0, 2, 2, 3, 3, 4, 4, 5]  # with the header; each frame comes after a line with its recording


def test_predictions_that_are_not_finite_are_refused(make_run, save_run, recordings, tmp_path, capsys, monkeypatch):
    run = make_run('--naive')
    with torch.no_grad():
        run.model.progress_head.fc[0].bias.fill_(3e38)
        run.model.progress_head.fc[-2].weight[0] = torch.tensor([2.0, -2.0] * 16)  # infinity minus infinity
    folder = save_run(run, tmp_path / 'V3')
    expected = 'features/a.npy: the run predicts progress nan at frame 0, expected a finite number'
    assert expected in refused(capsys, folder, '--features', 'features/a.npy')
    pipe(monkeypatch, '\n'.join(frame_lines(np.load('features/a.npy'))).encode())
    assert 'standard input: the run predicts progress nan' in refused(capsys, folder, '--stream', '--skip_bad')


def test_rows_arrive_frame_by_frame_and_a_reader_may_leave(make_run, save_run, make_features, tmp_path):
    folder = save_run(make_run('--naive'), tmp_path / 'V1')
    pipes = {name: tmp_path / name for name in ('stdin', 'stdout')}
    for path in pipes.values():
        os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run_program, ROOT / 'predict.py', '-f', folder, '--stream', '--device', 'cpu', **pipes)
        with pipes['stdin'].open('wb', buffering=0) as frames:
            with pipes['stdout'].open('rb') as rows:
                for number, frame in enumerate(make_features(3)):
                    frames.write(json.dumps(frame.tolist()).encode() + b'\n')
                    if number == 0:
                        assert rows.readline() == HEADER.encode()
                    assert rows.readline().startswith(f'{number},,,,0.'.encode())
            frames.write(b'[1, 2, 3, 4, 5, 6]\n' * 3)
        done = ended.result()
    assert done.returncode == 0
    assert done.stderr.count('\n') == 1  # what was logged at the start, and no traceback

"""Import a dataset, then check, train and evaluate; segments computed by hand; every mistake is reported."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from recordings.json_dataset import load_recordings
from recordings.segment_list import SegmentList
from recordings.splits import load_splits
from tests.launch import run_program
from tools import dataset_output, import_segments
from tools.import_format import ImportFormat

WIDTH = 6
# Recording -> one letter per frame; the name ends with the activity, as in Breakfast.
FRAMES = {
    'P01_cam01_P01_tea': 'SSttttppppppS', 'P02_cam01_P02_tea': 'StttppppSSS', 'P03_cam01_P03_tea': 'SSStttttppppp',
    'P04_cam01_P04_tea': 'ttttppppppSS', 'P01_cam01_P01_milk': 'SSppppssssS', 'P02_cam01_P02_milk': 'pppsssss',
    'P03_cam01_P03_milk': 'SSpppppppsssSSS', 'P04_cam01_P04_milk': 'SppppssssssS'}
LABELS = {'S': 'SIL', 't': 'take_cup', 'p': 'pour', 's': 'stir'}
TEST = [name for name in FRAMES if name.startswith('P04')]
SMALL = ['-ep', '1', '-od', '4', '--set', 'ARCHITECTURE.attn_layers=[4]', '--set', 'ARCHITECTURE.drop_layers=[4]',
         '--set', 'BASEARCH.NAIVE_ARCH.layers=[8]']


def labels_of(name):
    return [LABELS[letter] for letter in FRAMES[name]]


def features_of(name):
    """Return features (T, D) that encode the label and the time of each frame."""
    rng = np.random.default_rng(len(name) + len(FRAMES[name]))
    looks = np.eye(len(LABELS), WIDTH)[[list(LABELS).index(letter) for letter in FRAMES[name]]]
    return (looks + np.linspace(0, 1, len(looks))[:, None] + rng.normal(size=looks.shape) * 0.01).astype(np.float32)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Write a folder ``mstcn`` in MS-TCN format with Windows line ends to the working directory."""
    folder = tmp_path / 'mstcn'
    for name in ('groundTruth', 'features', 'splits'):
        (folder / name).mkdir(parents=True)
    for name in FRAMES:
        (folder / 'groundTruth' / f'{name}.txt').write_bytes('\r\n'.join([*labels_of(name), '']).encode())
        np.save(folder / 'features' / f'{name}.npy', features_of(name).T)
    (folder / 'mapping.txt').write_text(''.join(f'{index} {label}\n' for index, label in enumerate(LABELS.values())))
    for part, names in (('train', [name for name in FRAMES if name not in TEST]), ('test', TEST)):
        (folder / f'splits/{part}.split1.bundle').write_text(''.join(f'{name}.txt\n' for name in names))
    monkeypatch.chdir(tmp_path)
    for variable, place in (('DATASET_PATH', 'data'), ('JSON_DPATH', 'jsons'), ('OUTPUT_PATH', 'output')):
        monkeypatch.setenv(variable, str(tmp_path / place))
    return folder


def run_import(*options):
    return import_segments.main(['mine', 'mstcn', *options])


def annotations():
    return json.loads(Path('jsons/mine.json').read_text())


def segments(task, handle):
    """Return the segments of an imported recording as (label, start, end)."""
    fields = annotations()[task]
    number = fields['handles'].index(handle)
    return list(zip(*(fields[key][number] for key in ('hdl_actions', 'hdl_start_times', 'hdl_end_times')), strict=True))


def written():
    return sorted(path for folder in ('data', 'jsons') for path in Path(folder).rglob('*') if path.is_file())


# What is imported ----------------------------------------------------------------------------------------------------

def test_a_folder_is_imported_checked_trained_and_evaluated(source, tmp_path):
    imported = run_program('-m', 'tools.import_segments', 'mine', source, '--task_regex', '_([a-z]+)$')
    assert (imported.returncode, imported.stderr.count('\n')) == (0, 1), imported.stderr
    assert 'milk: 4 recordings (3 train, 0 val, 1 test), 8 actions of 2 labels, 6 background' in imported.stdout
    splits = ['--splits', tmp_path / 'jsons/mine.splits.json']
    checked = run_program('-m', 'tools.check', 'mine', '-o', tmp_path / 'mine.png', *splits)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert 'This dataset can be trained on.' in checked.stdout and (tmp_path / 'mine.png').stat().st_size > 1000
    trained = run_program('multitask_train.py', '1', '--dataset', 'mine', *splits, '--config',
                  'configs/progress_recommended.json', *SMALL, pictures=False)
    assert trained.returncode == 0, trained.stderr
    evaluated = run_program('eval.py', '-f', tmp_path / 'output/multi-task-setting/V1___GTCC_mine', pictures=False)
    assert evaluated.returncode == 0, evaluated.stderr
    for text in ('milk', 'tea', 'MEAN', 'action_progress'):
        assert text in evaluated.stdout


def test_segments_features_and_split_are_those_of_the_source(source):
    assert run_import('--task_regex', '_([a-z]+)$') == 0
    assert list(annotations()) == ['milk', 'tea']
    assert segments('tea', 'P01_cam01_P01_tea') == [('0', 0, 2), ('take_cup', 2, 6), ('pour', 6, 12), ('0', 12, 13)]
    assert segments('milk', 'P02_cam01_P02_milk') == [('pour', 0, 3), ('stir', 3, 8)]
    for name in FRAMES:
        array = np.load(f'data/mine/features/{name}.npy')
        assert array.dtype == np.float32 and np.array_equal(array, features_of(name))
    recordings = load_recordings(Path('jsons/mine.json'), Path('data/mine/features'), background_labels=['0'])
    handles = {task: [recording.handle for recording in members] for task, members in recordings.items()}
    assert load_splits(Path('jsons/mine.splits.json'), handles)['tea'] == {
        'train': [f'P0{person}_cam01_P0{person}_tea' for person in (1, 2, 3)], 'val': [],
        'test': ['P04_cam01_P04_tea']}
    # The labels that training reads equal the label file, frame by frame.
    for members in recordings.values():
        for recording in members:
            read = [None] * recording.num_frames
            for label, start, end in recording.segments:
                read[start:end + 1] = [label] * (end + 1 - start)
            assert read == ['0' if label == 'SIL' else label for label in labels_of(recording.handle)]


def test_single_task_has_name_of_dataset_or_option(source):
    assert run_import() == 0 and list(annotations()) == ['mine']
    assert run_import('--task', 'make drinks', '--overwrite') == 0 and list(annotations()) == ['make drinks']


def test_features_that_are_frames_first_already(source):
    for name in FRAMES:
        np.save(source / f'features/{name}.npy', features_of(name).astype(np.float16))
    assert run_import() == 0
    array = np.load('data/mine/features/P02_cam01_P02_milk.npy')
    assert array.dtype == np.float16 and np.array_equal(array, features_of('P02_cam01_P02_milk').astype(np.float16))


def test_every_second_frame(source):
    assert run_import('--sample_rate', '2') == 0
    # SSttttppppppS -> S.t.t.p.p.p.S
    assert segments('mine', 'P01_cam01_P01_tea') == [('0', 0, 1), ('take_cup', 1, 3), ('pour', 3, 6), ('0', 6, 7)]
    name = 'P01_cam01_P01_tea'
    assert np.array_equal(np.load(f'data/mine/features/{name}.npy'), features_of(name)[::2])


def test_features_sampled_more_coarsely_than_the_labels(source, capsys):
    for name in FRAMES:
        path = source / f'groundTruth/{name}.txt'
        path.write_text(''.join(f'{label}\n' * 4 for label in labels_of(name)))
    assert run_import('--max_mismatch', '2') == 2
    assert 'give --labels_per_feature 4' in capsys.readouterr().err
    assert run_import('--labels_per_feature', '4') == 0
    assert segments('mine', 'P01_cam01_P01_tea') == [('0', 0, 2), ('take_cup', 2, 6), ('pour', 6, 12), ('0', 12, 13)]


def test_an_annotation_that_shares_no_frame_with_the_features_is_refused(source, capsys):
    (source / 'groundTruth/P02_cam01_P02_milk.txt').write_text('SIL\n')
    assert 'P02_cam01_P02_milk.txt: 0 feature frames are annotated, but there are 8' in refused(
        capsys, '--labels_per_feature', '2')


@pytest.mark.parametrize(('extra', 'frames'), [(['S', 'S'], 13), ([], 11)], ids=['labels-longer', 'features-longer'])
def test_a_few_frames_of_difference_are_cut_off_with_a_warning(source, capsys, extra, frames):
    name = 'P01_cam01_P01_tea'
    letters = [*FRAMES[name], *extra] if extra else FRAMES[name][:11]
    (source / f'groundTruth/{name}.txt').write_text('\n'.join(LABELS[letter] for letter in letters))
    assert run_import() == 0
    assert f'{name} ({len(letters)} annotated, 13 in the file)' in capsys.readouterr().err
    assert len(np.load(f'data/mine/features/{name}.npy')) == frames == segments('mine', name)[-1][2]


def test_background_labels_of_the_dataset(source):
    assert run_import('--background', 'take_cup') == 0
    assert segments('mine', 'P01_cam01_P01_tea') == [('0', 0, 6), ('pour', 6, 12), ('0', 12, 13)]


@pytest.mark.parametrize(('share', 'counts'), [('0.3', [4, 2, 2]), ('0.01', [5, 1, 2]), ('0', [6, 0, 2])])
def test_val_share_sets_validation_recordings(source, capsys, share, counts):
    assert run_import('--val_share', share) == 0
    split = json.loads(Path('jsons/mine.splits.json').read_text())['splits']['mine']
    assert [len(split[part]) for part in ('train', 'val', 'test')] == counts and split['test'] == TEST
    shown = capsys.readouterr().out
    assert ('--val_share 0.2 --overwrite uses some' in shown) == (share == '0')
    assert 'All recordings have the same task; --task_regex finds the task' in shown


@pytest.mark.parametrize(('options', 'message'), [
    ([], 'The split was drawn recording by recording; if a person'),
    (['--group_regex', '^(P[0-9]+)_'], 'Groups that the split keeps together: 4 (P01, P02, P03, P04).')])
def test_a_split_that_is_drawn_says_whether_it_knows_the_people(source, capsys, options, message):
    shutil.rmtree(source / 'splits')
    assert run_import(*options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:len(message)] for line in lines if line.startswith(('The split', 'Groups'))] == [message]


def test_numeric_labels_give_warning(source, capsys):
    for path in (source / 'groundTruth').iterdir():
        path.write_text(''.join(f'{len(label) % 3}\n' for label in path.read_text().split()))
    (source / 'mapping.txt').unlink(missing_ok=True)
    assert run_import() == 0
    assert 'all labels are numbers, and 0 counts as background' in capsys.readouterr().err


def test_without_bundles_the_split_is_drawn(source):
    shutil.rmtree(source / 'splits')
    assert run_import() == 0
    split = json.loads(Path('jsons/mine.splits.json').read_text())['splits']['mine']
    assert sorted(name for names in split.values() for name in names) == sorted(FRAMES) and split['train']


def test_seconds_become_feature_frames_and_the_tail_is_background(source):
    shutil.rmtree(source / 'groundTruth')
    name = 'P01_cam01_P01_tea'  # 13 frames at 4 per second
    (source / 'all.csv').write_text(f'video,start,end,label\n{name}.mp4,0.5,1.5,take_cup\n{name}.mp4,1.6,2.9,pour\n')
    command = ['mine', 'mstcn/all.csv', '--unit', 'seconds', '--fps', '4', '--layout', 'DT']
    assert import_segments.main(command) == 2  # the bundles name more recordings
    assert import_segments.main([*command, '--skip_missing']) == 0
    # Frame centers are at (t + 1/2) / 4 seconds: 1.6 s is before the center of frame 6, 2.9 s after that of frame 11.
    assert segments('mine', name) == [('take_cup', 2, 6), ('pour', 6, 12), ('0', 12, 13)]


def test_a_table_that_ends_after_the_features_is_cut_with_a_warning_or_refused(source, capsys):
    name = 'P01_cam01_P01_tea'
    command = ['mine', 'tables', '--features', 'mstcn/features', '--unit', 'frames', '--layout', 'DT']
    Path('tables').mkdir()
    for end, status, message in ((40, 2, '40 feature frames are annotated, but there are 13'),
                                 (15, 0, f'{name} (15 annotated, 13 in the file)')):
        Path(f'tables/{name}.csv').write_text(f'0,6,take_cup\n6,{end},pour\n')
        assert import_segments.main(command) == status
        assert message in capsys.readouterr().err
    assert segments('mine', name) == [('take_cup', 0, 6), ('pour', 6, 13)]


def test_missing_recordings_can_be_skipped(source, capsys):
    (source / 'features/P02_cam01_P02_tea.npy').unlink()
    (source / 'groundTruth/P03_cam01_P03_tea.txt').unlink()
    assert run_import('--skip_missing') == 0
    log = capsys.readouterr().err
    assert 'no feature file for P02_cam01_P02_tea' in log and 'bundles name P03_cam01_P03_tea' in log
    assert len(annotations()['mine']['handles']) == 6


@pytest.mark.parametrize(('text', 'options', 'expected', 'message'), [
    ('start,end,label\n1,6,take_cup\n7,13,pour\n', ['--unit', 'frames', '--first_frame', '1', '--inclusive_ends'],
     [('take_cup', 0, 6), ('pour', 6, 13)], 'start = start, end = end, label = label; times in frames'),
    ('start,end,label\n1,6,take_cup\n7,13,pour\n', ['--unit', 'frames'],
     [('take_cup', 1, 6), ('pour', 7, 13)], 'give --first_frame 1'),
    ('start_ms,end_ms,label\n0,1500,Background\n1500,3250,pour\n', ['--unit', 'milliseconds', '--fps', '4'],
     [('0', 0, 6), ('pour', 6, 13)], 'times in milliseconds'),
    ('start;end;label\n00:00:00:00;00:00:01:15;take_cup\n00:00:01:15;00:00:03:00;idle\n',
     ['--unit', 'seconds', '--fps', '4', '--timecode_fps', '30'], [('take_cup', 0, 6), ('idle', 6, 12), ('0', 12, 13)],
     "'idle' may mean background"),
    ('pour 0 2\n', ['--unit', 'frames', '--columns', 'label=1', 'start=2', 'end=3'], [('pour', 0, 2), ('0', 2, 13)],
     'end, in the median, at 15% of the recording')])
def test_tables_as_people_have_them(source, capsys, text, options, expected, message):
    shutil.rmtree(source / 'splits')
    Path('tables').mkdir()
    Path('tables/P01_cam01_P01_tea.csv').write_text(text)
    # --layout is not needed if only one axis of (6, 13) holds the times.
    layout = ['--layout', 'DT'] if text.startswith('pour') else []
    assert import_segments.main(['mine', 'tables', '--features', 'mstcn/features', *options, *layout]) == 0
    assert segments('mine', 'P01_cam01_P01_tea') == expected
    assert message in capsys.readouterr().err


def test_an_import_without_actions_is_refused(source, capsys):
    for name in FRAMES:
        (source / f'groundTruth/{name}.txt').write_text('Sil\n' * len(FRAMES[name]))
    (source / 'mapping.txt').unlink()
    assert 'mstcn: contains no action (Sil), expected segments with labels' in refused(capsys)
    Path('tables').mkdir()
    Path('tables/P01_cam01_P01_tea.csv').write_text('start,end,label\n3,3,pour\n')
    (source / 'splits').rename('splits')
    assert import_segments.main(['mine', 'tables', '--features', 'mstcn/features', '--unit', 'frames', '--layout',
                                 'DT']) == 2
    assert 'tables: no action contains the center of a feature frame' in capsys.readouterr().err and written() == []


def test_a_new_format_is_one_entry(source, capsys, monkeypatch):
    def read(arguments):
        return {name: SegmentList('own', [arguments.only], [Fraction(0)], [Fraction(13)])
                for name in json.loads((arguments.source / 'own.txt').read_text())}

    form = ImportFormat('own labels', 'a folder with own.txt', lambda folder: (folder / 'own.txt').exists(), read,
                        {'only': {'help': 'label of all'}})
    monkeypatch.setattr(import_segments, 'FORMATS', (form, *import_segments.FORMATS))
    (source / 'own.txt').write_text(json.dumps(['P01_cam01_P01_tea']))
    shutil.rmtree(source / 'splits')
    assert run_import('--only', 'sip', '--layout', 'DT') == 0
    assert segments('mine', 'P01_cam01_P01_tea') == [('sip', 0, 13)]
    assert '--unit: only applies to tables, but SOURCE mstcn is a folder with own.txt' in refused(
        capsys, '--unit', 'frames')


# What is refused ------------------------------------------------------------------------------------------------------

def refused(capsys, *options):
    """Run an import that must fail in one line and write nothing; return the line."""
    before = {path: path.read_bytes() for path in written()}
    assert run_import(*options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(('I ', 'W '))]
    assert len(lines) == 1 and lines[0].startswith('error: ')
    assert {path: path.read_bytes() for path in written()} == before
    assert not list(Path('.').glob('data/*/.*'))
    return lines[0]


@pytest.mark.parametrize(('options', 'message'), [
    (['--task_regex', '('], '--task_regex (: not a valid regular expression'),
    (['--task_regex', '_([A-Z]+)$'], "finds no task in 'P01_cam01_P01_milk'"),
    (['--task', 'a/b'], "--task: 'a/b' cannot name a folder"), (['--task', '..'], "--task: '..' cannot name"),
    (['--background', 'nap'], '--background nap: no such label in mstcn; there are SIL, pour, stir, take_cup'),
    (['--sample_rate', '0'], '--sample_rate 0: expected 1 or more'),
    (['--max_mismatch', '-1'], '--max_mismatch -1: expected 0 or more'),
    (['--val_share', '1'], '--val_share 1.0: expected 0 or more, and less than 1'),
    (['--labels_per_feature', 'x'], '--labels_per_feature x: expected a number above 0'),
    (['--unit', 'frames'], '--unit: only applies to tables, but SOURCE mstcn is a folder with groundT'),
    (['--split', '4'], 'expected train.split4.bundle'),
    (['--bundles', 'none'], 'none: found no bundle'), (['--features', 'none'], 'none: no such folder'),
    (['--features', 'mstcn/splits', '--skip_missing'], 'contains no file for any of the 8 annotated recordings'),
    (['--layout', 'TD'], 'expected the same feature dimension'), (['--laout', 'TD'], 'unrecognized arguments'),
    (['--task', 'a', '--task_regex', 'b'], 'not allowed with argument')])
def test_options_that_are_refused(source, capsys, options, message):
    assert message in refused(capsys, *options)


def test_names_and_sources_that_are_refused(source, capsys):
    for name, place, message in (('../up', 'mstcn', 'expected letters, digits'), ('cmu', 'mstcn', 'part of egoprocel'),
                                 ('mine', 'nowhere', 'SOURCE nowhere: does not exist'),
                                 ('mine', 'mstcn/splits', 'of no known format (contains test.split1.bundle')):
        assert import_segments.main([name, place]) == 2
        assert message in capsys.readouterr().err
    assert written() == []


def test_csv_options_that_are_refused(source, capsys):
    Path('all.csv').write_text('video,start,end,label\nx,0,1,a\n')
    for options, message in (([], '--unit: is required'), (['--unit', 'seconds'], 'requires --fps'),
                             (['--unit', 'frames', '--fps', '3'], '--fps: only applies to times in seconds'),
                             (['--unit', 'seconds', '--fps', '0'], '--fps 0: expected a number above 0'),
                             (['--unit', 'frames', '--columns', 'x'], '--columns x: expected COLUMN=NAME'),
                             (['--unit', 'frames', '--columns', 'end=a', 'end=b'], 'end=b: end is given twice'),
                             (['--unit', 'seconds', '--fps', '3', '--labels_per_feature', '2'], 'not allowed with'),
                             (['--unit', 'frames', '--val_share', '0.1'], '--val_share: only applies to bundles')):
        assert import_segments.main(['mine', 'all.csv', *options]) == 2
        assert message in capsys.readouterr().err
    assert written() == []


def break_lengths(folder):
    name = 'P01_cam01_P01_tea'
    (folder / f'groundTruth/{name}.txt').write_text('SIL\n' * 40)
    return f'{name}.txt: 40 feature frames are annotated, but there are 13; expected a difference of at most 10'


def break_label(folder):
    (folder / 'groundTruth/P01_cam01_P01_tea.txt').write_text('SIL\nnap\n')
    return "line 2 is 'nap', which is missing in mapping.txt"


def break_width(folder):
    np.save(folder / 'features/P01_cam01_P01_tea.npy', np.zeros((WIDTH + 1, 13), np.float32))
    return 'expected the same feature dimension'


def break_values(folder):
    array = features_of('P04_cam01_P04_tea').T.copy()
    array[2, 7] = np.nan
    np.save(folder / 'features/P04_cam01_P04_tea.npy', array)
    return 'P04_cam01_P04_tea.npy: frame 7 holds NaN'


def break_file(folder):
    (folder / 'features/P01_cam01_P01_tea.npy').write_bytes(b'no array')
    return 'P01_cam01_P01_tea.npy: cannot be read as a .npy array'


def drop_features(folder):
    (folder / 'features/P01_cam01_P01_tea.npy').unlink()
    return 'no feature file for P01_cam01_P01_tea (1 in all)'


def drop_labels(folder):
    (folder / 'groundTruth/P01_cam01_P01_tea.txt').unlink()
    return 'the bundles name P01_cam01_P01_tea, for which there are no labels (1 in all)'


def empty_train_bundle(folder):
    (folder / 'splits/train.split1.bundle').write_text('')
    return 'the train bundle names none of the imported recordings'


@pytest.mark.parametrize('damage', [break_lengths, break_label, break_width, break_values, break_file, drop_features,
                                    drop_labels, empty_train_bundle])
def test_sources_that_are_refused(source, capsys, damage):
    message = damage(source)
    assert message in refused(capsys)


def test_ambiguous_axes_require_layout(source, capsys):
    shutil.rmtree(source / 'groundTruth')
    (source / 'x.csv').write_text('video,start,end,label\nx,0,3,go\n')
    np.save(source / 'features/x.npy', np.zeros((5, 6), np.float32))
    shutil.rmtree(source / 'splits')
    command = ['mine', 'mstcn/x.csv', '--unit', 'frames', '--skip_missing']
    assert import_segments.main(command) == 2
    assert 'shape (5, 6), either axis may be time; give --layout TD' in capsys.readouterr().err
    assert import_segments.main([*command, '--layout', 'TD']) == 0
    assert np.load('data/mine/features/x.npy').shape == (5, 6)


def test_overwrite_replaces_dataset_only_if_import_succeeds(source, capsys):
    assert run_import() == 0
    assert 'this dataset exists; --overwrite replaces it' in refused(capsys)
    break_values(source)
    assert 'holds NaN' in refused(capsys, '--overwrite', '--task', 'other')
    np.save(source / 'features/P04_cam01_P04_tea.npy', features_of('P04_cam01_P04_tea').T)
    for name in FRAMES:
        if 'milk' in name:
            (source / f'groundTruth/{name}.txt').unlink()
    assert run_import('--overwrite', '--skip_missing') == 0
    assert [path.stem for path in sorted(Path('data/mine/features').iterdir())] == sorted(
        name for name in FRAMES if 'tea' in name)
    assert not list(Path('data/mine').glob('.*'))


@pytest.mark.parametrize('step', [(dataset_output, 'replace_folder'), (dataset_output, '_write_json'), (np, 'save'),
                                  (dataset_output, 'check_annotations')])
def test_an_import_that_is_interrupted_leaves_the_earlier_dataset(source, monkeypatch, step):
    assert run_import() == 0
    before = {path: path.read_bytes() for path in Path().rglob('*') if path.is_file()}

    def interrupt(*_):
        raise KeyboardInterrupt

    # Interrupted at one of the steps that write or rename.
    target, name = step
    with monkeypatch.context() as patched:
        patched.setattr(target, name, interrupt)
        assert run_import('--overwrite', '--task', 'other') == 130
    assert {path: path.read_bytes() for path in Path().rglob('*') if path.is_file()} == before


def test_nothing_is_written_over_its_source(source, capsys, monkeypatch):
    monkeypatch.setenv('DATASET_PATH', '.')
    monkeypatch.setenv('JSON_DPATH', 'all')
    Path('all').mkdir()
    Path('all/mine.json').write_text('[{"recording": "P01", "start": 0, "end": 4, "label": "a"}]')
    for name, place in (('mstcn', 'mstcn'), ('mine', 'all/mine.json'), ('mine', 'all')):
        assert import_segments.main([name, place, '--features', 'mstcn/features', '--overwrite']) == 2
        assert f'is read, but the dataset {name} would be written to it' in capsys.readouterr().err
    assert Path('all/mine.json').read_text().startswith('[{')

"""Progress of a whole recording: what evaluation computes, and what is refused."""

import numpy as np
import pytest
import torch

from configs.entry_config import parse_training_arguments
from evaluation import evaluate
from evaluation.head_tables import TaskPart, filter_answers
from prediction import FrameProgress, load_run, predict
from recordings.from_config import list_all_actions, load_dataset, split_recordings
from recordings.splits import Splits
from tools.demo import DemoSettings, write_demo
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.run_folder import RunFolder

STEP_HEAD = ['--progress_sampling', 'dense', '--set', 'PROGRESS_LOSS.head=hsmm']
RUNS = {
    'filter': ['--naive', *STEP_HEAD],
    'label given, skips frames': ['--naive', *STEP_HEAD, '--condition_on_step', '--set', 'SKIP_RATE=2'],
    'at most 60 frames': ['--naive', *STEP_HEAD, '--max_frames', '60', '--set', 'SKIP_RATE=2'],
    'plan, sees ahead': ['--tstack']}

pytestmark = pytest.mark.usefixtures('blank_pictures')


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Folder of two tasks of a small demo dataset, with the environment set to it."""
    root = tmp_path_factory.mktemp('demo')
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in write_demo(root, settings=DemoSettings(people=4, repetitions=1, width=12)).items():
            patch.setenv(variable, str(folder))
        annotations = read_json(root / 'dset_jsons/demo.json', 'the annotations')
        splits = read_json(root / 'dset_jsons/demo.splits.json', 'the split')
        del annotations['dress_wound'], splits['splits']['dress_wound']
        write_json(root / 'dset_jsons/demo.json', annotations)
        write_json(root / 'dset_jsons/demo.splits.json', splits)
        yield root


@pytest.mark.parametrize('name', RUNS)
def test_predictions_are_those_of_evaluation(demo, make_run, save_run, monkeypatch, name):
    config, _ = parse_training_arguments(['1', '--tcc', '--dataset', 'demo', '--naive'], 'test')
    splits = Splits(**read_json(demo / 'dset_jsons/demo.splits.json', 'the split'))
    parts = split_recordings(load_dataset(config), splits)
    training = list_all_actions(parts['train'])
    folder = save_run(make_run(*RUNS[name], width=12, training=training), demo / name, splits)
    evaluated = evaluate_actions(folder, monkeypatch)
    run = load_run(folder, device='cpu')
    for recording in (recording for members in parts['test'].values() for recording in members):
        segments = [(start, end + 1, label) for label, start, end in recording.segments]
        prediction = predict(run, np.load(recording.path), segments, recording.task)
        expected = np.concatenate(evaluated.pop(recording.handle))
        received = prediction.progress[~np.isnan(prediction.progress)]
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5)
        assert expected.std() > 0.01 and len(prediction.actions) > 3
    assert evaluated == {}


def evaluate_actions(folder, monkeypatch):
    """Evaluate a run, and return handle -> the head's progress in each action, as the tables have it."""
    evaluated = {}

    def noted(task, drawn, path):
        # All test recordings are drawn: there are fewer than RECORDINGS_DRAWN.
        evaluated.update({one.handle: [curve.predicted['head'] for curve in one.curves] for one in drawn})

    monkeypatch.setattr(evaluate, 'draw_progress', noted)
    # This takes most of the time.
    monkeypatch.setattr(evaluate, '_alignment', lambda train, test: ({}, {}))
    evaluate.evaluate_checkpoint(RunFolder(folder), 'combined', torch.device('cpu'))
    assert len(evaluated) == 2
    return evaluated


def test_what_is_inferred_is_what_evaluation_scores(hsmm_run, make_features):
    recordings = [make_features(length) for length in (30, 41)]
    with torch.no_grad():
        embeddings = hsmm_run.model([torch.from_numpy(features) for features in recordings])['outputs']
    part = TaskPart('tea', ['a', 'b'], embeddings, [[], []])
    for features, answers in zip(recordings, filter_answers(hsmm_run.head, part, torch.device('cpu')), strict=True):
        prediction = predict(hsmm_run, features, task='tea')
        assert prediction.step.tolist() == answers['step'].tolist()
        inside = prediction.step != 'background'
        np.testing.assert_allclose(prediction.progress[inside], answers['progress'][inside], rtol=0, atol=1e-5)
        np.testing.assert_allclose(prediction.overall, answers['overall'], rtol=0, atol=1e-5)


def test_the_pace_of_completed_actions_counts_and_later_ones_do_not(make_run, make_features, step_options):
    run, features = make_run('--naive', *step_options), make_features(60)
    segments = [(0, 30, 'boil'), (30, 45, 'pour'), (45, 60, 'boil')]
    whole = predict(run, features, segments, 'tea').progress
    first = predict(run, features, segments[:2], 'tea').progress
    np.testing.assert_allclose(first[:45], whole[:45], rtol=0, atol=1e-6)
    alone = predict(run, features, segments[1:2], 'tea').progress
    assert np.abs(alone[30:45] - whole[30:45]).max() > 0.01 and np.isnan(alone[:30]).all()


def test_rows_name_the_actions_and_leave_what_is_not_offered_empty(make_run, make_features):
    prediction = predict(make_run('--naive'), make_features(6), [(1, 3, 'a'), (3, 4, 'SIL'), (5, 6)], fps=4)
    rows = prediction.rows
    assert [row[:3] for row in rows] == [(0, 0, 'background'), (1, 0.25, 'a'), (2, 0.5, 'a'), (3, 0.75, 'background'),
                                         (4, 1, 'background'), (5, 1.25, None)]
    assert [row.progress is None for row in rows] == [True, False, False, True, True, False]
    assert rows[0].cells() == ['0', '0.0', 'background', *[''] * 11] and rows[1].cells()[5:] == [''] * 9
    assert float(rows[1].cells()[4]) == pytest.approx(rows[1].progress, abs=1e-6)
    for name in FrameProgress._fields:
        assert getattr(prediction, name).shape == (6,)
    assert prediction.actions == [('a', 1, 2), (None, 5, 5)] and prediction.boundaries == 'given'


@pytest.mark.parametrize(('encoder', 'width', 'shape'), [('--naive', 6, (22, 6)), ('--resnet50', 2, (22, 2, 3, 3))])
def test_of_a_long_recording_the_frames_count_that_training_chooses(make_run, make_features, encoder, width, shape):
    features = make_features(*shape)
    prediction = predict(make_run(encoder, '--max_frames', '7', width=width), features, [(4, 20, 'a')])
    assert prediction.frame.tolist() == [0, 3, 6, 9, 12, 15, 18]  # floor(22 i / 7)
    chosen = predict(make_run(encoder, width=width), features[prediction.frame], [(2, 7, 'a')])
    np.testing.assert_array_equal(prediction.progress, chosen.progress)


@pytest.mark.parametrize('convert', [torch.from_numpy, lambda array: array.astype(np.float64), np.ndarray.tolist])
def test_features_may_be_tensors_and_of_any_precision(make_run, make_features, convert):
    run, features = make_run('--naive'), make_features(9)
    np.testing.assert_array_equal(predict(run, convert(features)).progress, predict(run, features).progress)


def test_a_recording_of_background_alone_has_no_progress(make_run, make_features, caplog):
    prediction = predict(make_run('--naive'), make_features(5), [(0, 5, '0')])
    assert np.isnan(prediction.progress).all() and prediction.actions == []
    assert 'none of its 1 segments is an action' in caplog.text


@pytest.mark.parametrize(('shape', 'expected'), [
    ((5,), 'rec: shape (5,), expected (T, D)'), ((0, 6), 'with at least one frame'),
    ((6, 7), 'shape (6, 7) looks like (D, T), expected (T, D) with D = 6'),
    ((5, 7), 'shape (5, 7), expected (T, D) with at least one frame and D = 6, as in training')])
def test_features_of_another_shape_are_refused(make_run, shape, expected):
    with pytest.raises(UserError) as caught:
        predict(make_run('--naive'), np.zeros(shape, np.float32), name='rec')
    assert expected in str(caught.value)


def test_features_that_are_not_finite_are_refused(make_run, make_features):
    features = make_features(5)
    features[3, 1] = np.inf
    with pytest.raises(UserError, match='rec: frame 3 holds NaN or infinity'):
        predict(make_run('--naive'), features, name='rec')


def test_labels_and_task_are_checked(make_run, make_features, step_options, caplog):
    run, features = make_run('--naive', *step_options), make_features(5)
    predict(run, features, [(0, 5, 'bowl')], 'tea')
    assert "the head does not know the label 'bowl'" in caplog.text and 'known labels are boil, pour' in caplog.text
    predict(run, features)
    predict(run, features)
    assert caplog.text.count('no task given: the head infers it from the frames') == 1
    told = make_run('--naive', *step_options, '--condition_on_step')
    with pytest.raises(UserError, match='rec: an action has no label'):
        predict(told, features, [(0, 5)], 'tea', name='rec')
    with pytest.raises(UserError, match='no task given: the head requires the step'):
        predict(told, features, [(0, 5, 'boil')])

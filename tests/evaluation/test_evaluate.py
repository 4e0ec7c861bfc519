"""The whole evaluation of a run: what is fitted to which part, what is written, what heads that know nothing score."""

import csv
import json
import os
import shutil

import pytest
import torch

import eval as eval_command
import multitask_train
from evaluation import evaluate, sampling
from evaluation.columns import described_columns
from evaluation.embedded_task import EmbeddedTask
from evaluation.embedding_metrics import alignment_scorer
from evaluation.evaluate import evaluate_checkpoint
from models.heads.recurrent import ProgressHead
from tools.demo import DemoSettings, write_demo
from utils.run_folder import MULTI_TASK, RunFolder
from utils.tensorops import Action

COLUMNS = {
    'phase_classification': ['accuracy_10', 'accuracy_50', 'accuracy_100', 'accuracy_majority'],
    'phase_progression': ['r2'],
    'kendalls_tau': ['kendalls_tau'], 'kendalls_tau_wild': ['kendalls_tau_wild'],
    'enclosed_area_error': ['enclosed_area_error'], 'ogpe': ['ogpe', 'CoV']}
pytestmark = pytest.mark.usefixtures('blank_pictures')


def embedded(*recordings):
    """A task's recordings from (positions along a line, actions); each frame adds the same progress."""
    embeddings = [torch.tensor(positions).unsqueeze(1) for positions, _ in recordings]
    progress = [torch.arange(1, len(embedding) + 1, dtype=torch.float64) / len(embedding) for embedding in embeddings]
    return EmbeddedTask([], embeddings, [actions for _, actions in recordings], progress)


def test_alignment_rows_by_hand_fit_to_training_and_score_on_test():
    forwards, backwards = [Action('a', 0, 1), Action('b', 2, 3)], [Action('b', 0, 1), Action('a', 2, 3)]
    train = embedded(([0.0, 1, 2, 3], forwards), ([0.0, 3, 6, 9], forwards))  # lengths 3 and 9
    test = embedded(([0.0, 2, 4, 6], backwards), ([0.0, 2, 4, 6], backwards))
    rows = alignment_scorer(train)(test)
    assert {name: list(row) for name, row in rows.items()} == COLUMNS
    # Predicted 0, 1/3, 2/3, 1 where 1/4, 1/2, 3/4, 1 is true; the training lengths are 6 on average, give or take 3.
    assert rows['ogpe'] == pytest.approx({'ogpe': (1 / 4 + 1 / 6 + 1 / 12) / 4, 'CoV': 0.5})
    assert (rows['kendalls_tau']['kendalls_tau'], rows['kendalls_tau_wild']['kendalls_tau_wild']) == (1, 1)
    assert rows['enclosed_area_error']['enclosed_area_error'] == 0
    # In training, small is a and large is b; in test it is the other way round. 0 and 6 lie clear of the boundary.
    assert rows['phase_classification']['accuracy_100'] <= 0.5
    assert alignment_scorer(train)(train)['phase_classification']['accuracy_100'] >= 0.75
    reversed_time = embedded(([3.0, 2, 1, 0], forwards))
    assert alignment_scorer(train)(reversed_time)['phase_progression']['r2'] < 0 < rows['phase_progression']['r2']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A run with a progress head and one without, on the demo dataset, hardly trained."""
    root = tmp_path_factory.mktemp('evaluation')
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in write_demo(root, settings=DemoSettings(repetitions=1, width=12)).items():
            patch.setenv(variable, str(folder))
        command = ['1', '--tcc', '--dataset', 'demo', '--naive', '-ep', '1', '--set', 'ARCHITECTURE.drop_layers=[8]',
                   '--set', 'BASEARCH.NAIVE_ARCH.layers=[16]', '-od', '8', '--set', 'SKIP_RATE=2', '--splits',
                   str(root / 'dset_jsons/demo.splits.json')]
        for options in (['--progress', '-m', 'progress'], ['-m', 'alone']):
            assert multitask_train.main([*command, *options]) == 0
        folder = root / 'output' / MULTI_TASK
        yield {name: RunFolder(folder / f'V1___tcc_demo.{name}') for name in ('progress', 'alone')}


def read_rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('name', ['progress', 'alone'])
def test_every_table_is_printed_and_written(runs, capsys, name):
    assert eval_command.main(['-f', str(runs[name].path), '--checkpoint_type', 'both']) == 0
    printed = capsys.readouterr().out
    assert ('MAE of the head and of the baselines' in printed) == (name == 'progress')
    for checkpoint in ('best_model_combined', 'best_model_alignment'):
        folder = runs[name].path / 'EVAL' / checkpoint
        for table, columns in COLUMNS.items():
            rows = read_rows(folder / f'{table}.csv')
            assert list(rows[0]) == ['task', *columns]
            assert [row['task'] for row in rows] == ['make_tea', 'change_tyre', 'dress_wound', 'MEAN']
            assert {*columns, *(f'{table}.{column}' for column in columns)} <= set(printed.split())
        pictures = {f'progress_{task}.png' for task in ('make_tea', 'change_tyre', 'dress_wound')}
        expected = {*pictures, 'mae_by_length.png'} if name == 'progress' else set()
        assert not (folder.parent / 'report.html').exists()  # written on demand alone
        assert {path.name for path in folder.glob('*.png')} == expected
        assert (folder / 'action_progress.csv').exists() == (name == 'progress')


@pytest.mark.parametrize('name', ['progress', 'alone'])
def test_the_report_is_written_beside_the_tables_and_says_where(runs, capsys, tmp_path, name):
    run = tmp_path / runs[name].path.name  # a copy: the pictures of the report are no part of a plain evaluation
    shutil.copytree(runs[name].path, run, ignore=shutil.ignore_patterns('EVAL'))
    # As if two evaluations had been killed; the process ID is this one's, so no other process is writing.
    for name_of_part in ('.report', 'best_model_combined/.action_progress'):
        (run / 'EVAL' / name_of_part).parent.mkdir(parents=True, exist_ok=True)
        (run / f'EVAL/{name_of_part}.{os.getpid()}-0123abcd.partial.html').write_text('half')
    assert eval_command.main(['-f', str(run), '--report']) == 0
    assert not list(run.glob('EVAL/**/.*'))
    assert capsys.readouterr().out.endswith(f'best_model_combined\n\nreport: {run / "EVAL/report.html"}\n')
    page = (run / 'EVAL/report.html').read_text(encoding='utf-8')
    assert f'python eval.py -f {run} --report' in page
    pictures = list(run.glob('EVAL/best_model_combined/*.png'))
    assert page.count('data:image/png') == len(pictures) + 1  # and the losses
    assert len(pictures) == {'progress': 3 + 1 + 3, 'alone': 3}[name]
    assert ('boil_<wbr>water</th>' in page) == (name == 'progress')
    written = {path.stem: read_rows(path)[0] for path in run.glob('EVAL/*/*.csv') if path.stem != 'by_group'}
    assert {table: set(row) - {'task'} for table, row in written.items()} == {
        table: set(described_columns(table)) for table in written}


def test_above_the_limits_a_sample_is_evaluated_and_the_head_on_all(runs, tmp_path, capsys, monkeypatch):
    """With limits that every task exceeds, what reads sampled embeddings changes; all else stays as it is."""
    def evaluated(name, *options):
        run = tmp_path / name
        shutil.copytree(runs['progress'].path, run, ignore=shutil.ignore_patterns('EVAL'))
        assert eval_command.main(['-f', str(run), *options]) == 0
        return {path.stem: read_rows(path) for path in run.glob('EVAL/*/*.csv')}, capsys.readouterr()

    whole, before = evaluated('whole')
    for name, limit in (('MAX_VALUES', 1), ('CHUNK_RECORDINGS', 1)):
        monkeypatch.setattr(sampling, name, limit)
    sampled, after = evaluated('sampled', '--report')
    line = 'task make_tea: embeddings are evaluated on a random sample, 2 of 7 training and 2 of 2 test recordings'
    page = (tmp_path / 'sampled/EVAL/report.html').read_text(encoding='utf-8')
    assert line in after.out and line in after.err and line in page and 'random sample' not in before.out + before.err
    assert set(sampled) == set(whole)
    for table in ('action_progress', 'contrast', 'kendalls_tau', 'phase_progression'):
        same = {column for column in whole[table][0] if all(
            one[column] == other[column] for one, other in zip(whole[table], sampled[table], strict=True))}
        # A head without closed form, all of its test recordings, and pairs of them do not depend on the sample.
        fitted = {'action_progress': {'baseline_cumulative_distance', 'skill'}, 'phase_progression': {'r2'}}
        assert set(whole[table][0]) - same <= fitted.get(table, set()), table
    assert whole['phase_progression'] != sampled['phase_progression']


def test_the_spread_over_people_is_of_what_each_scores_alone(runs, tmp_path):
    """The values of a group are those of an evaluation that tests the recordings of this group only."""
    run = tmp_path / 'run'
    shutil.copytree(runs['progress'].path, run, ignore=shutil.ignore_patterns('EVAL'))
    folder = evaluate_checkpoint(RunFolder(run), 'combined', torch.device('cpu')).folder
    rows = read_rows(folder / 'by_group.csv')
    means = {(row['table'], row['column']): row for row in rows if row['task'] == 'MEAN'}
    splits = json.loads((run / 'splits.json').read_text())
    assert set(splits['groups'].values()) == {f'p{person:02d}' for person in range(10)}
    for parts in splits['splits'].values():
        parts['test'] = [handle for handle in parts['test'] if handle.startswith('p09')]
    (run / 'splits.json').write_text(json.dumps(splits))
    alone = evaluate_checkpoint(RunFolder(run), 'combined', torch.device('cpu'))
    for (table, column), row in means.items():
        value = alone.tables[table][-1][column]
        assert float(row['group_p09'] or 'nan') == pytest.approx(value, abs=1e-6, nan_ok=True), (table, column)
    row = means['action_progress', 'mae']
    p08, p09 = float(row['group_p08']), float(row['group_p09'])
    assert float(row['mean']) == pytest.approx((p08 + p09) / 2) and row['num_groups'] == '2'
    assert float(row['std']) == pytest.approx(abs(p08 - p09) / 2 ** 0.5)
    assert {table for table, _ in means} == {*COLUMNS, 'action_progress', 'contrast'}


def test_features_of_another_width_are_refused(runs, tmp_path, capsys, monkeypatch):
    for variable, folder in write_demo(tmp_path, settings=DemoSettings(people=4, repetitions=1, width=9)).items():
        monkeypatch.setenv(variable, str(folder))
    assert eval_command.main(['-f', str(runs['alone'].path)]) == 2
    assert 'dataset demo: its files have 9 feature dimensions, but the network reads 12' in capsys.readouterr().err


class StubHead(ProgressHead):
    """A progress head that looks at the number of frames alone."""

    def __init__(self, curve):
        super().__init__()
        self.curve = curve

    def forward_dense(self, segments, contexts=None):
        return [self.curve(len(segment)) for segment in segments]


@pytest.fixture
def score(runs, monkeypatch):
    """Evaluate the run with another head: its rows of action_progress.csv, as numbers."""
    def with_head(curve):
        def load(path, device):
            model, config, checkpoint = load_model(path, device)
            model.progress_head = StubHead(curve)
            return model, config, checkpoint

        monkeypatch.setattr(evaluate, 'load_model', load)
        folder = evaluate_checkpoint(runs['progress'], 'combined', torch.device('cpu')).folder
        return [{column: float(value) for column, value in row.items() if column != 'task' and value}
                for row in read_rows(folder / 'action_progress.csv')]

    load_model = evaluate.load_model
    return with_head


@pytest.mark.parametrize('value', [0.5, 0.9])
def test_a_constant_head_has_no_skill_and_no_order(score, value):
    rows = score(lambda frames: torch.full((frames,), value))
    assert all(row['skill'] <= 0 and row['spearman'] == 0 and row['monotonicity'] == 1 for row in rows)
    assert all(value != 0.5 or row['mae'] == row['baseline_constant'] for row in rows)


def test_a_random_head_has_no_skill_and_about_no_order(score):
    generator = torch.Generator().manual_seed(0)
    rows = score(lambda frames: torch.rand(frames, generator=generator))
    assert all(row['skill'] < 0 and abs(row['spearman']) < 0.25 for row in rows)
    assert abs(rows[-1]['spearman']) < 0.1 and rows[-1]['monotonicity'] == pytest.approx(0.5, abs=0.05)
    assert rows[-1]['mae'] == pytest.approx(1 / 3, abs=0.03)  # mean distance of two places in [0, 1]


def test_a_counter_has_the_right_order(score):
    rows = score(lambda frames: torch.arange(1, frames + 1) / (torch.arange(1, frames + 1) + 10))
    assert all(row['spearman'] == pytest.approx(1) and row['monotonicity'] == 1 for row in rows)
    assert all(row['mae'] < row['baseline_constant'] for row in rows)

"""A table of several runs next to the baselines."""

import csv
import math

import pytest

from evaluation.compare import main
from evaluation.evaluated import digest, write_evaluated
from utils.files import write_csv, write_json

SPLITS = {'splits': {'tea': {'train': ['a'], 'val': [], 'test': ['b']}}}
HEAD = {'mae': 0.1, 'skill': 0.5, 'baseline_survival': 0.2, 'baseline_survival_per_step': 0.15}
UNSEGMENTED = {'mae': 0.3, 'edit': 80.0, 'baseline_probe': 0.4, 'baseline_probe_edit': 70.0}
OVERALL = {'mae': 0.06, 'remaining_mae': 0.1, 'baseline_counter': 0.07, 'baseline_counter_remaining': 0.2}


def write_run(folder, *, seed=0, head='hsmm', splits=SPLITS, checkpoint='best_model_combined', **tables):
    """A run folder with the tables of its evaluation: table -> column -> value of the row MEAN, half of it for tea."""
    write = {'action_progress': HEAD, **tables}
    (folder / 'EVAL' / checkpoint).mkdir(parents=True)
    write_json(folder / 'config.json', {'VERSION': str(seed), 'SEED': seed, 'EXPERIMENTNAME': folder.name,
                                        'EVAL_PLOTFOLDER': 'EVAL', 'PROGRESS_LOSS': {'head': head}})
    write_json(folder / 'splits.json', splits)
    for name, values in write.items():
        half = [None if math.isnan(value) else value / 2 for value in values.values()]
        whole = [None if math.isnan(value) else value for value in values.values()]
        write_csv(folder / f'EVAL/{checkpoint}/{name}.csv', ['task', *values], [['tea', *half], ['MEAN', *whole]])
    (folder / 'ckpt').mkdir()
    trained = folder / f'ckpt/{checkpoint}.pt'
    trained.write_bytes(b'weights')
    write_evaluated(folder / 'EVAL' / checkpoint, {trained: digest(trained)})
    return str(folder)


def write_single_tasks(folder, **options):
    """A folder of singletask_train.py: a run per task, and the tables of all of them."""
    write_run(folder, **options)
    (folder / 'tea').mkdir()
    for name in ('config.json', 'ckpt'):
        (folder / name).rename(folder / 'tea' / name)
    for tables in (folder / 'EVAL').iterdir():
        trained = folder / f'tea/ckpt/{tables.name}.pt'
        write_evaluated(tables, {trained: digest(trained)})
    return str(folder)


def refused(capsys, *command):
    assert main([*map(str, command)]) == 2
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize('write', [write_run, write_single_tasks])
def test_runs_that_differ_in_the_seed_are_one_row_and_baselines_follow(tmp_path, capsys, write):
    ours = [write(tmp_path / f'V{seed}___own', seed=seed, action_progress={**HEAD, 'mae': mae, 'skill': skill},
                      unsegmented=UNSEGMENTED, overall=OVERALL)
            for seed, mae, skill in ((0, 0.1, 0.5), (1, 0.3, math.nan))]
    other = write_run(tmp_path / 'V0___gru', head='gru', action_progress={**HEAD, 'mae': 0.15})
    out = tmp_path / 'table.csv'
    assert main([*ours, other, '-o', str(out)]) == 0
    rows = {row['name']: row for row in csv.DictReader(out.open())}
    assert list(rows) == ['own', 'gru', 'baseline: survival', 'baseline: survival_per_step', 'baseline: counter',
                          'baseline: probe']
    # Means of (0.1, 0.3) and of (0.5), whose std is not known; the sample std of 0.1 and 0.3 is sqrt(0.02).
    assert float(rows['own']['action_progress.mae']) == pytest.approx(0.2)
    assert float(rows['own']['action_progress.mae_std']) == pytest.approx(math.sqrt(0.02))
    assert (rows['own']['runs'], rows['own']['action_progress.skill'], rows['own']['action_progress.skill_std']) == (
        '2', '0.5', '')
    assert (rows['gru']['runs'], rows['gru']['unsegmented.edit']) == ('1', '')
    assert rows['baseline: survival']['action_progress.mae'] == '0.2' and rows['baseline: survival']['runs'] == ''
    probe = rows['baseline: probe']
    assert (probe['unsegmented.mae'], probe['unsegmented.edit'], probe['overall.mae']) == ('0.4', '70.0', '')
    assert rows['baseline: counter']['overall.mae'] == '0.07'
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ['runs', 'action_progress.mae', 'skill', 'unsegmented.mae', 'edit', 'overall.mae']
    assert shown[2].split() == ['own', '2', '0.2000', '±', '0.1414', '0.5000', '0.3000', '80.0000', '0.0600']


def test_columns_task_and_formats(tmp_path, capsys):
    run = write_run(tmp_path / 'V1___a_b', overall=OVERALL, kendalls_tau={'kendalls_tau': 0.5})
    asked = ['--columns', 'overall.remaining_mae', 'kendalls_tau.kendalls_tau', '--task', 'tea']
    assert main([run, *asked, '-o', str(tmp_path / 'a.tex')]) == 0
    assert main([run, *asked, '-o', str(tmp_path / 'a.md')]) == 0
    assert (tmp_path / 'a.tex').read_text().splitlines()[2:6] == [
        r' & runs & remaining\_mae & kendalls\_tau \\', r'\hline', r'a\_b & 1 & 0.0500 & 0.2500 \\',
        r'baseline: counter & - & 0.1000 & - \\']
    lines = (tmp_path / 'a.md').read_text().splitlines()
    assert lines[1] == '|---|---:|---:|---:|' and lines[2].replace(' ', '') == '|a_b|1|0.0500|0.2500|'
    capsys.readouterr()


def test_two_configurations_of_one_name_have_their_full_names(tmp_path, capsys):
    runs = [write_run(tmp_path / f'V{head}___demo', head=head) for head in ('gru', 'hsmm')]
    assert main([*runs, '--columns', 'action_progress.mae']) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:4]] == ['Vgru___demo', 'Vhsmm___demo']


def test_what_cannot_be_compared_ends_in_one_line(tmp_path, capsys):
    run = write_run(tmp_path / 'V1')
    others = {'splits': {'tea': {'train': ['b'], 'val': [], 'test': ['a']}}}
    elsewhere = write_run(tmp_path / 'V2', splits=others)
    again = write_run(tmp_path / 'V3')
    (tmp_path / 'empty').mkdir()
    assert 'V2: tested on other recordings than' in refused(capsys, run, elsewhere)
    assert f'V3: has the settings and the seed (0) of {run}' in refused(capsys, run, again)
    assert 'empty: contains no config.json' in refused(capsys, tmp_path / 'empty')
    spaced = write_run(tmp_path / 'of mine')
    assert f"python eval.py -f '{spaced}' --" in refused(capsys, spaced, '--checkpoint_type', 'alignment')
    single = write_single_tasks(tmp_path / 'V4')
    (tmp_path / 'V4/tea/config.json').unlink()
    assert 'V4/tea: contains no config.json' in refused(capsys, single)
    assert f'run: python eval.py -f {run} --checkpoint_type alignment' in refused(capsys, run, '--checkpoint_type',
                                                                                  'alignment')
    assert '--task milk: not in the evaluation' in refused(capsys, run, '--task', 'milk')
    assert 'action_progress.skill' in refused(capsys, run, '--columns', 'action_progress.skil')
    assert '.csv or .tex or .md' in refused(capsys, run, '-o', tmp_path / 'a.pdf')
    table = tmp_path / 'V1/EVAL/best_model_combined/action_progress.csv'
    before = table.read_bytes()
    assert 'is in the folder of the tables' in refused(capsys, run, '-o', table) and table.read_bytes() == before
    table.write_text('task,mae\ntea,low\nMEAN,low\n')
    assert 'action_progress.csv: could not convert' in refused(capsys, run)


def test_tables_that_are_not_of_the_checkpoint_are_refused(tmp_path, capsys):
    run = tmp_path / 'V1'
    write_run(run)
    moved = run.rename(tmp_path / 'V2')
    assert main([str(moved)]) == 0  # the tables know their checkpoint by its place in the run
    trained, evaluated = moved / 'ckpt/best_model_combined.pt', moved / 'EVAL/best_model_combined/evaluated.json'
    again = f'run: python eval.py -f {moved} --checkpoint_type combined'
    trained.write_bytes(b'other weights')
    assert refused(capsys, moved) == (f'error: {trained}: has been trained further since it was evaluated, so the '
                                      f'tables in {evaluated.parent} are not of it; {again}')
    trained.unlink()
    assert refused(capsys, moved).startswith(f'error: {trained}: this checkpoint, whose tables are in')
    evaluated.unlink()
    assert 'the evaluation has not ended' in refused(capsys, moved)

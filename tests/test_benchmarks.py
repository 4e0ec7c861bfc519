"""The plain definitions agree with the losses, and the benchmark commands run."""

import json
import logging
import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.speed import losses as losses_command
from benchmarks.speed import scale as scale_command
from benchmarks.speed import slow_definitions
from benchmarks.speed import stream as stream_command
from benchmarks.speed import training_step as training_step_command
from benchmarks.speed.measure import (
    Measurement,
    format_table,
    growth_exponent,
    in_fresh_process,
    short,
    time_and_memory,
)
from benchmarks.speed.training_step import StepBenchmark, random_annotations, verdict
from benchmarks.studies import progress_study
from configs.entry_config import parse_training_arguments
from losses import GTCC_loss, LAV_loss, TCC_loss, VAVA_loss
from losses.gaussian_mixture import fit_gaussian_mixture
from prediction import ActionMarker, ProgressStream
from tools.demo import DemoSettings, write_demo
from utils.command_line import seed_everything

ROOT = Path(__file__).resolve().parents[1]


def leaves(*lengths, embedding_dim=16, scale=0.5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [(scale * torch.randn(length, embedding_dim, generator=generator, dtype=dtype)).requires_grad_()
            for length in lengths]


def drop_vectors(count, embedding_dim=16):
    return list(leaves(count, embedding_dim=embedding_dim + 1)[0].detach())


def assert_same(slow, fast, sequences, *, value=1e-9, gradient=1e-6):
    torch.testing.assert_close(slow, fast, rtol=value, atol=0)
    gradients = zip(torch.autograd.grad(fast, sequences), torch.autograd.grad(slow, sequences), strict=True)
    for actual, expected in gradients:
        assert expected.abs().max() > 0
        torch.testing.assert_close(actual, expected, rtol=0, atol=gradient * float(expected.abs().max()))


@pytest.mark.parametrize('lengths', [(40, 33), (21, 2), (18, 25, 31)])
@pytest.mark.parametrize(('slow', 'fast'), [(slow_definitions.tcc, TCC_loss), (slow_definitions.lav, LAV_loss)])
def test_plain_tcc_and_lav_match_value_and_gradient(slow, fast, lengths):
    sequences = leaves(*lengths)
    assert_same(slow(sequences), fast(sequences), sequences)


def test_plain_gtcc_with_the_same_mixtures_matches_value_and_gradient():
    def fit(alpha, n_components):
        weights, means, variances = fit_gaussian_mixture(alpha.unsqueeze(0), n_components, 20)
        return weights[0], means[0], variances[0].sqrt()

    sequences, dropouts = leaves(40, 33, 27), drop_vectors(3)
    options = {'n_components': 4, 'gamma': 0.7, 'max_comparisons': 9, 'epoch': 2}
    slow = slow_definitions.gtcc(sequences, dropouts, fit=fit, rng=torch.Generator().manual_seed(5), **options)
    fast = GTCC_loss(sequences, dropouts=dropouts, rng=torch.Generator().manual_seed(5), **options)
    assert_same(slow, fast, sequences)


def test_plain_gtcc_with_lbfgs_mixtures_is_close():
    sequences, dropouts = leaves(40, 33), drop_vectors(2)
    slow = slow_definitions.gtcc(sequences, dropouts, n_components=5, rng=torch.Generator().manual_seed(5))
    fast = GTCC_loss(sequences, n_components=5, dropouts=dropouts, rng=torch.Generator().manual_seed(5))
    torch.testing.assert_close(slow, fast, rtol=0.1, atol=0)


def test_lbfgs_recovers_a_mixture():
    index = torch.arange(60, dtype=torch.float64)
    alpha = 0.7 * torch.exp(-(index - 14) ** 2 / 18) / 3 + 0.3 * torch.exp(-(index - 45) ** 2 / 50) / 5
    weights, means, stds = slow_definitions.fit_by_lbfgs(alpha / alpha.sum(), 2, outer_steps=60)
    torch.testing.assert_close(torch.stack([weights, means, stds]),
                               torch.tensor([[0.7, 0.3], [14, 45], [3, 5]], dtype=torch.float64), rtol=0.02, atol=0)


def test_plain_vava_is_close_after_few_iterations():
    sequences = leaves(24, 30, scale=0.2)
    torch.testing.assert_close(slow_definitions.vava(sequences), VAVA_loss(sequences), rtol=1e-2, atol=0)


@pytest.mark.parametrize('global_step', [0, 700])
def test_plain_vava_matches_value_and_gradient_after_convergence(global_step):
    sequences = leaves(12, 15, scale=0.2)
    options = {'maxIter': 4000, 'global_step': global_step, 'lambda2': 0.5, 'delta': 3.0}
    assert_same(slow_definitions.vava(sequences, **options), VAVA_loss(sequences, **options), sequences, value=1e-6,
                gradient=1e-4)


def test_growth_exponent_is_fitted_to_the_longer_lengths():
    lengths = [4, 8, 16, 32, 64]
    values = [7, 99, *(2 * length ** 1.5 for length in lengths[2:])]
    assert growth_exponent(lengths, values) == pytest.approx(1.5)
    assert growth_exponent([4, 8], [3, 12]) == pytest.approx(2)
    assert growth_exponent([4, 8], [0, 12]) is None


def test_tables_are_markdown_with_aligned_columns():
    assert format_table([{'loss': 'TCC', 'ms': 1.5}, {'loss': 'GTCC', 'ms': 12}]).splitlines() == [
        '| loss |  ms |', '| ---- | --: |', '| TCC  | 1.5 |', '| GTCC |  12 |']
    assert [short(value) for value in (0.012345, 12.345, 3316.7, None)] == ['0.0123', '12.3', '3317', '-']


def test_time_and_memory_of_a_case():
    assert 0.05 <= time_and_memory(partial(time.sleep, 0.05), 3).seconds < 0.5
    # Use a fresh process: this one may reuse freed memory for the 64 MiB.
    assert 60 <= in_fresh_process(time_and_memory, partial(torch.ones, 2 ** 24), 3).peak_mib < 80


def test_fresh_process_returns_the_result_or_none_if_killed():
    assert in_fresh_process(pow, 2, 5) == 32
    assert in_fresh_process(os._exit, 9) is None


def test_annotations_cover_the_recording():
    times = random_annotations(21)
    assert times['start_frame'][1:] == [end + 1 for end in times['end_frame'][:-1]]
    assert (times['start_frame'][0], times['end_frame'][-1]) == (0, 20)


@pytest.mark.parametrize('loss', ['tcc', 'GTCC'])
def test_parts_of_a_step_give_the_gradients_of_the_whole_step(loss):
    gradients = []
    for run in (StepBenchmark.run_whole, StepBenchmark.run_parts):
        benchmark = StepBenchmark(loss, 48, 2, 2)
        seed_everything(3)
        run(benchmark)
        gradients.append({name: weight.grad for name, weight in benchmark.model.named_parameters()})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()), msg=name)


def test_verdict_names_the_fraction():
    assert verdict({'alignment in all': '50%'}).endswith('50%, kept.')
    assert verdict({'alignment in all': '51%'}).endswith('51%, broken.')


def run(*command):
    return subprocess.run([sys.executable, '-m', *command], cwd=ROOT, capture_output=True, text=True, timeout=280)


def test_losses_command_prints_a_table():
    result = run('benchmarks.speed.losses', '--lengths', '8', '--losses', 'TCC', '--threads', '1', '--repeats', '1')
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith('`python -m benchmarks.speed.losses --lengths 8 ') and '1 thread,' in lines[2]
    header, _, *rows = [line for line in lines if line.startswith('|')]
    assert [row.split('|')[1].strip() for row in rows] == ['8'] and 'slow / fast: memory' in header
    assert lines[-1] == 'Growth: not fitted; slow: not fitted.'


def test_training_step_command_prints_a_table(monkeypatch, capsys):
    monkeypatch.setattr(training_step_command, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    assert training_step_command.main(['--length', '16', '--heads', '2', '--threads', '1', '--repeats', '1']) == 0
    printed = capsys.readouterr().out
    rows = [line.split('|')[1].strip() for line in printed.splitlines() if line.startswith('|')]
    assert sorted(rows[2:]) == ['GTCC', 'LAV', 'TCC', 'VAVA'] and 'Rule:' in printed and 'step / --amp' in printed


def test_scale_command_prints_the_cost_of_reading_and_of_a_step(monkeypatch, capsys):
    # Fresh processes are tested above.
    monkeypatch.setattr(scale_command, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    assert scale_command.main(['--recordings', '4', '12', '--frames', '40', '--width', '6', '--steps', '2',
                               '--step_seconds', '0.01', '--workers', '0', '--lengths', '16']) == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')]
    assert [row[0] for row in rows if row[0][0] != '-'] == ['recordings', '4', '12', 'frames', '16']
    assert dict(zip(rows[0], rows[2], strict=True))['waiting, 0 workers'].endswith('%')
    assert sorted(rows[-3][1:]) == ['GTCC', 'LAV', 'TCC', 'VAVA'] and all(float(peak) > 100 for peak in rows[-1][1:])
    assert scale_command.main(['--recordings', '1', '--frames', '40', '--width', '6', '--workers', '0']) == 2
    assert 'there is only one batch' in capsys.readouterr().err


@pytest.mark.parametrize('benchmark', [losses_command, training_step_command, progress_study, stream_command])
def test_invalid_option_gives_one_line(benchmark, capsys):
    assert benchmark.main(['--threads', '0']) == 2
    printed = capsys.readouterr()
    assert printed.out == '' and printed.err.count('\n') == 1 and "'0' is not an integer >= 1" in printed.err


def test_table_of_a_loss_has_a_row_per_length(monkeypatch):
    def measure(function, name, slow, length, threads, repeats):
        return Measurement(length ** 2 * (10 if slow else 1) / 1e6, length * (4 if slow else 2))

    monkeypatch.setattr(losses_command, 'in_fresh_process', measure)
    *rows, _, growth = losses_command.compare_loss('TCC', [1000, 2000, 4000], 1, 1).splitlines()[4:]
    cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
    assert cells == [['1000', '1', '2000', '10', '4000', '10', '2'], ['2000', '4', '4000', '40', '8000', '10', '2'],
                     ['4000', '16', '8000', '-', '-', '-', '-']]
    assert growth == 'Growth: time ~ T^2, memory ~ T^1; slow: time ~ T^2, memory ~ T^1.'


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Yield the options that select one task of a tiny demo dataset; restore threads and logging afterwards."""
    paths = write_demo(tmp_path, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    annotations = json.loads((paths['JSON_DPATH'] / 'tiny.json').read_text())
    (paths['JSON_DPATH'] / 'tiny.json').write_text(json.dumps({'make_tea': annotations['make_tea']}))
    for variable, path in paths.items():
        monkeypatch.setenv(variable, str(path))
    threads = torch.get_num_threads()
    yield ['--dataset', 'tiny', '--splits', str(paths['JSON_DPATH'] / 'tiny.splits.json'), '--threads', '1']
    logging.disable(logging.NOTSET)
    torch.set_num_threads(threads)


def test_progress_study_trains_and_evaluates_the_named_configurations(study, tmp_path, monkeypatch, capsys):
    trained, train = [], progress_study.train
    small = [option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]',
                                'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=4') for option in ('--set', key)]

    def noted(config, arguments):
        trained.append(config)
        train(config, arguments)

    monkeypatch.setattr(progress_study, 'train', noted)
    names = ['tcc, then frozen', 'tcc, no progress', 'raw features']
    command = ['--study', 'alignment', '--configurations', *names, *study, '--seeds', '3', '--epochs', '1', '-o',
               str(tmp_path / 'table.md'), '--options', '-od', '4', *small]
    assert progress_study.main(command) == 0
    printed = capsys.readouterr().out
    header, rule, *rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines()
                           if line.startswith('|')]
    assert header == ['configuration', *progress_study.MEASURES] and [row[0] for row in rows] == names
    for row in rows:
        scores = dict(zip(header, row, strict=True))
        has_head = row[0] != 'tcc, no progress'
        assert (scores['MAE'] != '-') == (scores['skill'] != '-') == has_head
        assert 0 < float(scores['OGPE']) < 1 and (not has_head or 0 < float(scores['MAE']) < 0.5)
    assert (tmp_path / 'table.md').read_text() == printed
    # The run that provides the frozen encoder is trained first, and not again if the study names it as well.
    assert [config.EXPERIMENTNAME for config in trained] == [
        'V3___tcc_tiny.tcc__no_progress', 'V3___tcc_tiny.tcc__then_frozen', 'V3___tcc_tiny.raw_features']
    assert [config.FREEZE_ENCODER for config in trained] == [False, True, False]
    assert [config.INIT_FROM and Path(config.INIT_FROM).name for config in trained] == [
        None, trained[0].EXPERIMENTNAME, None]
    assert [config.SEED for config in trained] == [3] * 3 and trained[2].OUTPUT_DIMENSIONALITY == 6


def test_progress_study_tunes_on_folds_of_the_training_recordings(study, monkeypatch, capsys):
    trained = []

    def train(config, arguments):
        trained.append((config, json.loads(arguments.splits.read_text())['splits']['make_tea']))
        (Path(os.environ['OUTPUT_PATH']) / 'multi-task-setting' / config.EXPERIMENTNAME / 'ckpt').mkdir(parents=True)

    monkeypatch.setattr(progress_study, 'train', train)
    monkeypatch.setattr(progress_study, 'evaluate_checkpoint', lambda run, kind, device: SimpleNamespace(
        tables={'ogpe': [{'task': 'MEAN', 'ogpe': 0.25}]}))
    command = ['--study', 'alignment', '--configurations', 'LAV, then frozen', *study, '--folds', '2', '--seeds', '0',
               '1', '2']
    assert progress_study.main(command) == 0
    split = json.loads(Path(study[study.index('--splits') + 1]).read_text())['splits']['make_tea']
    first, second = split['train']
    assert [parts['test'] for _, parts in trained] == [[first]] * 2 + [[second]] * 2 + [[first]] * 2
    assert all(parts['train'] == [handle for handle in (first, second) if handle not in parts['test']]
               and parts['val'] == split['val'] for _, parts in trained)
    assert [config.LOSS_TYPE.LAV for config, _ in trained] == [True] * 6
    assert '0.250 ± 0.000' in capsys.readouterr().out


@pytest.mark.parametrize(('options', 'expected'), [
    (['--configurations', 'plan', 'joint'], "'joint' is not in the study, expected some of ['plan',"),
    (['--study', 'alignment', '--configurations', 'plan'], "'plan' is not in the study"),
    (['--splits', 'mine.json'], '--splits: requires a dataset; also give --dataset'),
    (['--folds', '0'], "'0' is not an integer >= 1"),
    (['--dataset', 'tiny', '--splits', 'nowhere.json', '--folds', '2'], 'nowhere.json: cannot be read')])
def test_progress_study_refuses_invalid_options(study, capsys, options, expected):
    assert progress_study.main(options) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and expected in errors[0]


@pytest.mark.parametrize(('count', 'tested'), [(1, 0), (2, 0), (3, 1), (4, 1), (10, 2), (12, 3)])
def test_last_quarter_of_the_sorted_handles_is_the_test_split(monkeypatch, count, tested):
    handles = [f'rec{number:02d}' for number in range(count)]

    def load_dataset(config):
        assert config.DATASET_NAME == 'tiny'
        shuffled = random.Random(count).sample(handles, count)
        return {'tea': [SimpleNamespace(handle=handle) for handle in shuffled], 'pie': [SimpleNamespace(handle='p')]}

    monkeypatch.setattr(progress_study, 'load_dataset', load_dataset)
    assert progress_study.last_quarter_splits('tiny') == {
        'tea': {'train': handles[:count - tested], 'val': [], 'test': handles[count - tested:]},
        'pie': {'train': ['p'], 'val': [], 'test': []}}


def test_study_without_splits_tests_on_the_last_quarter(study):
    arguments = progress_study.parse_arguments(['--dataset', 'tiny'])
    with progress_study.data_of(arguments) as options:
        assert options[:3] == ['--dataset', 'tiny', '--splits']
        parts = json.loads(Path(options[3]).read_text())['splits']['make_tea']
    assert parts == {'train': [f'p0{person}_make_tea_1' for person in range(3)], 'val': [],
                     'test': ['p03_make_tea_1']}


@pytest.mark.parametrize('folds', [1, 2, 3, 5, 9])
def test_folds_partition_the_training_recordings(tmp_path, monkeypatch, folds):
    monkeypatch.setenv('OUTPUT_PATH', str(tmp_path / 'output'))  # does not exist yet
    splits = {task: {'train': [f'{task}{number}' for number in range(count)], 'val': [f'{task}v'], 'test': [f'{task}t']}
              for task, count in (('tea', 7), ('pie', 2))}
    path = tmp_path / 'splits.json'
    path.write_text(json.dumps({'splits': splits}))
    written = [progress_study.fold_splits(path, fold, folds) for fold in range(folds)]
    assert len(set(written)) == folds and json.loads(path.read_text()) == {'splits': splits}
    contents = [json.loads(file.read_text())['splits'] for file in written]
    for task, parts in splits.items():
        tested = [content[task]['test'] for content in contents]
        assert sum(tested, []) == parts['train']  # each once, and none of the test recordings
        assert max(map(len, tested)) - min(map(len, tested)) <= 1
        for content in contents:
            assert content[task]['val'] == parts['val']
            assert sorted(content[task]['train'] + content[task]['test']) == parts['train']


def test_summary_has_means_stds_and_a_dash_if_a_measure_is_missing():
    results = [{**dict.fromkeys(progress_study.MEASURES, 0.5), 'MAE': mae, 'skill': skill}
               for mae, skill in ((0.1, 0.2), (0.2, float('nan')), (0.6, 0.4))]
    # Squared deviations from 0.3: 0.04 + 0.01 + 0.09, over two.
    summary = progress_study.summarize(results)
    assert list(summary) == list(progress_study.MEASURES)
    assert (summary['MAE'], summary['skill'], summary['OGPE']) == ('0.300 ± 0.265', '-', '0.500 ± 0.000')
    single = progress_study.summarize(results[:1])
    assert (single['MAE'], single['skill']) == ('0.100', '0.200')


def test_stream_command_prints_speed_and_cost(capsys, monkeypatch):
    monkeypatch.setattr(stream_command, 'BATCH_FRAMES', 200)
    threads = torch.get_num_threads()
    assert stream_command.main(['--frames', '120', '--width', '8', '--threads', '1', '--configurations', 'naive',
                                'stacking, sees ahead']) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    tables = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')]
    assert [row[:2] for row in tables[2:4]] == [['naive', '0'], ['stacking, sees ahead', '7']]
    assert len(tables[4]) == 11 and len(tables) == 10
    assert all(float(cell) > 0 for row in tables[6:] for cell in row[1:])
    assert printed.splitlines()[-1].startswith('Rule: in no tenth')


@pytest.mark.parametrize('name', stream_command.CONFIGURATIONS)
def test_each_configuration_of_the_stream_predicts(name):
    run = stream_command.random_run(stream_command.CONFIGURATIONS[name], 8)
    stream = ProgressStream(run, stream_command.TASK)
    stream.mark(ActionMarker(stream_command.label_of(0)))
    rows = [row for frame in torch.randn(20, 8).numpy() for row in stream.push(frame)]
    assert len(rows) == 20 - run.delay and all(0 < row.progress < 1 for row in rows)


@pytest.mark.parametrize('name', [*progress_study.HEADS, *progress_study.ALIGNMENT])
def test_each_configuration_of_a_study_is_valid(name):
    options = {**progress_study.HEADS, **progress_study.ALIGNMENT}[name]
    parse_training_arguments(['1', *options, '--dataset', 'tiny'], 'multitask_train.py')


def test_verdict_of_a_stream_is_kept_if_no_tenth_is_slower():
    flat, rising = torch.ones(10).numpy(), torch.linspace(1, 1.3, 10).numpy()
    assert stream_command.verdict([flat]).endswith('1.00, kept.')
    assert stream_command.verdict([flat, rising]).endswith('1.30, broken.')

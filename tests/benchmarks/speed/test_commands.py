"""The benchmarks of speed measure what they say, and run."""

import json
import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.speed import evaluation_memory, measure
from benchmarks.speed import gpu as gpu_command
from benchmarks.speed import hours as hours_command
from benchmarks.speed import libraries as libraries_command
from benchmarks.speed import losses as losses_command
from benchmarks.speed import scale as scale_command
from benchmarks.speed import stream as stream_command
from benchmarks.speed import training_step as training_step_command
from benchmarks.speed import video as video_command
from benchmarks.speed.hours import Cost
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
from prediction import ActionMarker, ProgressStream
from recordings.video import VideoReader
from tests.video_files import write_video
from utils.command_line import seed_everything
from utils.errors import UserError


def test_growth_is_fitted_to_the_longer_lengths():
    lengths = [4, 8, 16, 32, 64]
    values = [7, 99, *(2 * length ** 1.5 for length in lengths[2:])]
    assert growth_exponent(lengths, values) == pytest.approx(1.5)
    assert growth_exponent([4, 8], [3, 12]) == pytest.approx(2)
    assert growth_exponent([4, 8], [0, 12]) is None


def test_tables_are_markdown_with_aligned_columns():
    assert format_table([{'loss': 'TCC', 'ms': 1.5}, {'loss': 'GTCC', 'ms': 12}]).splitlines() == [
        '| loss |  ms |', '| ---- | --: |', '| TCC  | 1.5 |', '| GTCC |  12 |']
    assert [short(value) for value in (0.012345, 12.345, 3316.7, None)] == ['0.0123', '12.3', '3317', '-']


def test_time_and_memory_of_a_case(monkeypatch):
    calls, clock = [], iter([0, 0.05, 1, 1.2, 3, 3.1])
    with monkeypatch.context() as patched:
        patched.setattr(measure, 'time', SimpleNamespace(perf_counter=clock.__next__))
        assert time_and_memory(partial(calls.append, 1), 3).seconds == pytest.approx(0.1)  # the median
    assert len(calls) == 4  # with the one that warms up
    # In a process that ran before, the 64 MiB may come from memory that it had freed but kept.
    assert 60 <= in_fresh_process(time_and_memory, partial(torch.ones, 2 ** 24), 3).peak_mib < 80


def test_a_fresh_process_returns_the_result_or_none_where_it_was_killed():
    assert in_fresh_process(pow, 2, 5) == 32
    assert in_fresh_process(os._exit, 9) is None


def test_annotations_cover_the_recording():
    times = random_annotations(21)
    assert times['start_frame'][1:] == [end + 1 for end in times['end_frame'][:-1]]
    assert (times['start_frame'][0], times['end_frame'][-1]) == (0, 20)


@pytest.mark.parametrize('loss', ['tcc', 'GTCC'])
def test_the_parts_of_a_step_take_the_gradients_of_the_whole_one(loss):
    gradients = []
    for run in (StepBenchmark.run_whole, StepBenchmark.run_parts):
        benchmark = StepBenchmark(loss, 48, 2, 2)
        seed_everything(3)
        run(benchmark)
        gradients.append({name: weight.grad for name, weight in benchmark.model.named_parameters()})
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()), msg=name)


def test_the_verdict_names_the_share():
    assert verdict({'alignment in all': '50%'}).endswith('50%, kept.')
    assert verdict({'alignment in all': '51%'}).endswith('51%, broken.')


def test_losses_command_prints_a_table(monkeypatch, capsys):
    # The processes of their own are tested above.
    monkeypatch.setattr(losses_command, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    assert losses_command.main(['--lengths', '8', '--losses', 'TCC', '--threads', '1', '--repeats', '1']) == 0
    lines = capsys.readouterr().out.splitlines()
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


def test_scale_command_prints_what_reading_and_a_step_take(monkeypatch, capsys):
    # The processes of their own are tested above.
    monkeypatch.setattr(scale_command, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    assert scale_command.main(['--recordings', '4', '12', '--frames', '40', '--width', '6', '--steps', '2',
                               '--step_seconds', '0.01', '--workers', '0', '--lengths', '16']) == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')]
    assert [row[0] for row in rows if row[0][0] != '-'] == ['recordings', '4', '12', 'frames', '16']
    assert dict(zip(rows[0], rows[2], strict=True))['waiting, 0 workers'].endswith('%')
    assert sorted(rows[-3][1:]) == ['GTCC', 'LAV', 'TCC', 'VAVA'] and all(float(peak) > 100 for peak in rows[-1][1:])
    assert float(dict(zip(rows[0], rows[2], strict=True))['processor'].removesuffix(' s')) >= 0
    assert scale_command.main(['--recordings', '1', '--frames', '40', '--width', '6', '--workers', '0']) == 2
    assert 'only one batch, so no waiting to measure' in capsys.readouterr().err


def test_scale_command_evaluates_collections_of_each_size(monkeypatch, capsys):
    evaluated = []

    def cost_of(command, environment):
        # What the commands would read; running them takes minutes, and they are tested elsewhere.
        features = {path.stem for path in Path(environment['DATASET_PATH']).glob('many/features/rec*.npy')}
        if command[0] == 'eval.py':
            parts, = json.loads((Path(command[2]) / 'splits.json').read_text())['splits'].values()
            assert sorted(parts['train'] + parts['test']) == sorted(features)
            evaluated.append((len(features), len(parts['test'])))
        else:
            run_folder = Path(environment['OUTPUT_PATH']) / 'multi-task-setting/V1___GTCC_many'
            run_folder.mkdir(parents=True)
        return Cost(2.4, 300.2)

    monkeypatch.setattr(evaluation_memory, 'cost_of', cost_of)
    assert scale_command.main(['--recordings', '--lengths', '--frames', '20', '--width', '3', '--evaluate', '7']) == 0
    assert evaluated == [(evaluation_memory.TRAINED, evaluation_memory.TRAINED // 2), (7, 3)]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert [cell.strip() for cell in lines[-1].split('|')[1:-1]] == ['7', '0 MiB', '2 s', '300 MiB']


def test_libraries_command_compares_them_with_torch(monkeypatch, capsys):
    monkeypatch.setattr(libraries_command, 'in_fresh_process', lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(libraries_command, 'first_soft_dtw', lambda folder: 1)  # it sets a variable of its process
    threads = torch.get_num_threads()
    assert libraries_command.main(['--lengths', '5', '9', '--repeats', '1']) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')]
    assert [row[0] for row in rows[2:]] == ['5', '9'] and all(float(cell) > 0 for row in rows[2:] for cell in row)
    assert 'to import numba and read the compiled code' in printed


def test_gpu_command_runs_every_part_on_the_device_and_shows_what_fails(monkeypatch, capsys):
    sizes = ['--length', '24', '--heads', '2', '--width', '8', '--repeats', '1', '--no_commands']

    def broken(loss, length, device):
        raise RuntimeError('no kernel\nand more')

    prepare = gpu_command.prepare_loss
    monkeypatch.setattr(gpu_command, 'prepare_loss', lambda loss, length, device: (
        broken if loss == 'LAV' else prepare)(loss, length, device))
    assert gpu_command.main(['--device', 'cpu', *sizes]) == 1
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in capsys.readouterr().out.splitlines()
            if line.startswith('|')][2:]
    assert {row[0]: row[-1] for row in rows if row[-1] != 'ok'} == {
        'LAV, value and gradient': 'RuntimeError: no kernel'}
    assert len(rows) == 14 and all(row[4] == '0' for row in rows if row[-1] == 'ok')  # the same device, twice
    if not torch.cuda.is_available():
        assert gpu_command.main(sizes) == 2
        printed = capsys.readouterr()
        assert printed.out == '' and printed.err.count('\n') == 1 and 'cuda: not available' in printed.err


def test_hours_command_divides_the_cost_of_commands_by_the_hours_of_video(monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(hours_command, 'cost_of', lambda command, environment: (
        commands.append(command[0]) or hours_command.Cost(8.0, 300.0)))
    assert hours_command.main(['--people', '4', '--width', '6']) == 0
    header, _, row = [[cell.strip() for cell in line.split('|')[1:-1]]
                      for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    shown = dict(zip(header, row, strict=True))
    assert commands == ['multitask_train.py', 'eval.py', 'predict.py']
    assert (shown['recordings'], shown['training: s'], shown['evaluation: MiB']) == ('24', '8.0', '300')
    assert float(shown['training: s / h']) == pytest.approx(8 / float(shown['hours']), rel=0.02)
    # 4 features per second of 6 numbers in float32, and the headers of the files.
    assert 4 * 3600 * 6 * 4 / 2**20 < float(shown['features: MiB / h']) < 1.1 * 4 * 3600 * 6 * 4 / 2**20


def test_the_cost_of_a_command_is_its_processor_time_and_peak_memory():
    cost = hours_command.cost_of(['-c', 'import time; held = bytearray(200 << 20)\n'
                                  'while time.process_time() < 0.2: pass'], {})
    assert 0.2 <= cost.seconds < 2 and cost.peak_mib > 200
    with pytest.raises(UserError, match='-c ended with status 3: no data; run it by hand'):
        hours_command.cost_of(['-c', 'import sys; print("no data"); sys.exit(3)'], {})


@pytest.mark.parametrize('benchmark', [losses_command, training_step_command, progress_study, stream_command])
def test_a_mistake_on_the_command_line_is_one_line(benchmark, capsys):
    assert benchmark.main(['--threads', '0']) == 2
    printed = capsys.readouterr()
    assert printed.out == '' and printed.err.count('\n') == 1 and "'0' is not an integer >= 1" in printed.err


def test_a_table_of_a_loss_has_a_row_per_length(monkeypatch):
    def measure(function, name, slow, length, threads, repeats):
        return Measurement(length ** 2 * (10 if slow else 1) / 1e6, length * (4 if slow else 2))

    monkeypatch.setattr(losses_command, 'in_fresh_process', measure)
    *rows, _, growth = losses_command.compare_loss('TCC', [1000, 2000, 4000], 1, 1).splitlines()[4:]
    cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
    assert cells == [['1000', '1', '2000', '10', '4000', '10', '2'], ['2000', '4', '4000', '40', '8000', '10', '2'],
                     ['4000', '16', '8000', '-', '-', '-', '-']]
    assert growth == 'Growth: time ~ T^2, memory ~ T^1; slow: time ~ T^2, memory ~ T^1.'


def test_stream_command_prints_speed_and_cost(capsys, monkeypatch):
    monkeypatch.setattr(stream_command, 'BATCH_FRAMES', 200)
    threads = torch.get_num_threads()
    assert stream_command.main(['--frames', '120', '--width', '8', '--threads', '1', '--configurations', 'recommended',
                                'stacking, sees ahead']) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    tables = [[cell.strip() for cell in line.split('|')[1:-1]] for line in printed.splitlines() if line.startswith('|')]
    assert [row[:2] for row in tables[2:4]] == [['recommended', '0'], ['stacking, sees ahead', '7']]
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


def test_the_cost_of_a_stream_is_flat_where_no_tenth_stands_out():
    flat, rising = torch.ones(10).numpy(), torch.linspace(1, 1.3, 10).numpy()
    assert stream_command.verdict([flat]).endswith('1.00, kept.')
    assert stream_command.verdict([flat, rising]).endswith('1.30, broken.')


def test_the_stages_of_a_video_are_summed_per_frame_and_memory_is_compared_with_the_second_tenth():
    costs = np.full((20, 3, 2), [[0.01, 0.02], [0.03, 0.06], [0.06, 0.12]])  # seconds and processor seconds
    lines = video_command.table_of_stages(costs).splitlines()
    assert [[cell.strip() for cell in line.strip('|').split('|')][1:] for line in lines[2:]] == [
        ['10.0', '10.0', '100.0', '50.0'], ['30.0', '30.0', '33.3', '16.7'], ['60.0', '60.0', '16.7', '8.3'],
        ['40.0', '40.0', '25.0', '12.5'], ['100.0', '100.0', '10.0', '5.0']]
    memory = np.array([0, 500, *[600] * 17, 620]) * 2**20
    assert '500 600 600 600 600 600 600 600 600 620' in video_command.describe_memory(memory)
    assert video_command.describe_memory(memory).endswith('20.0, kept.')
    memory[-1] += 2**20
    assert video_command.describe_memory(memory).endswith('21.0, broken.')


@pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')
def test_a_long_video_repeats_the_pictures_of_a_short_one(tmp_path):
    video_command.repeat_video(write_video(tmp_path / 'a.mp4', 4, rate=10), tmp_path / 'b.mp4', 1.2)
    with VideoReader(tmp_path / 'b.mp4') as reader:
        frames = [(round(start * 10), round(frame.to_ndarray(format='gray').mean() / 8))
                  for start, _, frame in reader.decoded()]
    assert frames == [(number, number % 4) for number in range(12)]

"""Exports of runs: the graphs give the rows of a stream, without torch."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from models.build import build_model
from prediction import load_run, stream
from tests.prediction.comparison import read_rows
from tests.prediction.conftest import STEP_HEAD, WIDTH, save, untrained
from tools import export, exported_run
from utils.errors import UserError
from utils.files import write_json

needs_packages = pytest.mark.skipif(not all(map(find_spec, exported_run.PACKAGES)),
                                    reason='needs requirements-export.txt')
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "\
                "runpy.run_path(sys.argv[0], run_name='__main__')"


def assert_close(row, expected):
    """A row of CSV and a row of a stream, equal to 1e-4, and to a millisecond in a thousand of seconds."""
    assert list(row) == list(expected)
    for name, value in row.items():
        if type(value) is float:
            assert value == pytest.approx(expected[name], rel=1e-4 if name.endswith('_s') else 0, abs=1e-4), name
        else:
            assert value == expected[name], name


@needs_packages
def test_the_example_gives_the_rows_of_the_stream_without_torch(tmp_path, capsys):
    # Standardized features, an encoder with a state, heads behind it, and frames that are skipped.
    run = untrained('--tstack', '--set', 'CAUSAL=true', '--set', 'SKIP_RATE=2', '--standardize_features', *STEP_HEAD)
    run.model.standardizer.fit([0.5 + 2 * torch.randn(30, WIDTH)])
    for known in run.model.progress_head.filters:
        # A reading of the frame, so that the graph has it; little, so that the shown step changes on noise.
        known.unsegmented.rule.copy_(torch.tensor([0.0, 0.0, 0.1]))
    folder, out = save(run, tmp_path / 'V1'), tmp_path / 'out'
    assert export.main([str(folder), str(out), '--task', 'tea']) == 0
    assert str(out / 'example.py') in capsys.readouterr().out
    features = np.random.default_rng(0).standard_normal((60, WIDTH)).astype(np.float32)
    np.save(tmp_path / 'features.npy', features)
    result = subprocess.run([sys.executable, '-c', WITHOUT_TORCH, str(out / 'example.py'),
                             str(tmp_path / 'features.npy'), '5'], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, '')
    rows = read_rows(result.stdout)
    expected = [row._asdict() for row in stream(load_run(folder, device='cpu'), features, 'tea', fps=5)]
    assert len(rows) == len(expected) == 30
    for pair in zip(rows, expected, strict=True):
        assert_close(*pair)
    assert len({row['step'] for row in rows}) > 1 and len({row['progress'] for row in rows}) > 10

    model = json.loads((out / 'model.json').read_text())
    assert model['tasks'] == ['tea'] and [graph['file'] for graph in model['graphs']] == [
        'encoder.onnx', 'filter.onnx']
    assert model['steps'] == ['boil', 'pour', 'background']
    assert model['calibration']['tea']['progress_margins'][1] == 0
    assert model['chosen'] == pytest.approx(run.head.chosen())
    for path in out.glob('*.onnx'):  # nothing of this machine
        assert path.stat().st_size < 10**6 and str(tmp_path).encode() not in path.read_bytes()
        assert b'site-packages' not in path.read_bytes()

    from safetensors import safe_open
    with safe_open(out / 'model.safetensors', 'pt') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a dict
        assert json.loads(file.metadata()['config'])['SKIP_RATE'] == 2
    again = build_model(run.config)
    again.load_state_dict(stored)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in run.model.state_dict().items())


@needs_packages
def test_an_export_is_replaced_only_if_asked_and_never_half(tmp_path, monkeypatch, capsys):
    run = untrained('--identity', '--set', 'ARCHITECTURE.MCN=false', *STEP_HEAD)
    run = save(run, tmp_path / 'V1')
    monkeypatch.setattr(exported_run, 'write_graph', lambda step, path: path.touch() or {'file': path.name})
    monkeypatch.setattr(exported_run, '_largest_difference', lambda step, path: 0.01)
    command = [str(run), str(tmp_path / 'out')]
    assert export.main(command) == 2
    assert 'filter.onnx: results of onnxruntime differ by 0.01, expected at most 0.0001' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['V1']
    monkeypatch.setattr(exported_run, '_largest_difference', lambda step, path: 1e-5)
    assert export.main(command) == 0
    files = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert files == ['example.py', 'filter.onnx', 'model.json', 'model.safetensors']  # the features are the embeddings
    (tmp_path / 'out/filter.onnx').write_text('old')
    assert export.main(command) == 2 and (tmp_path / 'out/filter.onnx').read_text() == 'old'
    assert export.main([*command, '--overwrite']) == 0 and (tmp_path / 'out/filter.onnx').read_text() == ''
    from safetensors import SafetensorError
    capsys.readouterr()
    for error in (OSError(28, 'No space left'), SafetensorError('No space left'), UserError(f'{tmp_path}/.out.7.new')):
        def refuse(*arguments, error=error):
            raise error
        monkeypatch.setattr(exported_run, '_write_weights', refuse)
        assert export.main([*command, '--overwrite']) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
        assert line.startswith(f'error: OUT {tmp_path}/out: cannot be written (No space left); free') or (
            line == f'error: {tmp_path}/out')
    assert sorted(path.name for path in tmp_path.rglob('*') if path.parent.name == 'out') == files


@pytest.mark.parametrize(('options', 'arguments', 'message'), [
    (('--naive',), (), 'no progress head that infers where actions start and end'),
    (('--tstack', *STEP_HEAD), (), 'looks 7 frames ahead'),
    (('--identity', *STEP_HEAD), ('--task', 'cook'), "--task 'cook': not a task of the run, expected one of tea, tyre"),
    (('--identity', *STEP_HEAD, '--condition_on_step'), (), '--task: not given'),
    (('--resnet50', *STEP_HEAD), (), 'frames (C, H, W) of unknown size')])
def test_what_cannot_be_exported_is_one_line(tmp_path, monkeypatch, capsys, options, arguments, message):
    monkeypatch.setattr(exported_run, 'PACKAGES', ())
    folder, out = save(untrained(*options), tmp_path / 'V1'), tmp_path / 'out'
    assert export.main([str(folder), str(out), *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and not out.exists()


def test_other_folders_and_missing_packages_are_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exported_run, 'PACKAGES', ())
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/notes.txt').write_text('mine')
    assert export.main([str(tmp_path / 'no_run'), str(tmp_path / 'mine'), '--overwrite']) == 2
    assert 'contains no model.json, so it is not an export' in capsys.readouterr().err
    write_json(tmp_path / 'mine/model.json', {})
    assert export.main([str(tmp_path / 'no_run'), str(tmp_path / 'mine')]) == 2
    assert '--overwrite replaces it' in capsys.readouterr().err
    monkeypatch.setattr(exported_run, 'PACKAGES', ('numpy', 'no_such_package'))
    assert export.main([str(tmp_path / 'no_run'), str(tmp_path / 'new')]) == 2
    assert 'the packages no_such_package are missing; run pip install -r requirements-export.txt' in (
        capsys.readouterr().err)
    assert (tmp_path / 'mine/notes.txt').read_text() == 'mine'

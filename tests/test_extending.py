"""A new setting, loss, encoder, head, metric, or format is a new file and one line elsewhere: in a copy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.launch import run_program

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('configs', 'evaluation', 'losses', 'models', 'prediction', 'recordings', 'tools', 'training', 'utils')
NEW_FILES = {
    'losses/spread.py': '''
def spread_loss(sequences, weight=1.0):
    return weight * sum(sequence.var() for sequence in sequences)
''',
    'models/encoders/linear.py': '''
import torch
from torch import nn
from models.encoders.base import DROP_LAYERS, Encoder, FrameWiseStream
from models.encoders.layers import split_like
class LinearEncoder(Encoder):
    def __init__(self, input_dimensions, output_dimensions=128, dropping=False, drop_layers=DROP_LAYERS):
        super().__init__(output_dimensions, input_dimensions, dropping=dropping, drop_layers=drop_layers)
        self.layer = nn.Linear(input_dimensions, output_dimensions)
    def embed(self, videos):
        return split_like(self.layer(torch.cat(list(videos))), videos)
    def stream(self):
        return FrameWiseStream(self.layer)
''',
    'models/heads/half.py': '''
import torch
from torch import nn
from models.heads.recurrent import ProgressHead
class HalfHead(ProgressHead):
    OPTIONS = ()
    def forward_dense(self, segments, contexts=None):
        return [0 * progress + 0.5 for progress in super().forward_dense(list(segments))]
''',
    'evaluation/speed.py': '''
def speed(train):
    return lambda test: {'frames': float(sum(map(len, test.embeddings)))}
''',
    'tools/lines.py': '''
from fractions import Fraction
from recordings.segment_list import SegmentList
from tools.import_format import ImportFormat
def read(arguments):
    label, start, end = arguments.source.read_text().split()
    return {'rec0': SegmentList(str(arguments.source), [label], [Fraction(start)], [Fraction(end)])}
FORMAT = ImportFormat('lines', 'a .lines file', lambda source: source.suffix == '.lines', read)
'''}
# File -> (line before which the new line is put, the new line).
NEW_LINES = [
    ('configs/settings.py', "        Setting('SKIP_RATE'",
     "        Setting('NEW_SETTING', 1, at_least(1), 'what it does', option('--new_setting')),"),
    ('configs/choices.py', "    'tcc': Loss(",
     "    'spread': Loss(('--spread',), 'spread', 'losses.spread:spread_loss', 'SPREAD_PARAMS', "
     "(Setting('weight', 1.0, at_least(0.0), 'weight'),)),"),
    ('configs/choices.py', "    'identity': EncoderChoice(",
     "    'linear': EncoderChoice(('--linear',), 'a layer', 'models.encoders.linear:LinearEncoder', 'LINEAR_ARCH', "
     '(FEATURE_DIM,)),'),
    ('configs/choices.py', "    'hsmm': HeadChoice(", "    'half': HeadChoice('half', 'models.heads.half:HalfHead'),"),
    ('evaluation/embedding_metrics.py', "    'ogpe': ", "    'speed': 'evaluation.speed:speed',"),
    ('tools/import_segments.py', "    'tools.table_import:FORMAT',", "    'tools.lines:FORMAT',"),
]


@pytest.fixture(scope='module')
def extended(tmp_path_factory):
    """A copy of the project with a dummy of each kind, and a dataset of four recordings."""
    root = tmp_path_factory.mktemp('extended')
    for folder in FOLDERS:
        # With the compiled modules, but not those that another process is writing.
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('*.pyc.*'))
    for program in ('multitask_train.py', 'eval.py'):
        shutil.copy(ROOT / program, root)
    for name, source in NEW_FILES.items():
        assert not (root / name).exists()
        (root / name).write_text(source)
    for name, before, line in NEW_LINES:
        text = (root / name).read_text()
        assert text.count(f'\n{before}') == 1, (name, before)
        (root / name).write_text(text.replace(f'\n{before}', f'\n{line}\n{before}'))
    write_dataset(root)
    return root


def write_dataset(root):
    handles = [f'rec{number}' for number in range(4)]
    (root / 'data/tiny/features').mkdir(parents=True)
    (root / 'dset_jsons').mkdir()
    for number, handle in enumerate(handles):
        features = np.random.default_rng(number).normal(size=(20, 3)).astype(np.float32)
        np.save(root / f'data/tiny/features/{handle}.npy', features)
    (root / 'dset_jsons/tiny.json').write_text(json.dumps({'tea': {
        'handles': handles, 'hdl_actions': [['pour', 'stir']] * 4, 'hdl_start_times': [[0, 9]] * 4,
        'hdl_end_times': [[9, 20]] * 4}}))
    splits = {'tea': {'train': handles[:2], 'val': [], 'test': handles[2:]}}
    (root / 'tiny.splits.json').write_text(json.dumps({'splits': splits}))


def run(root, *command):
    result = run_program(*command, cwd=root, pictures=False, DATASET_PATH='data', JSON_DPATH='dset_jsons',
                         OUTPUT_PATH='output')
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_a_new_setting_loss_encoder_head_and_metric_take_a_file_and_a_line(extended):
    run(extended, 'multitask_train.py', '1', '--dataset', 'tiny', '--splits', 'tiny.splits.json', '--spread',
        '--linear', '--progress', '--set', 'PROGRESS_LOSS.head=half', '--set',
        'SPREAD_PARAMS.weight=2', '--new_setting', '3',
        '--set', 'PROGRESS_LOSS.sampling=dense', '-ep', '1', '-od', '4')
    folder = extended / 'output/multi-task-setting/V1___spread_tiny'
    config = json.loads((folder / 'config.json').read_text())
    assert (config['NEW_SETTING'], config['SPREAD_PARAMS']['weight']) == (3, 2)
    run(extended, 'eval.py', '-f', str(folder))
    results = folder / 'EVAL/best_model_combined'
    assert (results / 'speed.csv').read_text().splitlines() == ['task,frames', 'tea,40.0', 'MEAN,40.0']
    header, row = [line.split(',') for line in (results / 'action_progress.csv').read_text().splitlines()[:2]]
    scores = dict(zip(header, row, strict=True))
    assert scores['mae'] == scores['baseline_constant']


def test_a_new_format_takes_a_file_and_a_line(extended):
    (extended / 'steps.lines').write_text('pour 0 20')
    run(extended, '-m', 'tools.import_segments', 'imported', 'steps.lines', '--features', 'data/tiny/features',
        '--layout', 'TD')
    assert json.loads((extended / 'dset_jsons/imported.json').read_text())['imported']['hdl_actions'] == [['pour']]

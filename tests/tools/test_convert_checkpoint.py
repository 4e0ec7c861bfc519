"""Converted checkpoints of the published GTCC code give the same outputs as the published networks."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from easydict import EasyDict
from torch import nn

import eval as eval_command
from models.build import build_model
from tools.convert_checkpoint import main
from tools.demo import DemoSettings, write_demo
from tools.published_checkpoint import configuration_of, read_published
from utils.ckpt_save import get_ckpt_for_eval, get_ckpt_MCN, load_checkpoint, load_encoder_weights
from utils.errors import UserError
from utils.run_folder import create_run_folder

WIDTH, E, HEADS = 8, 6, 3
RUN = 'old_run'


def perceptron(widths, activation):
    layers = []
    for into, out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(into, out), activation()]
    return layers[:-1]


class PublishedStacking(nn.Module):
    def __init__(self, dropping=False):
        super().__init__()
        channels = [WIDTH, 24, 12, *[E] * 5]
        layers = []
        for index, (into, out) in enumerate(zip(channels, channels[1:], strict=False)):
            layers += [nn.Conv1d(into, out, 3 if index else 2, padding='same', bias=False), nn.ReLU()]
        self.convolutional_layers = nn.Sequential(*layers[:-1])
        if dropping:
            self.dropout = nn.Sequential(*perceptron([E, 5, 7, E], nn.ReLU))  # one too small, as published

    def forward(self, videos):
        return [self.convolutional_layers(video.T[None])[0].T for video in videos]


class PublishedNaive(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_layers = nn.Sequential(*perceptron([WIDTH, 16, 10, E], nn.ReLU))

    def forward(self, videos):
        return [self.fc_layers(video) for video in videos]


class PublishedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_layers = nn.Sequential(*perceptron([E, 512, 128, 256, E], nn.ReLU))


class PublishedMultiProng(nn.Module):
    """Published network whose attention reads mixed frames: a view of (H, T, E), not a transpose."""

    def __init__(self, encoder):
        super().__init__()
        self.base_model = encoder()
        self.head_models = nn.ModuleList(PublishedHead() for _ in range(HEADS))
        self.attention_layer = nn.Sequential(*perceptron([HEADS * E, 20, 30, HEADS], nn.Tanh), nn.Softmax(dim=1))
        self.dropout = nn.Sequential(*perceptron([E, 9, 11, E + 1], nn.ReLU))

    def forward(self, videos):
        outputs = []
        for embedding in self.base_model(videos):
            heads = torch.stack([head.fc_layers(embedding) for head in self.head_models])
            attention = self.attention_layer(heads.view(len(embedding), HEADS * E))
            outputs.append(sum(attention[:, [head]] * heads[head] for head in range(HEADS)))
        return outputs


NETWORKS = {'stacking, heads': lambda: PublishedMultiProng(PublishedStacking),
            'naive, heads': lambda: PublishedMultiProng(PublishedNaive), 'stacking': PublishedStacking,
            'stacking, dropping': lambda: PublishedStacking(True), 'naive': PublishedNaive}


def published_config(**changes):
    return EasyDict({'DATASET_NAME': 'demo', 'SKIP_RATE': None, 'BATCH_SIZE': 2, 'LEARNING_RATE': 1e-4,
                     'LOSS_TYPE': {'GTCC': True, 'tcc': False, 'LAV': False, 'VAVA': False, 'unheard_of': False},
                     'GTCC_PARAMS': {'n_components': 5, 'gamma': 0.95, 'delta': 0.2}, 'TRAIN_SPLIT': [0.65, 1.0],
                     'BASEARCH': {'TEMPORAL_STACKING_ARCH': {'temporal_depth': 99}}, **changes})


def save(model, path, **changes):
    """Write a checkpoint as the published code does, its optimizer having taken a step."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)  # so that the output depends on the attention visibly
    optimizer = torch.optim.Adam(model.parameters())
    sum(weight.sum() for weight in model.parameters()).backward()
    optimizer.step()
    torch.save({'config': published_config(), 'epoch': 7, 'loss': torch.tensor(0.5),
                'model_state_dict': model.state_dict(), 'optimizer_state_dict': optimizer.state_dict(), **changes},
               path)
    return model.eval()


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('demo')
    return write_demo(root, 'demo', settings=DemoSettings(people=4, repetitions=1, width=WIDTH))


@pytest.fixture
def place(dataset, tmp_path, monkeypatch):
    """Change to an empty working directory, with environment variables set to the demo dataset."""
    monkeypatch.chdir(tmp_path)
    for variable, folder in dataset.items():
        monkeypatch.setenv(variable, str(folder))
    return tmp_path


def refusal(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and not Path(RUN).exists()
    return errors[0]


@pytest.mark.parametrize('network', NETWORKS)
def test_converted_network_matches_published_network(place, network):
    torch.manual_seed(1)
    old = save(NETWORKS[network](), place / 'best_model.pt')
    assert main(['best_model.pt', '--run', RUN]) == 0
    model, epoch, name = (get_ckpt_MCN(RUN, HEADS, 'cpu') if 'heads' in network else get_ckpt_for_eval(RUN, 'cpu'))
    assert (epoch, name) == (7, 'best_model')
    videos = [torch.randn(length, WIDTH) for length in (11, 1, 30)]
    with torch.no_grad():
        found, expected = model(videos)['outputs'], old(videos)
    for own, published in zip(found, expected, strict=True):
        torch.testing.assert_close(own, published, rtol=1e-5, atol=1e-5 * float(published.abs().max()))
    if 'heads' in network:
        model.legacy_attention_layout = False
        with torch.no_grad():
            assert (model(videos)['outputs'][0] - expected[0]).abs().max() > 1e-3 * expected[0].abs().max()
        assert model(videos)['outputs'][1].allclose(expected[1], rtol=1e-4)  # a lone frame cannot be mixed


def test_evaluation_reads_the_run_and_its_split(place, dataset, capsys):
    save(NETWORKS['stacking, heads'](), place / 'epoch-20.pt')
    save(NETWORKS['stacking, heads'](), place / 'epoch-9.pt')
    splits = dataset['JSON_DPATH'] / 'demo.splits.json'
    assert main(['epoch-20.pt', 'epoch-9.pt', '--run', RUN, '--splits', str(splits)]) == 0
    assert json.loads(Path(RUN, 'splits.json').read_text()) == json.loads(splits.read_text())
    config = json.loads(Path(RUN, 'config.json').read_text())
    assert config['GTCC_PARAMS']['n_components'] == 5 and config['SKIP_RATE'] == 1
    assert config['ARCHITECTURE']['drop_layers'] == [9, 11] and config['ARCHITECTURE']['attn_layers'] == [20, 30]
    assert eval_command.main(['-f', RUN]) == 0
    assert 'epoch-20.pt (epoch 7)' in capsys.readouterr().out and Path(RUN, 'EVAL/epoch-20/ogpe.csv').exists()


@pytest.mark.parametrize(('epoch', 'loss'), [(None, 'none'), (math.nan, torch.ones(2)), (10**400, torch.tensor(1j))])
def test_drawing_a_new_split_warns(place, capsys, epoch, loss):
    save(NETWORKS['naive'](), place / 'old.pt', epoch=epoch, loss=loss)
    assert main(['old.pt', '--run', RUN]) == 0
    assert 'the old run may have been trained on recordings that are now test recordings' in capsys.readouterr().err
    stored = load_checkpoint(Path(RUN, 'ckpt/best_model.pt'))
    assert stored['epoch'] == 0 and math.isnan(stored['loss'])


def test_weights_of_parallel_training_have_their_own_names(tmp_path):
    old = save(NETWORKS['stacking, heads'](), tmp_path / 'old.pt')
    save(nn.DataParallel(old), tmp_path / 'parallel.pt')
    assert set(read_published(tmp_path / 'parallel.pt').weights) == set(old.state_dict())


@pytest.mark.parametrize(('loss', 'epoch'), [
    (np.float64(0.25), np.int64(7)), (np.float32(0.25), np.int32(7)), (np.array(0.25), np.array([7]))])
def test_numbers_of_numpy_are_read(tmp_path, loss, epoch):
    save(NETWORKS['naive'](), tmp_path / 'old.pt', loss=loss, epoch=epoch)
    published = read_published(tmp_path / 'old.pt')
    assert (published.loss, published.epoch) == (0.25, 7)


def test_new_networks_never_have_the_layout(place, tmp_path):
    save(NETWORKS['stacking, heads'](), tmp_path / 'old.pt')
    config = configuration_of(read_published(tmp_path / 'old.pt'), 'old.pt')
    assert build_model(config).legacy_attention_layout
    del config.ARCHITECTURE['legacy_attention_layout']
    model = build_model(config)
    assert not model.legacy_attention_layout
    assert main(['old.pt', '--run', RUN]) == 0
    with pytest.raises(UserError, match='its attention, of the published code, reads frames mixed'):
        load_encoder_weights(model, RUN)


def test_frames_of_legacy_layout_are_not_independent(tmp_path):
    save(NETWORKS['stacking, heads'](), tmp_path / 'old.pt')
    model = build_model(configuration_of(read_published(tmp_path / 'old.pt'), 'old.pt'))
    with pytest.raises(ValueError, match='legacy_attention_layout is True'):
        model.refine(torch.randn(4, E))


class MakesFolder:
    def __reduce__(self):
        return Path.mkdir, (Path('run_by_the_checkpoint'),)


@pytest.mark.parametrize(('content', 'expected'), [
    ({'config': EasyDict(a=MakesFolder()), 'model_state_dict': {}}, 'refused, it asks for getattr, which could'),
    ({'config': EasyDict()}, 'no dict under model_state_dict'), ([1], 'no dict under config and model_state_dict'),
    ({'config': EasyDict(), 'model_state_dict': {'a': 1}}, 'contains values that are not tensors'),
    ({'config': EasyDict(), 'model_state_dict': {'a.weight': torch.ones(2)}}, 'its weights contain no encoder'),
    ({'config': EasyDict(), 'model_state_dict': {'base_model.convolutional_layers.0.weight': torch.ones(4, 4, 3, 3, 3),
                                                 'base_model.fc_layers.0.weight': torch.ones(4, 4)}},
     'an encoder of frames'),
    ({'config': EasyDict(), 'model_state_dict': {'base_model.convolutional_layers.0.weight': torch.ones(4, 4, 3)}},
     'its weights do not fit any published network')])
def test_other_checkpoints_are_refused_without_running_code(place, capsys, content, expected):
    torch.save(content, 'old.pt')
    assert expected in refusal(capsys, 'old.pt', '--run', RUN)
    assert not Path('run_by_the_checkpoint').exists()


def test_other_mistakes_end_in_one_line(place, capsys):
    save(NETWORKS['naive'](), place / 'old.pt')
    save(NETWORKS['naive'](), place / 'older.pt')
    save(NETWORKS['naive'](), place / 'stranger.pt', config=published_config(DATASET_NAME=None))
    save(NETWORKS['stacking'](), place / 'epoch-5.pt')
    assert 'cannot be' in refusal(capsys, 'old.pt', '--run', RUN, '--splits', 'nowhere.json')
    assert 'two would be best_model.pt' in refusal(capsys, 'old.pt', 'older.pt', '--run', RUN)
    assert 'its weights do not fit any' in refusal(capsys, 'old.pt', 'epoch-5.pt', '--run', RUN)
    assert '--dataset: not given, and the checkpoint stores no name' in refusal(capsys, 'stranger.pt', '--run', RUN)
    assert 'does not exist' in refusal(capsys, 'old.pt', '--run', RUN, '--dataset', 'nowhere')
    assert 'nowhere.pt: cannot be read' in refusal(capsys, 'nowhere.pt', '--run', RUN)
    create_run_folder(place / 'run', {}, {}, overwrite=False)
    save(NETWORKS['naive'](), place / 'run/old.pt')
    assert 'is in run, which --overwrite replaces' in refusal(capsys, 'run/old.pt', '--run', 'run', '--overwrite')
    assert (place / 'run/old.pt').exists()


def test_error_names_other_feature_dim(place, capsys, monkeypatch):
    save(NETWORKS['naive'](), place / 'old.pt')
    for variable, folder in write_demo(place, 'wide', settings=DemoSettings(people=4, repetitions=1, width=9)).items():
        monkeypatch.setenv(variable, str(folder))
    error = refusal(capsys, 'old.pt', '--run', RUN, '--dataset', 'wide')
    assert 'dataset wide: its files have 9 feature dimensions, but the network reads 8' in error

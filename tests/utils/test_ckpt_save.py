"""Checkpoints: contents, atomic writing, lookup, and refused files."""

import copy
import io
import logging
import math
import pathlib
import pickle
from pathlib import Path

import pytest
import torch

from models.build import build_model, fill_in_sizes
from utils.ckpt_save import (
    ckpt_save,
    find_checkpoint,
    get_ckpt_for_eval,
    get_ckpt_MCN,
    load_checkpoint,
    load_encoder_weights,
    load_model,
    to_plain,
    without_wrappers,
)
from utils.errors import UserError

WIDTH, HEADS = 3, 2


@pytest.fixture
def small_config(config):
    """Return the configuration of a minimal multi-head network with a progress head."""
    config.LOSS_TYPE.tcc = True
    config.BASEARCH.ARCHITECTURE = 'naive'
    config.BASEARCH.NAIVE_ARCH.layers = [4]
    config.OUTPUT_DIMENSIONALITY = 4
    config.ARCHITECTURE.update(MCN=True, attn_layers=[4], drop_layers=[4])
    config.PROGRESS_LOSS.update(enabled=True, hidden_dim=3)
    fill_in_sizes(config, WIDTH, HEADS)
    return config


def save(config, path, /, **changes):
    """Write a checkpoint of an untrained model of the configuration, and return the model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = build_model(config)
    arguments = {'model_t': model, 'optimizer_t': torch.optim.Adam(model.parameters()), 'epoch_t': 3, 'loss_t': 0.5,
                 'filename': path, 'config': config, **changes}
    ckpt_save(**arguments)
    return model


def assert_plain(value):
    """Check that a value consists of dicts, lists, numbers, strings and tensors only."""
    if isinstance(value, dict):
        assert type(value) is dict
        for part in value.values():
            assert_plain(part)
    elif isinstance(value, list):
        for part in value:
            assert_plain(part)
    else:
        assert value is None or type(value) in (bool, int, float, str, torch.Tensor), type(value)


def test_checkpoint_is_plain_and_complete(small_config, tmp_path):
    model = build_model(small_config)
    optimizer = torch.optim.Adam(model.parameters())
    sum(weight.sum() for weight in model.parameters()).backward()
    optimizer.step()
    ckpt_save(model, optimizer, 3, torch.tensor(0.25), str(tmp_path / 'epoch-3.pt'), small_config, best={'a': 1.0})
    content = torch.load(tmp_path / 'epoch-3.pt', weights_only=True)
    assert set(content) == {'config', 'epoch', 'loss', 'model_state_dict', 'optimizer_state_dict', 'best'}
    content.pop('optimizer_state_dict')['param_groups'][0].pop('betas')  # Adam's own tuple
    assert_plain(content)
    assert content['config'] == small_config and (content['epoch'], content['loss']) == (3, 0.25)
    for name, value in model.state_dict().items():
        assert torch.equal(content['model_state_dict'][name], value)


def test_configuration_is_converted_to_plain_types(small_config):
    small_config.TRAIN_SPLIT = (0.8, 0.1, 0.1)
    plain = to_plain(small_config)
    assert_plain(plain)
    assert plain['TRAIN_SPLIT'] == [0.8, 0.1, 0.1] and plain['ARCHITECTURE'] == small_config.ARCHITECTURE


def test_interrupted_write_keeps_the_old_checkpoint(small_config, tmp_path, monkeypatch):
    path = tmp_path / 'last.pt'
    save(small_config, path)
    before = path.read_bytes()

    def fill_the_disk(temporary, data):
        with temporary.open('wb') as file:
            file.write(bytes(data)[:100])
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patched, pytest.raises(UserError, match='last.pt: cannot be written .No space left'):
        patched.setattr(pathlib.Path, 'write_bytes', fill_the_disk)
        save(small_config, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['last.pt']


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_non_finite_model_is_not_saved(small_config, tmp_path, value):
    path = tmp_path / 'last.pt'
    save(small_config, path)
    before, model = path.read_bytes(), build_model(small_config)
    with torch.no_grad():
        model.progress_head.fc[0].bias[1] = value
    with pytest.raises(UserError, match='not saved, progress_head.fc.0.bias contains NaN or infinity after epoch 3'):
        save(small_config, path, model_t=model)
    assert path.read_bytes() == before


@pytest.mark.parametrize(('names', 'kind', 'found'), [
    (['best_model_combined', 'best_model_alignment', 'best_model', 'epoch-50'], 'combined', 'best_model_combined'),
    (['best_model_combined', 'best_model_alignment', 'best_model', 'epoch-50'], 'alignment', 'best_model_alignment'),
    (['best_model_alignment', 'best_model', 'epoch-50'], 'combined', 'best_model'),
    (['best_model_combined', 'best_model', 'epoch-50'], 'alignment', 'best_model'),
    (['best_model_alignment', 'epoch-4'], 'combined', 'epoch-4'),
    (['epoch-9', 'epoch-10'], 'combined', 'epoch-10'),
    (['epoch-9', 'epoch-10', 'epoch-50', 'epoch-5'], 'alignment', 'epoch-50'),
    (['epoch-9', 'epoch-best', 'epoch-99.old', 'last'], 'combined', 'epoch-9')])
@pytest.mark.parametrize('below', ['ckpt', ''])
def test_find_checkpoint_order(tmp_path, caplog, monkeypatch, names, kind, found, below):
    monkeypatch.setattr(logging.getLogger('progress'), 'propagate', True)
    (tmp_path / 'run' / 'ckpt').mkdir(parents=True)
    for name in names:
        (tmp_path / 'run' / 'ckpt' / f'{name}.pt').touch()
    with caplog.at_level(logging.WARNING, logger='progress'):
        path = find_checkpoint(str(tmp_path / 'run' / below), kind)
    assert path == tmp_path / 'run' / 'ckpt' / f'{found}.pt'
    fell_back = found != f'best_model_{kind}'
    assert (f'best_model_{kind}.pt is missing; falling back to {found}.pt' in caplog.text) == fell_back


@pytest.mark.parametrize('made', [[], [''], ['', 'ckpt']], ids=['no folder', 'empty folder', 'empty ckpt'])
def test_missing_checkpoint_raises(tmp_path, made):
    for name in made:
        (tmp_path / 'run' / name).mkdir()
    for load, *arguments in ((get_ckpt_MCN, HEADS, 'cpu'), (get_ckpt_for_eval, 'cpu')):
        with pytest.raises(FileNotFoundError, match='No checkpoints found in .*run'):
            load(tmp_path / 'run', *arguments)


def test_unknown_checkpoint_type_raises(tmp_path):
    with pytest.raises(ValueError, match="checkpoint_type is 'best', expected one of combined, alignment"):
        find_checkpoint(tmp_path, 'best')


@pytest.mark.parametrize('mcn', [True, False])
def test_loaded_model_gives_the_same_outputs_as_the_saved_model(small_config, tmp_path, mcn):
    small_config.ARCHITECTURE.MCN = mcn
    model = save(small_config, tmp_path / 'run/ckpt/best_model_combined.pt')
    save(small_config, tmp_path / 'run/ckpt/best_model_alignment.pt', epoch_t=8)
    loaded, epoch, name = (get_ckpt_MCN(tmp_path / 'run', HEADS, 'cpu') if mcn
                           else get_ckpt_for_eval(tmp_path / 'run/ckpt', 'cpu'))
    assert (epoch, name, loaded.training) == (3, 'best_model_combined', False)
    video = torch.randn(5, WIDTH)
    expected, found = model.eval()([video]), loaded([video])
    assert torch.equal(expected['outputs'][0], found['outputs'][0])
    assert torch.equal(expected['progress_head'](expected['outputs'][0]), found['progress_head'](found['outputs'][0]))
    other = get_ckpt_for_eval(tmp_path / 'run', torch.device('cpu'), checkpoint_type='alignment')
    assert other[1:] == (8, 'best_model_alignment')
    assert not torch.equal(expected['outputs'][0], other[0]([video])['outputs'][0])


@pytest.mark.parametrize(('stored', 'arguments', 'message'), [
    ({'num_heads': HEADS}, {'num_heads': 5}, 'a model of 2 heads, expected 5'),
    ({'MCN': False}, {}, 'a model without heads, expected 2; load it with get_ckpt_for_eval'),
    ({'MCN': True}, {'dropout': True}, 'a model without drop network, expected a drop network')])
def test_arguments_that_contradict_the_stored_configuration_raise(small_config, tmp_path, stored, arguments, message):
    small_config.ARCHITECTURE.update(stored)
    save(small_config, tmp_path / 'best_model_combined.pt')
    with pytest.raises(UserError, match=f'best_model_combined.pt: {message}'):
        get_ckpt_MCN(tmp_path, **{'num_heads': HEADS, 'device': 'cpu', **arguments})


def test_load_a_model_with_drop_network(small_config, tmp_path):
    small_config.LOSS_TYPE.update(tcc=False, GTCC=True)
    save(small_config, tmp_path / 'best_model_combined.pt')
    model, _, _ = get_ckpt_MCN(tmp_path, HEADS, 'cpu', dropout=True)
    assert 'dropouts' in model([torch.randn(5, WIDTH)])


@pytest.mark.parametrize('change', [lambda config: config.update(OUTPUT_DIMENSIONALITY=7),
                                    lambda config: config.PROGRESS_LOSS.update(enabled=False),
                                    lambda config: config.pop('ARCHITECTURE')])
def test_weights_that_do_not_fit_their_configuration_raise(small_config, tmp_path, change):
    wrong = copy.deepcopy(small_config)
    change(wrong)
    save(small_config, tmp_path / 'best_model_combined.pt', config=wrong)
    with pytest.raises(UserError, match='the weights do not fit the configuration stored with them') as caught:
        get_ckpt_for_eval(tmp_path, 'cpu')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('change', 'message'), [
    (lambda config: config.BASEARCH.update(ARCHITECTURE='unheard_of'), 'ARCHITECTURE is .unheard_of., expected'),
    (lambda config: config.update(EVAL_PLOTFOLDER='../elsewhere'), 'EVAL_PLOTFOLDER is .../elsewhere.'),
    (lambda config: config.update(EVAL_PLOTFOLDER='/elsewhere'), 'EVAL_PLOTFOLDER is'),
    (lambda config: config.update(SKIP_RATE=0), 'SKIP_RATE is 0'),
    (lambda config: config.update(SKIP_RATE='2'), "SKIP_RATE is '2'"),
    (lambda config: config.update(ARCHITECTURE=[1]), r'ARCHITECTURE is \[1\], expected a section with settings')])
def test_stored_settings_are_checked(small_config, tmp_path, change, message):
    wrong = copy.deepcopy(small_config)
    change(wrong)
    save(small_config, tmp_path / 'best_model_combined.pt', config=wrong)
    with pytest.raises(UserError, match=message) as caught:
        get_ckpt_for_eval(tmp_path, 'cpu')
    assert '\n' not in str(caught.value)


def test_stored_configuration_is_completed_and_keeps_unknown_keys(small_config, tmp_path):
    stored = {**small_config, 'ANOTHER': {'list': [1]}}
    for key in ('MAX_FRAMES', 'VAVA_PARAMS'):
        del stored[key]
    save(small_config, tmp_path / 'best_model_combined.pt', config=stored)
    config = load_checkpoint(tmp_path / 'best_model_combined.pt')['config']
    assert config == {**small_config, 'ANOTHER': {'list': [1]}}
    assert get_ckpt_for_eval(tmp_path, 'cpu')[1] == 3


@pytest.mark.parametrize(('key', 'value', 'found'), [
    ('config', [1], 'list'), ('config', 'text', 'str'), ('model_state_dict', torch.ones(2), 'Tensor'),
    ('optimizer_state_dict', None, 'NoneType'), ('epoch', 'last', 'str'), ('loss', {}, 'dict')])
def test_checkpoint_with_wrong_types_raises(small_config, tmp_path, key, value, found):
    path = tmp_path / 'last.pt'
    save(small_config, path)
    torch.save({**torch.load(path, weights_only=True), key: value}, path)
    with pytest.raises(UserError, match=f'last.pt: not a checkpoint of a run, {key} is a {found}, expected a'):
        load_checkpoint(path)


class MakesFolder:
    """An object that creates a folder when unpickled, as an example of code in a checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize('write', [lambda content, path: torch.save({'config': content}, path),
                                   lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))],
                         ids=['inside a checkpoint', 'bare pickle'])
def test_code_in_a_checkpoint_does_not_run(tmp_path, write):
    path, sign = tmp_path / 'best_model_combined.pt', tmp_path / 'run_by_the_checkpoint'
    write(MakesFolder(sign), path)
    with pytest.raises(UserError, match='best_model_combined.pt: refused, it ') as caught:
        get_ckpt_for_eval(tmp_path, 'cpu')
    assert not sign.exists() and 'weights_only' not in str(caught.value)  # torch advises loading without it
    pickle.loads(pickle.dumps(MakesFolder(sign)))
    assert sign.exists()  # plain pickle runs it


def as_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize('content', [
    b'', b'weights', b'{"a": 1}', b'PK\x03\x04junk', bytes(range(256)), b'\xf2abc', b'e\n', b'0', b'h\x07.', b'r\x01.',
    as_bytes(torch.ones(500))[:900], as_bytes([1, 2]), as_bytes(torch.ones(2)), as_bytes({'config': {}, 'epoch': 1})])
def test_file_that_is_not_a_checkpoint_raises_one_line(tmp_path, content):
    path = tmp_path / 'last.pt'
    path.write_bytes(content)
    with pytest.raises(UserError, match='last.pt: ') as caught:
        load_checkpoint(path)
    assert '\n' not in str(caught.value)


def test_error_names_missing_file_or_keys(tmp_path):
    with pytest.raises(UserError, match='nowhere.pt: cannot be read as a checkpoint'):
        load_checkpoint(tmp_path / 'nowhere.pt')
    torch.save({'config': {}, 'epoch': 1, 'loss': 0.0}, tmp_path / 'old.pt')
    with pytest.raises(UserError, match='not a checkpoint of a run, model_state_dict, optimizer_state_dict missing'):
        load_checkpoint(tmp_path / 'old.pt')


def causal(config):
    """Select a stacking encoder that sees no future frames."""
    config.BASEARCH.ARCHITECTURE, config.CAUSAL = 'temporal_stacking', True
    fill_in_sizes(config, WIDTH, HEADS)


@pytest.mark.parametrize('change', [lambda config: None, causal, lambda config: config.ARCHITECTURE.update(MCN=False),
                                    lambda config: config.LOSS_TYPE.update(tcc=False, GTCC=True)])
@pytest.mark.parametrize('run_has_head', [True, False])
def test_load_encoder_weights_loads_everything_except_the_head(small_config, tmp_path, monkeypatch, change,
                                                               run_has_head):
    change(small_config)
    of_run = copy.deepcopy(small_config)
    of_run.PROGRESS_LOSS.update(enabled=run_has_head, hidden_dim=9)  # its head has another shape
    save(of_run, tmp_path / 'run/ckpt/best_model_combined.pt')
    save(of_run, tmp_path / 'run/ckpt/last.pt')
    saved = save(of_run, tmp_path / 'run/ckpt/best_model_alignment.pt').state_dict()
    monkeypatch.chdir(tmp_path)
    model = build_model(small_config)
    head = copy.deepcopy(model.progress_head.state_dict())
    assert load_encoder_weights(model, 'run') == Path('run/ckpt/best_model_alignment.pt')
    for name, value in model.state_dict().items():
        part, _, rest = name.partition('.')
        assert torch.equal(value, head[rest] if part == 'progress_head' else saved[name])
    assert load_encoder_weights(build_model(small_config), tmp_path / 'run/ckpt').parent == tmp_path / 'run/ckpt'


@pytest.mark.parametrize(('change', 'message'), [
    (lambda config: config.update(OUTPUT_DIMENSIONALITY=5), 'has shape'),
    (lambda config: config.BASEARCH.NAIVE_ARCH.update(input_dimensions=7), 'has shape'),
    (lambda config: config.ARCHITECTURE.update(num_heads=3), 'only one of the two has head_models.2'),
    (lambda config: config.ARCHITECTURE.update(MCN=False), 'only one of the two has attention_layer'),
    (lambda config: config.LOSS_TYPE.update(tcc=False, GTCC=True), 'only one of the two has dropout'),
    (causal, 'only one of the two has base_model')])
@pytest.mark.parametrize('exchanged', [True, False])
def test_weights_of_another_network_raise(small_config, tmp_path, change, message, exchanged):
    other = copy.deepcopy(small_config)
    change(other)
    stored, asked = (other, small_config) if exchanged else (small_config, other)
    save(stored, tmp_path / 'best_model_alignment.pt')
    with pytest.raises(UserError, match='the weights of best_model_alignment.pt do not fit this network') as caught:
        load_encoder_weights(build_model(asked), tmp_path)
    assert message in str(caught.value) and '\n' not in str(caught.value)
    assert str(caught.value).startswith(f'{tmp_path}: ')


@pytest.mark.parametrize('stored', [True, False, None])
def test_weights_of_a_centered_encoder_do_not_fit_a_causal_encoder(small_config, tmp_path, stored):
    causal(small_config)
    of_run = copy.deepcopy(small_config)
    of_run.CAUSAL = bool(stored)
    save(of_run, tmp_path / 'best_model_alignment.pt')
    if stored is None:  # a run older than the setting
        content = torch.load(tmp_path / 'best_model_alignment.pt', weights_only=True)
        del content['config']['CAUSAL']
        torch.save(content, tmp_path / 'best_model_alignment.pt')
    for asked in (True, False):
        small_config.CAUSAL = asked
        if asked == bool(stored):
            load_encoder_weights(build_model(small_config), tmp_path)
            continue
        with pytest.raises(UserError, match=rf'do not fit this network \(CAUSAL is {bool(stored)} there\)'):
            load_encoder_weights(build_model(small_config), tmp_path)


def test_causal_is_ignored_for_an_encoder_of_single_frames(small_config, tmp_path):
    save(small_config, tmp_path / 'best_model_alignment.pt')
    small_config.CAUSAL = True
    load_encoder_weights(build_model(small_config), tmp_path)


@pytest.mark.parametrize(('run', 'message'), [
    ('nowhere', 'No checkpoints found in .*nowhere'), ('empty', 'No checkpoints found in .*empty/ckpt'),
    ('empty/notes.txt', 'No checkpoints found in .*notes.txt'), ('damaged', 'best_model_alignment.pt: cannot be read')])
def test_load_encoder_weights_without_checkpoint_raises(small_config, tmp_path, run, message):
    (tmp_path / 'empty/ckpt').mkdir(parents=True)
    (tmp_path / 'empty/notes.txt').touch()
    (tmp_path / 'damaged').mkdir()
    (tmp_path / 'damaged/best_model_alignment.pt').write_bytes(b'')
    with pytest.raises(UserError, match=message) as caught:
        load_encoder_weights(build_model(small_config), tmp_path / run)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('name', 'expected'), [
    ('module.base_model.fc_layers.0.weight', 'base_model.fc_layers.0.weight'), ('_orig_mod.a.b', 'a.b'),
    ('module._orig_mod.a.module.b', 'a.b'), ('base_model._orig_mod.fc.0.bias', 'base_model.fc.0.bias'),
    ('a.modules.b', 'a.modules.b')])
def test_names_of_wrapped_models(name, expected):
    assert without_wrappers(name) == expected


def test_checkpoint_of_a_wrapped_model_is_loaded(small_config, tmp_path):
    path = tmp_path / 'last.pt'
    save(small_config, path)
    content = torch.load(path, weights_only=True)
    weights = content['model_state_dict']
    wrapped = {name.replace('base_model.', 'module.base_model._orig_mod.'): value for name, value in weights.items()}
    torch.save({**content, 'model_state_dict': wrapped}, path)
    model, *_ = load_model(path)
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())

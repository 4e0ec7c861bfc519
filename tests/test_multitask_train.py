"""Training that starts from the encoder of another run, and training of the progress head alone."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest

import multitask_train
from configs.generic_config import apply_settings
from recordings.feature_info import FeatureInfo, read_feature_info, write_feature_info
from tools.demo import DemoSettings, write_demo
from training.resume import depends_on_epochs
from utils.ckpt_save import find_checkpoint, load_checkpoint

RUNS = 'output/multi-task-setting'
SMALL = ['--dataset', 'tiny', '-od', '4', '-lr', '1e-3', '--splits', 'dset_jsons/tiny.splits.json', *(
    option for key in ('ARCHITECTURE.attn_layers=[4]', 'ARCHITECTURE.drop_layers=[4]',
                       'BASEARCH.TEMPORAL_STACKING_ARCH.conv_num_channels=4') for option in ('--set', key))]
FROZEN = ['--tcc', '--tstack', '--mcn', '--progress', '--freeze_encoder', '--init_from', f'{RUNS}/V1___tcc_tiny',
          '-ep', '3']
pytestmark = pytest.mark.usefixtures('blank_pictures')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """One task of a tiny demo dataset, and a run of two epochs of alignment alone: V1___tcc_tiny."""
    root = tmp_path_factory.mktemp('tiny')
    variables = write_demo(root, 'tiny', settings=DemoSettings(people=4, repetitions=1, width=6))
    annotations = json.loads((root / 'dset_jsons/tiny.json').read_text())
    (root / 'dset_jsons/tiny.json').write_text(json.dumps({'make_tea': annotations['make_tea']}))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        for variable, path in variables.items():
            patched.setenv(variable, str(path))
        assert multitask_train.main(['1', *SMALL, '--tcc', '--tstack', '--mcn', '-ep', '2']) == 0
    return root


@pytest.fixture
def tiny(written, tmp_path, monkeypatch):
    """A copy of dataset and run, with the environment set to it, as the working directory."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for variable, folder in (('DATASET_PATH', 'data'), ('JSON_DPATH', 'dset_jsons'), ('OUTPUT_PATH', 'output')):
        monkeypatch.setenv(variable, folder)
    return tmp_path


def same(one, other):
    """Names of the weights that two checkpoints share bit for bit."""
    one, other = one['model_state_dict'], other['model_state_dict']
    return {name for name in one if name in other and one[name].equal(other[name])}


def without_seconds(checkpoint):
    return [{**row, 'seconds': 0} for row in checkpoint['history']]


def test_only_the_head_of_a_frozen_run_changes_and_it_keeps_what_its_features_were_made_with(tiny):
    info = FeatureInfo('net', '1', Fraction(4), 224, 'features', (6,))
    write_feature_info(tiny / 'data/tiny/features', info)
    assert multitask_train.main(['2', *SMALL, *FROZEN]) == 0
    assert read_feature_info(tiny / RUNS / 'V2___tcc_tiny') == info
    assert read_feature_info(tiny / RUNS / 'V1___tcc_tiny') is None
    start = load_checkpoint(find_checkpoint(f'{RUNS}/V1___tcc_tiny', 'alignment'))
    first, last = (load_checkpoint(f'{RUNS}/V2___tcc_tiny/ckpt/{name}.pt') for name in ('epoch-1', 'last'))
    assert same(start, first) == same(start, last) == same(first, last) == set(start['model_state_dict'])
    assert {name.split('.')[0] for name in set(last['model_state_dict']) - same(first, last)} == {'progress_head'}
    assert len({row['val_alignment'] for row in last['history']}) == 1
    assert last['history'][2]['val_progress'] != last['history'][0]['val_progress']


def test_a_resumed_frozen_run_ends_like_an_uninterrupted_one(tiny, monkeypatch):
    assert multitask_train.main(['2', *SMALL, *FROZEN]) == 0
    whole = load_checkpoint(f'{RUNS}/V2___tcc_tiny/ckpt/last.pt')
    (tiny / RUNS / 'V2___tcc_tiny').rename(tiny / 'whole')
    calls = []

    def stop_in_second_epoch(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    with monkeypatch.context() as patched:
        patched.setattr('models.alignment_training_loop._write_history', stop_in_second_epoch)
        assert multitask_train.main(['2', *SMALL, *FROZEN]) == 130
    assert load_checkpoint(f'{RUNS}/V2___tcc_tiny/ckpt/last.pt')['epoch'] == 2
    shutil.rmtree(tiny / RUNS / 'V1___tcc_tiny')  # the start is not needed any more
    options = [option for option in SMALL if option not in ('--splits', 'dset_jsons/tiny.splits.json')]
    assert multitask_train.main(['2', *options, *FROZEN, '--resume']) == 0
    resumed = load_checkpoint(f'{RUNS}/V2___tcc_tiny/ckpt/last.pt')
    assert same(whole, resumed) == set(whole['model_state_dict']) == set(resumed['model_state_dict'])
    assert without_seconds(whole) == without_seconds(resumed) and len(resumed['history']) == 3


def test_groups_by_a_regular_expression_stay_together_and_are_stored_with_the_run(tiny, capsys):
    options = [option for option in SMALL if option not in ('--splits', 'dset_jsons/tiny.splits.json')]
    command = ['3', *options, '--tcc', '--tstack', '-ep', '1', '--set', 'SKIP_RATE=4']
    for pattern, expected in (('^(q', 'a regular expression with a group'), ('^p', 'a regular expression with a group'),
                              ('^(q)', "GROUP_REGEX ^(q): finds no group in 'p00_make_tea_1'")):
        assert multitask_train.main([*command, '--group_regex', pattern]) == 2
        assert expected in capsys.readouterr().err
    assert multitask_train.main([*command, '--group_regex', '^p0?([0-9])']) == 0
    kept = json.loads((tiny / RUNS / 'V3___tcc_tiny/splits.json').read_text())
    assert kept['groups'] == {f'p{person:02d}_make_tea_1': str(person) for person in range(4)}
    assert multitask_train.main([*command, '--group_regex', '^p0?([0-9])', '--resume']) == 0
    assert json.loads((tiny / RUNS / 'V3___tcc_tiny/splits.json').read_text()) == kept


@pytest.mark.parametrize(('options', 'expected'), [
    (['--tcc', '--tstack', '--mcn', '--init_from', 'nowhere'], '--init_from nowhere: No checkpoints found in nowhere'),
    (['--tcc', '--tstack', '--mcn', '--init_from', f'{RUNS}/V2___tcc_tiny/ckpt', '--overwrite'],
     'V2___tcc_tiny, which --overwrite replaces'),
    (['--tcc', '--tstack', '--mcn', '--init_from', 'data'], '--init_from data: No checkpoints found in data'),
    (['--tcc', '--tstack', '--mcn', '-od', '5'], 'has shape'),
    (['--tcc', '--tstack', '--mcn', '--set', 'CAUSAL=true'], 'CAUSAL is False there'),
    (['--tcc', '--tstack'], 'only one of the two has attention_layer'),
    (['--gtcc', '--tstack', '--mcn'], 'only one of the two has dropout'),
    (['--tcc', '--naive', '--mcn'], 'only one of the two has base_model'),
    (['--tcc', '--identity', '--mcn'], 'only one of the two has base_model'),
    (['--tcc', '--tstack', '--mcn', '--freeze_encoder'], 'nothing is left to train; set PROGRESS_LOSS.enabled'),
    (['--tcc', '--identity'], 'nothing is left to train; set ARCHITECTURE.MCN (--mcn) or')])
def test_a_start_that_does_not_fit_ends_in_one_line_before_there_is_a_run_folder(tiny, capsys, options, expected):
    start = [] if '--init_from' in options else ['--init_from', f'{RUNS}/V1___tcc_tiny']
    assert multitask_train.main(['2', *SMALL, *start, *options, '-ep', '1']) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert expected in errors[-1] and [line for line in errors if line.startswith('error: ')] == errors[-1:]
    assert [path.name for path in (tiny / RUNS).iterdir()] == ['V1___tcc_tiny']


def test_amp_rounds_in_training_alone_and_repeats_its_numbers(tiny):
    options = ['--gtcc', '--tstack', '--mcn', '--progress', '-ep', '2']
    for version, amp in (('2', ['--amp']), ('3', ['--amp']), ('4', [])):
        assert multitask_train.main([version, *SMALL, *options, *amp]) == 0
    rounded, again, exact = (load_checkpoint(f'{RUNS}/V{version}___GTCC_tiny/ckpt/last.pt') for version in '234')
    logs = [(tiny / RUNS / f'V{version}___GTCC_tiny/train.log').read_text() for version in '234']
    assert [', in bf16' in log for log in logs] == [True, True, False]
    assert without_seconds(rounded) == without_seconds(again)
    assert same(rounded, again) == set(rounded['model_state_dict'])
    assert [run['config']['AMP'] for run in (rounded, exact)] == [True, False]
    one, other = (run['history'][0] for run in (rounded, exact))  # by the second epoch so small a network has diverged
    assert one['train_alignment'] != other['train_alignment']
    assert one['val_total'] == pytest.approx(other['val_total'], rel=0.05)


def test_standardized_features_do_not_depend_on_their_scale_and_are_stored_with_the_run(tiny, capsys):
    options = [*SMALL, '--tcc', '--tstack', '-ep', '1', '--standardize_features']
    assert multitask_train.main(['5', *options]) == 0
    trained = json.loads((tiny / 'dset_jsons/tiny.splits.json').read_text())['splits']['make_tea']['train']
    files = {path.stem: path for path in (tiny / 'data/tiny/features').glob('*.npy')}
    frames = np.concatenate([np.load(files[handle]) for handle in trained]).astype(float)
    first = load_checkpoint(f'{RUNS}/V5___tcc_tiny/ckpt/last.pt')
    stored = first['model_state_dict']
    np.testing.assert_allclose(stored['standardizer.mean'], frames.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stored['standardizer.std'], frames.std(axis=0), rtol=1e-4)
    for path in files.values():
        np.save(path, np.load(path) * np.float32(2**20))
    assert multitask_train.main(['6', *options]) == 0
    second = load_checkpoint(f'{RUNS}/V6___tcc_tiny/ckpt/last.pt')
    assert second['history'][0]['val_total'] == pytest.approx(first['history'][0]['val_total'], rel=1e-5)
    assert multitask_train.main(['7', '--dataset', 'tiny', '--tcc', '--resnet50', '--standardize_features']) == 2
    assert 'resnet50 reads frames, which are not standardized' in capsys.readouterr().err


def test_a_finished_run_goes_on_for_more_epochs_as_if_it_had_never_ended(tiny, capsys):
    options = [*SMALL, '--tcc', '--tstack', '--set', 'TENSORBOARD=false']
    assert multitask_train.main(['8', *options, '-ep', '3']) == 0
    whole = load_checkpoint(f'{RUNS}/V8___tcc_tiny/ckpt/last.pt')
    assert multitask_train.main(['9', *options, '-ep', '1']) == 0
    assert multitask_train.main(['9', *options, '-ep', '3', '--resume']) == 0
    extended = load_checkpoint(f'{RUNS}/V9___tcc_tiny/ckpt/last.pt')
    assert without_seconds(extended) == without_seconds(whole)
    assert same(extended, whole) == set(whole['model_state_dict'])
    assert json.loads((tiny / RUNS / 'V9___tcc_tiny/config.json').read_text())['NUM_EPOCHS'] == 3
    capsys.readouterr()
    assert multitask_train.main(['9', *options, '-ep', '2', '--resume']) == 2
    assert 'NUM_EPOCHS is 2, but' in capsys.readouterr().err


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'LOSS_TYPE.tcc': True}, None), ({'LOSS_TYPE.LAV': True}, None),
    ({'LOSS_TYPE.GTCC': True, 'GTCC_PARAMS.gamma': 1.0}, None), ({'LOSS_TYPE.GTCC': True}, 'GTCC_PARAMS.gamma'),
    ({'LOSS_TYPE.VAVA': True}, 'VAVA'), ({'LEARNING_RATE_SCHEDULE': 'cosine'}, 'LEARNING_RATE_SCHEDULE'),
    ({'PROGRESS_LOSS.enabled': True, 'PROGRESS_LOSS.lambda_curriculum.enabled': True}, 'lambda_curriculum'),
    ({'PROGRESS_LOSS.lambda_curriculum.enabled': True}, None)])
def test_what_depends_on_the_number_of_epochs(config, changes, reason):
    apply_settings(config, changes)
    found = depends_on_epochs(config)
    assert found is None if reason is None else reason in found

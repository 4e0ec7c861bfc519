"""A run's folder: made, found, and never replaced unasked."""

import json

import pytest

from utils.errors import UserError
from utils.run_folder import (
    RunFolder,
    check_run_folder,
    create_run_folder,
    open_run_folder,
    read_json,
    write_run_settings,
)


def make_run(path):
    folder = create_run_folder(path, overwrite=False)
    write_run_settings(folder, {'SEED': 3}, {'task': {'train': ['a'], 'val': [], 'test': ['b']}})
    return folder


def test_a_new_folder_holds_settings_and_an_empty_ckpt(tmp_path):
    folder = make_run(tmp_path / 'multi-task-setting/V1___tcc_demo')
    assert {path.name for path in folder.path.iterdir()} == {'ckpt', 'config.json', 'splits.json'}
    assert not list(folder.checkpoints.iterdir())
    assert read_json(folder.config) == {'SEED': 3}
    assert json.loads(folder.splits.read_text()) == {'splits': {'task': {'train': ['a'], 'val': [], 'test': ['b']}}}
    assert (folder.losses.name, folder.log.name) == ('losses.csv', 'train.log')


def test_a_run_is_replaced_only_with_overwrite(tmp_path):
    folder = make_run(tmp_path / 'run')
    (folder.checkpoints / 'last.pt').write_text('weights')
    with pytest.raises(UserError, match='run: this run exists; --overwrite replaces it, or give another VERSION'):
        create_run_folder(folder.path, overwrite=False)
    assert (folder.checkpoints / 'last.pt').read_text() == 'weights'
    assert create_run_folder(folder.path, overwrite=True) == RunFolder(folder.path)
    assert [path.name for path in folder.path.rglob('*')] == ['ckpt']


@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_what_is_no_run_is_never_removed(tmp_path, kind):
    path = tmp_path / 'thesis'
    kept = path / 'chapter.txt' if kind == 'folder' else path
    kept.parent.mkdir(exist_ok=True)
    kept.write_text('years of work')
    with pytest.raises(UserError, match='holds no config.json, so it is no run; move it away'):
        create_run_folder(path, overwrite=True)
    assert kept.read_text() == 'years of work'


def test_checking_writes_nothing(tmp_path):
    check_run_folder(tmp_path / 'run', overwrite=False)
    assert not (tmp_path / 'run').exists()
    check_run_folder(tmp_path, overwrite=True)  # an empty folder may be taken


def test_a_folder_that_cannot_be_made_names_the_variable(tmp_path):
    (tmp_path / 'output').write_text('a file')
    with pytest.raises(UserError, match='OUTPUT_PATH: .* cannot be made'):
        create_run_folder(tmp_path / 'output/run', overwrite=False)


def test_opening_wants_a_run_with_checkpoints(tmp_path):
    folder = make_run(tmp_path / 'run')
    assert open_run_folder(folder.path) == folder
    (tmp_path / 'other').mkdir()
    for name, message in (('other', 'holds no ckpt/'), ('nowhere', 'no such folder')):
        with pytest.raises(UserError, match=f'-f .*{name}: {message}'):
            open_run_folder(tmp_path / name)


@pytest.mark.parametrize(('content', 'message'), [(None, 'missing from the run folder'), (b'{"a": ', 'cannot be read'),
                                                  (b'\xff\xfe', 'cannot be read')])
def test_damaged_settings_are_a_users_mistake(tmp_path, content, message):
    if content is not None:
        (tmp_path / 'splits.json').write_bytes(content)
    with pytest.raises(UserError, match=f'splits.json: {message}'):
        read_json(tmp_path / 'splits.json')

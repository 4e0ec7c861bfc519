"""Addresses of classes in the tables of choices: mistakes end in one line that names the entry."""

import sys

import pytest

from configs.choices import HEADS, HeadChoice
from configs.generic_config import CONFIG
from models.build import head_class
from models.heads.recurrent import ProgressHead
from utils.addresses import resolve
from utils.errors import UserError


def test_an_address_is_the_object():
    assert resolve('models.heads.recurrent:ProgressHead', 'HEADS') is ProgressHead


@pytest.mark.parametrize(('address', 'message'), [
    ('models.heads.recurrent:ProgresHead', "HEADS['own']: 'models.heads.recurrent:ProgresHead': models.heads.recurrent "
     "has no ProgresHead, expected the address of a class or function, 'module:name', perhaps ProgressHead; fix"),
    ('models.heads.recurent:ProgressHead', 'there is no module models.heads.recurent, expected the address'),
    ('model.heads.recurrent:ProgressHead', 'there is no module model, expected the address'),
    ('models.heads.recurrent', 'models.heads.recurrent has no name after a colon, expected'),
    ('models.heads.recurrent:torch', "'models.heads.recurrent:torch' is not a progress head, expected a subclass of"),
    ('models.heads.base:ProgressHeadBase', 'does not implement forward, forward_dense, step, expected')])
def test_a_mistake_in_the_entry_of_a_head_is_one_line(monkeypatch, config, address, message):
    monkeypatch.setitem(HEADS, 'own', HeadChoice('own', address))
    config.PROGRESS_LOSS.head = 'own'
    with pytest.raises(UserError) as caught:
        head_class(config)
    assert message in str(caught.value) and str(caught.value).startswith("configs/choices.py: HEADS['own']: ")
    assert CONFIG.PROGRESS_LOSS.head != 'own'


def test_what_a_module_itself_lacks_is_its_own_error(tmp_path, monkeypatch):
    (tmp_path / 'of_the_user.py').write_text('import a_package_that_is_not_installed\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match='a_package_that_is_not_installed'):
        resolve('of_the_user:Head', 'HEADS')
    assert 'of_the_user' not in sys.modules

"""Checks of text from JSON."""

import json

import pytest

from utils.errors import UserError
from utils.files import is_writable, unique_keys


def test_unpaired_surrogates_are_not_writable():
    assert all(map(is_writable, ('', 'tea', 'ü', '日本', '\U0001f375')))
    assert not is_writable('tea \ud800')


def test_repeated_key_is_a_user_error():
    hook = unique_keys('--config a.json')
    assert json.loads('{"A": {"b": 1}, "b": 2}', object_pairs_hook=hook) == {'A': {'b': 1}, 'b': 2}
    with pytest.raises(UserError, match=r"--config a.json: 'b' stands twice in one object; expected once"):
        json.loads('{"A": {"b": 1, "b": 2}}', object_pairs_hook=hook)

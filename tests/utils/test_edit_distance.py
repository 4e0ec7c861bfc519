"""Edit distance of two sequences."""
import numpy as np
import pytest

from utils.edit_distance import levenshtein


@pytest.mark.parametrize(('first', 'second', 'distance'), [
    ('', '', 0), ('abc', '', 3), ('', 'ab', 2), ('kitten', 'sitting', 3), ('abcabc', 'bcab', 2), ('aaaa', 'a', 3)])
def test_levenshtein_by_hand(first, second, distance):
    assert levenshtein(np.array(list(first), dtype=str), np.array(list(second), dtype=str)) == distance

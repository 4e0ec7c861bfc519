"""Background labels in other spellings, and labels that look like background."""

import pytest

from recordings.annotations import TaskAnnotations
from recordings.background import background_names, look_alike_note, look_alikes, spell_background
from utils.errors import UserError

BACKGROUND = ['0', 'SIL', 'background']


def test_case_does_not_matter():
    assert background_names(['Background', 'sil', 'SIL', 'pour', '0', 'BACKGROUNDS'], BACKGROUND) == {
        'Background': 'background', 'sil': 'SIL'}
    annotated = TaskAnnotations('t', ['a', 'b'], [['Sil', 'pour'], ['BACKGROUND']], [[0, 2], [0]], [[2, 5], [3]])
    spelled = spell_background({'t': annotated}, BACKGROUND)
    assert spelled['t'].actions == [['SIL', 'pour'], ['background']] and spelled['t'].ends is annotated.ends
    assert spell_background({'t': annotated}, ['0'])['t'] is annotated


def test_an_action_cannot_be_called_background():
    """Predictions, tables, and pictures call frames outside of actions so: its frames would be lost among them."""
    annotated = {'tea': TaskAnnotations('tea', ['a'], [['pour']], [[0]], [[2]]),
                 'pie': TaskAnnotations('pie', ['b'], [['0', 'background']], [[0, 2]], [[2, 5]])}
    with pytest.raises(UserError, match=r"task pie: the label 'background' .* BACKGROUND_LABELS \(0, SIL\), or rename"):
        spell_background(annotated, ['0', 'SIL'])
    assert spell_background(annotated, ['0', 'Background'])['pie'].actions == [['0', 'Background']]


@pytest.mark.parametrize('label', ['BG', 'bg', 'None', 'no_action', 'No-Action', 'idle', '-100', '-1', '0.0', '00',
                                   'NaN', '255', 'N/A', '<background>', 'background class', 'silence', '-1.0',
                                   'BG_class', 'Background_2', 'not_labeled', 'None of the above', 'waiting', '<unk>'])
def test_labels_that_look_like_background(label):
    assert look_alikes([label, 'pour'], BACKGROUND) == [label]
    assert look_alikes([label], [*BACKGROUND, label.swapcase()]) == []


@pytest.mark.parametrize('label', ['pour', '1', '100', '-2', 'SIL', 'Background', 'take background away', 'inf', '0x',
                                   'not pouring', 'rest spoon', 'no salt'])
def test_labels_that_do_not(label):
    assert look_alikes([label], BACKGROUND) == []


def test_the_note_names_the_labels_and_the_option():
    assert look_alike_note(['pour', 'BG', 'idle'], BACKGROUND, 'name them') == (
        "'BG', 'idle' may mean background, but count as an action; if so, name them")
    assert look_alike_note(['pour'], BACKGROUND, '') is None

"""Label files that contain more than one label per frame."""

from pathlib import Path

import pytest

from tools.label_columns import one_column
from utils.errors import UserError

LABELS = ['prep', 'prep', 'cut', 'cut', 'sew it']


@pytest.mark.parametrize('lines', [
    LABELS, ['Phase', *LABELS], ['label', *LABELS],
    ['Frame\tPhase', *(f'{number}\t{label}' for number, label in enumerate(LABELS))],
    [f'{number},{label}' for number, label in enumerate(LABELS, 1)],
    [f'{25 * number} {label}' for number, label in enumerate(LABELS)],
    ['frame_id,phase_name', *(f'{number},{label}' for number, label in enumerate(LABELS))],
    ['phase;frame', *(f'{label}; {number}' for number, label in enumerate(LABELS))],
    ['# labels', *LABELS], ['phase_name', *LABELS], ['Action Label', *LABELS],
    ['label', *(f'"{label}"' for label in LABELS)],
    [f"'{label}'" for label in LABELS], [f'{label},' for label in LABELS]])
def test_labels_are_found(lines):
    assert one_column(Path('a.txt'), lines, None) == LABELS


@pytest.mark.parametrize('lines', [
    ['pour 1', 'pour 1', 'pour 2'], ['action', 'stir', 'action'], ['1', '2', '2', '3'], ['step 1', 'step 2', 'step 2'],
    ['class 7'], ['take a', 'take b', 'put c', 'put d', 'put e'],
    ['"a" b', 'c "d"', 'e'], ['#1', '#2', '#2'], ['0', '1', '2', '3'], ['take cup', 'take cup', 'pour milk']])
def test_labels_that_only_look_like_columns_stay(lines):
    assert one_column(Path('a.txt'), lines, None) == lines


def test_labels_of_the_mapping_stay():
    assert one_column(Path('a.txt'), ['phase', '1 cut', '2 sew'], {'phase', '1 cut', '2 sew'}) == [
        'phase', '1 cut', '2 sew']


@pytest.mark.parametrize(('lines', 'message'), [
    (['1-30 SIL', '31-90 pour', '91-300 stir'], 'a range of'), (['31 187 G1', '188 290 G2'], 'a range of frames'),
    (['0,30,SIL', '30,90,pour'], 'a range of frames'), (['start end label', '0 30 SIL', '30 90 pour'], 'a range of'),
    (['1..30: SIL', '31..90: pour'], 'a range of frames'), (['SIL 0 10', 'pour 10 20'], 'a range of frames'),
    (['0.0-1.0 SIL', '1.0-2.5 pour'], 'a range of frames'), (['[0, 10] SIL', '[10,20] pour'], 'a range of frames'),
    (['00:00:00 SIL', '00:00:01 SIL', '00:00:02 SIL', '00:00:03 pour', '00:00:04 pour'], 'a label and a time'),
    ([f'img_{number:03}.jpg {"ab"[number > 4]}' for number in range(9)], 'a name such as that of a picture'),
    (['pour 1.0', 'pour 1.0', 'stir 1.0'], 'a score or a time'), (['["pour", "pour"]'], 'a list'),
    (["['pour',", "'stir']"], 'a list'), (['0 - 29 SIL', '30 - 49 pour'], 'a range of frames'),
    (['pour 0.93', 'pour 0.87', 'stir 0.55', 'stir 0.91'], 'a score or a time'),
    (['0.04\tpour', '0.08\tpour', '0.12\tstir'], 'a score or a time'),
    (['label,score', 'pour,0.9', 'pour,0.8', 'stir,0.7'], 'a score or a time')])
def test_other_content_is_named(lines, message):
    with pytest.raises(UserError, match=f'a.txt: line 1 is .*{message}.*expected one label per frame'):
        one_column(Path('a.txt'), lines, None)


def test_lines_that_are_all_different_are_refused():
    for form in ('video01_{:06d}.png 3', '{:06d}7 prep'):
        lines = [form.format(number * number) for number in range(30)]
        with pytest.raises(UserError, match='a.txt: (30 of 30 lines are different|line 1 is .* a label and a number)'):
            one_column(Path('a.txt'), lines, None)

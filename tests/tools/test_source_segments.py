"""Lengths of annotations and features of an import: the median of all recordings tells another rate."""

from fractions import Fraction

import pytest

from recordings.segment_list import SegmentList
from tools.source_segments import check_rate, common_length, short_annotation_note
from utils.errors import UserError

ONE = Fraction(1)


def pairs(lengths, *, labels=True):
    """Return segment lists of the given (annotated, feature) lengths, from label files or tables."""
    return [(SegmentList('a.txt', ['x'], [Fraction(0)], [Fraction(annotated)], annotated if labels else None), frames)
            for annotated, frames in lengths]


@pytest.mark.parametrize(('lengths', 'rate', 'labels'), [
    ([(100, 100), (200, 191)], ONE, True), ([(12, 10), (9, 8), (14, 12)], ONE, True), ([(100, 50)], ONE / 2, True),
    ([(300, 290), (30, 30), (20, 10)], ONE, True), ([(3, 2), (4, 4), (5, 5)], ONE, True),
    ([(20, 200), (30, 300)], ONE, False), ([(100, 99), (50, 50)], ONE, False)])
def test_small_differences_and_single_recordings_are_accepted(lengths, rate, labels):
    check_rate(pairs(lengths, labels=labels), rate)


@pytest.mark.parametrize(('lengths', 'rate', 'labels', 'advice'), [
    ([(12, 6), (14, 7), (16, 8)], ONE, True, 'there are about 2 labels per feature frame: if the features are sampled '
     'more coarsely, give --labels_per_feature 2; or give --max_mismatch 10'),
    ([(4, 2), (2, 1), (6, 3)], ONE, True, '--labels_per_feature 2'), ([(9, 3), (12, 4)], ONE, True, 'feature 3'),
    ([(6, 12), (7, 14), (8, 16)], ONE, True, 'the annotation is 0.5 times as long as the features'),
    ([(30, 26), (40, 35), (50, 44)], ONE, True, '1.14 times as long'),
    ([(15, 10), (18, 12), (9, 6)], ONE, False, 'check --unit, --fps and --labels_per_feature')])
def test_another_rate_is_refused_however_short_the_recordings_are(lengths, rate, labels, advice):
    with pytest.raises(UserError) as caught:
        check_rate(pairs(lengths, labels=labels), rate)
    assert advice in str(caught.value) and f'in the median of {len(lengths)} recordings' in str(caught.value)


@pytest.mark.parametrize(('lengths', 'labels', 'expected'), [
    ([(20, 200), (31, 300), (40, 400)], False, 'all annotations end at about 10% of the recording'),
    ([(20, 200), (100, 300)], False, 'the annotations end, in the median, at 22%'),
    ([(80, 100), (160, 200), (40, 50)], False, 'all annotations end at about 80%'),
    ([(80, 100), (190, 200), (40, 50)], False, None), ([(95, 100), (190, 200), (48, 50)], False, None),
    ([(20, 200), (30, 300)], True, None)])
def test_tables_that_end_early_are_named(lengths, labels, expected):
    note = short_annotation_note(pairs(lengths, labels=labels), ONE)
    assert note is None if expected is None else expected in note


@pytest.mark.parametrize(('labels', 'frames', 'advice'), [
    (['SIL 10', 'pour 20'], 30, "it has 2 lines, the first is 'SIL 10', expected one label per frame"),
    (['SIL,SIL,pour'], 16, "it has 1 line, the first is 'SIL,SIL,pour'"),
    (['pour'] * 20, 200, 'there are about 10 feature frames per label: .* give --labels_per_feature 1/10'),
    (['pour'] * 200, 20, 'give --labels_per_feature 10$'), (['pour'] * 50, 80, 'have the same rate')])
def test_a_difference_in_length_comes_with_its_probable_reason(labels, frames, advice):
    bounds = [Fraction(bound) for bound in range(len(labels) + 1)]
    with pytest.raises(UserError, match=advice):
        common_length(SegmentList('a.txt', labels, bounds[:-1], bounds[1:], len(labels)), frames, rate=ONE,
                      max_mismatch=10)

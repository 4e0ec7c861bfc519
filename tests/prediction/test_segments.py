"""Files of segments: what they may look like, and what is refused."""

import pytest

from prediction.segments import Segment, check_segments, read_segments
from utils.errors import UserError

EXPECTED = [Segment(0, 40, 'boil water'), Segment(40, 55, None), Segment(60, 61, 'pour, slowly')]
CSV = '0,40,boil water\n40,55,\n 60 , 61 ,"pour, slowly"\n'


@pytest.mark.parametrize(('name', 'content'), [
    ('a.csv', CSV), ('a.csv', f'start,end,label\n{CSV}'), ('a.csv', f'\ufeffStart,END,label\r\n\r\n{CSV}'),
    ('a.json', '[[0, 40, "boil water"], [40, 55], [60, 61, "pour, slowly"]]'),
    ('a.json', '[{"start": 0, "end": 40, "label": "boil water"}, {"end": 55, "start": 40}, [60, 61, "pour, slowly"]]')])
def test_segments_are_read(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_segments(tmp_path / name) == EXPECTED


def test_labels_may_be_left_out(tmp_path):
    (tmp_path / 'a.csv').write_text('start,end\n3,5\n')
    assert read_segments(str(tmp_path / 'a.csv')) == [Segment(3, 5)]


@pytest.mark.parametrize(('name', 'content', 'expected'), [
    ('a.txt', '', 'ends in .csv or .json'), ('a.json', '{"start": 1}', 'dict at the top'),
    ('a.json', '[[1, 2]', 'not valid JSON'), ('a.json', '[[1]]', "segment 0 is '[1]', expected start, end"),
    ('a.json', '[{"start": 1, "end": 2, "lable": "x"}]', 'segment 0 is'), ('a.json', '[[1, 2, 3]]', "label is '3'"),
    ('a.json', '[[1, 2, "boil\\ud800"]]', 'holds half a character'),
    ('a.csv', '0,4\n1.5,4\n', "segment 1: start is '1.5', expected a whole number of feature frames"),
    ('a.csv', '0,-4', "end is '-4'"), ('a.json', '[[true, 2]]', 'start is'), ('a.csv', '0,4,a,b', 'expected start'),
    ('a.csv', '7', 'expected start, end'), ('a.csv', '0,4,"a\n4,9,b', 'not valid CSV (unexpected end of data)')])
def test_files_that_hold_something_else_are_refused(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_segments(tmp_path / name)
    assert expected in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match='cannot be read .No such file'):
        read_segments(tmp_path / 'nowhere.csv')
    (tmp_path / 'a.csv').write_bytes(b'\xff\xfe')
    with pytest.raises(UserError, match='not valid CSV'):
        read_segments(tmp_path / 'a.csv')


@pytest.mark.parametrize(('segments', 'expected'), [
    ([], 'no segment, expected at least one'), ([(4, 4)], 'segment 0, from 4 to 4, runs backwards or is empty'),
    ([(0, 5), (8, 6)], 'segment 1, from 8 to 6, runs backwards'),
    ([(0, 5), (4, 8)], 'segment 1, from 4 to 8, overlaps or comes before the one that ends at 5'),
    ([(6, 8), (0, 3)], 'segment 1, from 0 to 3, overlaps or comes before'),
    ([(0, 11)], 'ends beyond the recording of 10 frames'), ([(11, 12)], 'ends beyond')])
def test_segments_that_do_not_fit_the_recording_are_refused(segments, expected):
    with pytest.raises(UserError) as caught:
        check_segments([Segment(*segment) for segment in segments], 10, 'rec')
    assert str(caught.value).startswith('rec: ') and expected in str(caught.value)


def test_segments_may_touch_and_end_with_the_recording():
    check_segments([Segment(0, 5), Segment(5, 6), Segment(8, 10)], 10, 'rec')

"""Files of segments: what they may look like, and what is refused."""

from fractions import Fraction

import pytest

from prediction.segments import Segment, check_segments, fit_segments, read_segments
from tests.recordings.test_segment_tables import SPELLINGS
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


@pytest.mark.parametrize('text', SPELLINGS.values(), ids=SPELLINGS)
def test_what_the_import_reads_is_read_if_the_rate_is_known(tmp_path, text):
    (tmp_path / 'a.csv').write_text(text)
    expected = [Segment(0, 15, 'boil water'), Segment(15, 40, 'pour')]
    assert read_segments(tmp_path / 'a.csv', fps=Fraction(10)) == expected
    with pytest.raises(UserError, match=r'a.csv: line \d: .* expected a whole number of frames of the features'):
        read_segments(tmp_path / 'a.csv')


def test_a_frame_belongs_to_the_segment_in_seconds_that_contains_its_center(tmp_path):
    (tmp_path / 'a.json').write_text('[[0.5, 1.5], [1.6, 1.61, "no frame"], {"begin": "0:01.62", "stop": 2.9}]')
    with pytest.raises(UserError, match='segment 2: start is'):
        read_segments(tmp_path / 'a.json', fps=Fraction(4))
    (tmp_path / 'a.json').write_text('[[0.5, 1.5], [1.6, 1.61, "no frame"], [1.63, 2.9]]')
    assert read_segments(tmp_path / 'a.json', fps=Fraction(4)) == [Segment(2, 6), Segment(7, 12)]


def test_one_table_of_several_recordings(tmp_path):
    path = tmp_path / 'all.csv'
    path.write_text('video,start,end,action\nx.mp4,0,5,a\ny,2,3,b\nx.mp4,5,6,c\n')
    assert read_segments(path, 'x') == [Segment(0, 5, 'a'), Segment(5, 6, 'c')]
    for recording, message in ((None, 'has segments of x, y, expected those of one recording; name it'),
                               ('z', 'has segments of x, y, expected those of z; add them')):
        with pytest.raises(UserError, match=message):
            read_segments(path, recording)


@pytest.mark.parametrize(('name', 'content', 'expected'), [
    ('a.npy', '', 'ends in .csv or .tsv or .json or .txt'), ('a.json', '{"start": 1}', 'JSON object at the'),
    ('a.json', '[[1, 2]', 'not valid JSON'), ('a.json', '[[1]]', 'expected one for the end'),
    ('a.json', '[{"start": 1, "end": 2, "lable": "x"}]', 'columns start, end, lable; expected one for the label'),
    ('a.csv', 'start,end,lable\n1,2,x', 'expected one for the label'), ('a.json', '[[1, 2, 3]]', "label is '3'"),
    ('a.json', '[[1, 2, "boil\\ud800"]]', 'contains an unpaired surrogate'), ('a.json', '[7]', "segment 0 is '7'"),
    ('a.csv', '0,4\n1.5,4\n', "line 2: start is '1.5', expected a whole number of frames of the features"),
    ('a.csv', '0,-4', 'line 1: from 0 to -4'), ('a.json', '[[true, 2]]', "start is 'True'"),
    ('a.csv', '0,4,a,b', '4 cells, expected start, end, label'), ('a.csv', '7', 'has no header'),
    ('a.csv', '0,4\n3,6', 'line 1 (no label) ends after the start of line 2'), ('a.csv', '', 'is empty'),
    ('a.csv', '0,4,"a\n4,9,b', 'not valid CSV (unexpected end of data)')])
def test_files_that_hold_something_else_are_refused(tmp_path, name, content, expected):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        read_segments(tmp_path / name)
    assert expected in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for name in ('nowhere.csv', 'nowhere.json'):
        with pytest.raises(UserError, match='cannot be read .No such file'):
            read_segments(tmp_path / name)
    (tmp_path / 'a.csv').write_bytes(b'\xff')
    with pytest.raises(UserError, match='byte 0 is not UTF-8'):
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


@pytest.mark.parametrize(('num_frames', 'latest'), [(30, 33), (500, 510)])
def test_the_segments_of_a_table_may_end_slightly_after_the_recording(num_frames, latest, caplog):
    before = Segment(0, 5, 'a')
    assert fit_segments([before, Segment(5, latest, 'b')], num_frames, 'rec') == [before, Segment(5, num_frames, 'b')]
    assert f'rec: the last segment ends at frame {latest} of a recording of {num_frames} frames' in caplog.text
    for segment in (Segment(5, latest + 1, 'b'), Segment(num_frames, num_frames + 1, 'b')):
        with pytest.raises(UserError, match='ends beyond the recording'):
            fit_segments([before, segment], num_frames, 'rec')

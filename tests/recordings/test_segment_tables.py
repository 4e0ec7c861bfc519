"""Tables of segments: accepted spellings, and refused content."""

import re
from fractions import Fraction

import pytest

from recordings.segment_tables import TableOptions, ends_look_inclusive, read_tables, starts_look_one_based
from utils.errors import UserError

SECONDS, FRAMES = TableOptions(fps=Fraction(1)), TableOptions()
SPELLINGS = {
    'header': 'start,end,label\n0,1.5,boil water\n1.5,4,pour\n', 'no-header': '0,1.5,boil water\n1.5,4,pour',
    'decimal-comma': '\ufeffStart;End;Label\r\n0;1,5;boil water\r\n1,5;4;pour\r\n',
    'tabs-and-minutes': 'label\tonset\toffset\nboil water\t0:00\t0:01.5\npour\t0:01.5\t00:00:04',
    'unsorted': 'start,end,label\n1.5,4,pour\n\n0,1.5,"boil water"\n,,\n',
    'other-names': 'name,start_time,end_time\nboil water,0,1.5\npour,1.5,4',
    'blanks': 'start  end label\n 0 1.5   "boil water"\n1.5  4  pour \n',
    'excel': 'sep=;\r\nlabel;start;end\r\n"boil water";0;1,5\r\npour;1,5;4\r\n',
    'no-header-semicolons': '0;1,5;boil water\n1,5;4;pour',
    'comments': '# it\'s 5" wide, "open\n\nStart | End | Label\n0|1.5|boil water\n# the end\n1.5|4|pour'}


def read(tmp_path, text, options=SECONDS, name='a.csv'):
    (tmp_path / name).write_bytes(text.encode())
    return {name: list(zip(segments.labels, segments.starts, segments.ends, strict=True))
            for name, segments in read_tables(tmp_path / name, options).items()}


@pytest.mark.parametrize('text', SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_of_one_table(tmp_path, text):
    half = Fraction(3, 2)
    assert read(tmp_path, text) == {'a': [('boil water', 0, half), ('pour', half, 4)]}


@pytest.mark.parametrize('line_end', ['\n', '\r\n'])
def test_quoted_label_may_span_lines(tmp_path, line_end):
    text = line_end.join(['start,end,label', '0,4,"pour', '  hot\u2028water"', '4,5,"a  b"'])
    assert read(tmp_path, text, FRAMES) == {'a': [('pour hot\u2028water', 0, 4), ('a  b', 4, 5)]}


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-32'])
def test_encodings_with_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / 'a.csv').write_bytes('start,end,label\n0,2,größe\n'.encode(encoding))
    assert read_tables(tmp_path / 'a.csv', FRAMES)['a'].labels == ['größe']


def test_comments_that_look_like_segments_are_named(tmp_path, caplog):
    text = 'video,start,end,label\nx,0,5,a\n#1,0,3,b\n# no, 2, 3\n'
    assert read(tmp_path, text, FRAMES) == {'x': [('a', 0, 5)]}
    assert [record.getMessage() for record in caplog.records if record.levelname == 'WARNING'] == [
        f'{tmp_path / "a.csv"}: 1 lines begin with #, %, // and are left out as comments, although they look like '
        'segments: line 3 (#1, 0, 3, b); if they are, rename what begins with this sign']


def test_one_table_for_all_recordings(tmp_path):
    text = 'video,start,end,action\nx.mp4,0,5,a\ny.v2,0,3,b\nx.mp4,5,6,c\n'
    assert read(tmp_path, text, FRAMES) == {'x': [('a', 0, 5), ('c', 5, 6)], 'y.v2': [('b', 0, 3)]}


def test_a_folder_of_tables_is_named_by_its_files(tmp_path):
    for name in ('b', 'a'):
        (tmp_path / f'{name}.csv').write_text('start,end,label\n0,2,x\n')
    assert list(read_tables(tmp_path, FRAMES)) == ['a', 'b']


def test_tables_in_json(tmp_path):
    text = '''[{"video": "x.mp4", "start": 0, "end": 5, "action": "a"},
              {"video": "y", "start": 1.0, "end": 3, "action": "b"}]'''
    assert read(tmp_path, text, FRAMES, 'a.json') == {'x': [('a', 0, 5)], 'y': [('b', 1, 3)]}
    assert read(tmp_path, '[[0, 0.1, "a"], ["0:00.1", 4, "b"]]', SECONDS, 'b.json') == {
        'b': [('a', 0, Fraction(1, 10)), ('b', Fraction(1, 10), 4)]}
    with pytest.raises(UserError, match='b.json: found no column; expected one for the start'):
        read(tmp_path, '[[]]', FRAMES, 'b.json')
    assert read(tmp_path, '[]', FRAMES, 'b.json') == {}
    with pytest.raises(UserError, match='b.json: segment 1: the label is empty'):
        read(tmp_path, '[[0, 1, "a"], [1, 2, null]]', FRAMES, 'b.json')
    (tmp_path / 'b.json').unlink()
    assert list(read_tables(tmp_path, FRAMES)) == ['x', 'y']


def test_columns_with_custom_names(tmp_path):
    letters = TableOptions(columns={'start': 's', 'end': 'e', 'label': 'l'})  # 's' is not taken for seconds
    assert read(tmp_path, 's,e,l\n1,2,go', letters) == {'a': [('go', 1, 2)]}
    options = TableOptions(columns={'start': 'From', 'end': 'Till', 'label': 'What', 'recording': 'Who'})
    assert read(tmp_path, 'Who,What,from,till,label\nz,go,1,2,no\n', options) == {'z': [('go', 1, 2)]}


def test_the_column_in_the_unit_is_read(tmp_path):
    text = 'start_frame,stop_frame,start_timestamp,stop_timestamp,label\n0,45,0:00,0:01.5,boil water\n'
    assert read(tmp_path, text, SECONDS) == {'a': [('boil water', 0, Fraction(3, 2))]}
    assert read(tmp_path, text, FRAMES) == {'a': [('boil water', 0, 45)]}


def test_columns_by_number_and_a_log_of_the_layout(tmp_path, caplog):
    options = TableOptions(columns={'recording': '1', 'label': '2', 'start': '3', 'end': '4'})
    with caplog.at_level('INFO', 'progress'):
        assert read(tmp_path, '# clips\nz\t3\t0\t5\tyes\nz\t4\t5\t9\tno', options) == {'z': [('3', 0, 5), ('4', 5, 9)]}
    assert caplog.messages == [f'{tmp_path / "a.csv"}: recording = 1, start = 3, end = 4, label = 2; times in frames; '
                               'separated by tabs, without a header, 1 comment line left out; not used: 5']


def test_frames_counted_from_one(tmp_path):
    text = 'start,end,label\n1,30,a\n31,50,b\n'
    read(tmp_path, text, FRAMES)
    assert starts_look_one_based(read_tables(tmp_path / 'a.csv', FRAMES))
    counted = TableOptions(first_frame=1, inclusive_ends=True)
    assert read(tmp_path, text, counted) == {'a': [('a', 0, 30), ('b', 30, 50)]}
    assert not starts_look_one_based(read_tables(tmp_path / 'a.csv', counted))
    with pytest.raises(UserError, match='from 0 to 5, expected a start of at least 1'):
        read(tmp_path, 'start,end,label\n0,5,a', counted)


def test_inclusive_ends_and_trimmed_overlaps(tmp_path):
    text = 'start,end,label\n0,4,a\n5,9,b\n10,19,c'
    assert read(tmp_path, text, FRAMES) == {'a': [('a', 0, 4), ('b', 5, 9), ('c', 10, 19)]}
    assert ends_look_inclusive(read_tables(tmp_path / 'a.csv', FRAMES))
    inclusive = TableOptions(inclusive_ends=True)
    assert read(tmp_path, text, inclusive) == {'a': [('a', 0, 5), ('b', 5, 10), ('c', 10, 20)]}
    assert not ends_look_inclusive(read_tables(tmp_path / 'a.csv', inclusive))
    trimmed = TableOptions(trim_overlaps=True)
    assert read(tmp_path, '0,8,a\n6,9,b\n9,12,c', trimmed) == {'a': [('a', 0, 6), ('b', 6, 9), ('c', 9, 12)]}
    assert read(tmp_path, '0,5,a\n3,3,moment\n4,9,b', trimmed) == {'a': [('a', 0, 4), ('b', 4, 9)]}


@pytest.mark.parametrize(('text', 'options', 'message'), [
    ('', SECONDS, 'a.csv: is empty'),
    ('start,end,what\n0,1,x', SECONDS, 'found the columns start, end, what; expected one for the label'),
    ('begin,finish,label\n0,1,x', SECONDS, 'expected one for the end'),
    ('start,end,label\n0,x,a', SECONDS, "line 2: end is 'x', expected a number of seconds"),
    ('start,end,label\n0,nan,a', SECONDS, "end is 'nan'"), ('start,end,label\n,1,a', SECONDS, "start is ''"),
    ('start,end,label\n0,1.5,a', FRAMES, "end is '1.5', expected a whole number of frames"),
    ('start,end,label\n4,2,a', SECONDS, 'line 2: from 4 to 2'), ('start,end,label\n-1,2,a', SECONDS, 'from -1 to 2'),
    ('start,end,label\n0,2,', SECONDS, 'line 2: the label is empty'),
    ('start,end,label\n0,1,"pour\n1,2,stir\n2,3,serve', SECONDS, 'not valid CSV (unexpected end of data); close each'),
    ('start,end,label\n0,1,"pour" tea', SECONDS, 'line 2: not valid CSV'),
    ('0,1e9999,a', SECONDS, "end is '1e9999', expected at most 2^53"),
    ('start,end,label\n0,1,"' + 10**5 * 'pour\n', SECONDS, 'not valid CSV (field larger'),
    ('start,end,label\n0,2', SECONDS, 'line 2: the label is empty'),
    ('0,1,pour, slowly', SECONDS, "line 1: 4 cells, expected start, end, label; put a label that contains ','"),
    ('1,4.5,6.2\n2,6.4,8.9', SECONDS, 'has no header, and the order of its columns is not certain'),
    ('v1\t0:01\t0:02\tpour', SECONDS, 'its first line (v1, 0:01, 0:02, pour) contains times'),
    ('pour,0,1', FRAMES, 'expected a header such as recording,start,end,label: add it'),
    ('a b 0 1 2', FRAMES, 'has no header'), ('0 5 pour water', FRAMES, 'line 1: 4 cells, expected start, end, label'),
    ('start,end,label\n0,1,a\n1,2,b,c,d', FRAMES, 'line 3: 5 cells, expected start, end, label'),
    ('start,end,label,label\n0,1,a,b', FRAMES, 'the column label occurs 2 times'),
    ('start_frame,end_frame,label\n0,2,a', SECONDS, 'start_frame is in frames, expected seconds; give the unit'),
    ('start_ms,end_ms,label\n0,2,a', SECONDS, 'start_ms is in milliseconds, expected seconds'),
    ('start_timestamp,stop_timestamp,label\n0,2,a', FRAMES, 'start_timestamp is in milliseconds or seconds'),
    ('a,start_frame,end,label\n0,2,3,a', TableOptions(fps=Fraction(1), columns={'start': 'start_frame'}),
     'start_frame is in frames, expected seconds'),
    ('start,end,label\n"1,000","2,000",a', FRAMES, "line 2: start is '1,000', which may have a thousands separator"),
    ('start,end,label\n0:00,0:75,a', SECONDS, "end is '0:75', expected fields after a colon below 60"),
    ('start,end,label\n0:00,0:02,a', FRAMES, "start is '0:00', a clock time, expected a whole number of frames"),
    ('start_sec,end_sec,label\n0,2,a', FRAMES, 'start_sec is in seconds, expected frames'),
    ('start,end,label\n0,5,a\n4,6,b', SECONDS, 'line 2 (a) ends after the start of line 3 (b)'),
    ('start,end,label,video\n0,5,a,sub/x.mp4', SECONDS, "recording 'sub/x.mp4'"),
    ('start,end,label\n0,1,a', TableOptions(columns={'label': 'verb'}, advice={'column': ', or {}=NAME'}),
     'rename it, or label=NAME'),
    ('start,end,label\n0,1,a', TableOptions(columns={'start': 'end'}), 'the column end is given as start and end'),
    ('PK\x03\x04\0', FRAMES, 'a.csv: is a ZIP archive, as workbooks of Excel'),
    ('<?xml version="1.0"?>', FRAMES, 'is XML or HTML, as the files of ELAN'),
    ('{"start": 0}', FRAMES, 'is JSON, expected a table'),
    ('1\n00:00:01,000 --> 00:00:02,000\npour', SECONDS, 'is subtitles, expected a table'),
    ('start,end,label\n0,1,a\0b', FRAMES, 'contains NUL characters, as binary files and UTF-16 without')])
def test_tables_that_are_refused(tmp_path, text, options, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read(tmp_path, text, options)
    assert 'a.csv' in str(error.value)


def test_a_recording_in_two_tables_is_refused(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / f'{name}.csv').write_text('video,start,end,label\nx,0,2,go\n')
    with pytest.raises(UserError, match="recording 'x' is also in"):
        read_tables(tmp_path, FRAMES)

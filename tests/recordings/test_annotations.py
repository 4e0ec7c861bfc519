import json
import logging
import random
from fractions import Fraction

import pytest

from recordings.annotations import TaskAnnotations, load_annotations
from recordings.assignment import annotate_recordings
from recordings.rates import recording_rate, segments_at_rate
from utils.errors import UserError

BACKGROUND = ['0', 'SIL', 'background']


@pytest.fixture(autouse=True)
def log_reaches_pytest(monkeypatch):
    """Restore log propagation, which a command line run by another test may have switched off."""
    monkeypatch.setattr(logging.getLogger('progress'), 'propagate', True)


def task_fields(handles=('r1', 'r2'), actions=(('0', 'a'), ('b',)), starts=((0, 30), (5,)), ends=((30, 90), (60,))):
    return {'handles': list(handles), 'hdl_actions': [list(labels) for labels in actions],
            'hdl_start_times': [list(times) for times in starts], 'hdl_end_times': [list(times) for times in ends]}


def write(tmp_path, content):
    path = tmp_path / 'set.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding='utf-8')
    return path


def annotated(segments, task='tea'):
    """Return task annotations with one list of (label, start, end) per handle r0, r1, ..."""
    return TaskAnnotations(task, [f'r{index}' for index in range(len(segments))],
                           [[label for label, _, _ in one] for one in segments],
                           [[start for _, start, _ in one] for one in segments],
                           [[end for _, _, end in one] for one in segments])


def naive_times(segments, num_frames, rate):
    """Assign every frame to the segment that contains its center, in a loop over frames."""
    found = []
    for label, start, end in segments:
        frames = [frame for frame in range(num_frames) if start * rate <= frame + Fraction(1, 2) < end * rate]
        if frames:
            found.append((label, frames[0], frames[-1]))
    return found


def draw_segments(draw, count):
    segments, time = [], 0
    for _ in range(count):
        start = time + draw.choice((0, 0, 0, 7))
        time = start + draw.choice((0, 1, 3, 15, 30, 45, 120))
        segments.append((draw.choice('0abc'), start, time))
    return segments


class TestLoad:
    def test_reads_file_content(self, tmp_path):
        task = load_annotations(write(tmp_path, {'tea': task_fields(), 'rice': task_fields(('r3', 'r4'))}))['tea']
        assert task == TaskAnnotations('tea', ['r1', 'r2'], [['0', 'a'], ['b']], [[0, 30], [5]], [[30, 90], [60]])

    def test_more_lists_than_handles_empty_lists_and_segments_are_valid(self, tmp_path):
        fields = task_fields(('r1',), ((), ('a', 'b')), ((), (4, 4)), ((), (4, 9)))
        assert load_annotations(write(tmp_path, {'tea': fields}))['tea'].actions == [[], ['a', 'b']]

    @pytest.mark.parametrize(('content', 'words'), [
        ('{"tea": {"handles": ["r1"', 'line 1, column 26'),
        ('{"tea":\n  {"handles": ["r1"],', 'line 2, column'),
        ('', 'line 1, column 1'),
        ('[' * 100000, 'not valid JSON'),
        ([1], 'a list at the top'),
        ({}, 'nothing at the top'),
        ('{"tea": {}, "tea": {}}', "'tea' stands twice"),
        ({'tea': []}, "task 'tea': nothing, expected an object"),
        ({'tea': 3}, "task 'tea': a number, expected an object"),
        ({'tea': {'handles': ['r1']}}, "task 'tea': \"hdl_actions\" is missing"),
        ({'tea': {**task_fields(), 'handles': 'r1'}}, "task 'tea': \"handles\" is a string, expected a list"),
        ({'tea': {**task_fields(), 'hdl_end_times': {'r1': [3]}}}, '"hdl_end_times" is an object'),
        ({'tea': task_fields(())}, '"handles" is empty'),
        ({'MEAN': task_fields()}, "task 'MEAN': MEAN is the name of the mean over tasks"),
        ({'tea': task_fields(('r1', 'r1'))}, "handle 'r1' occurs 2 times"),
        ({'tea': task_fields(), 'rice': task_fields(('r3', 'r2'))}, "'rice': handle 'r2' is also in task 'tea'"),
        ({'tea': task_fields(ends=((30, 90),))}, '2 in "hdl_actions", 2 in "hdl_start_times", 1 in "hdl_end_times"'),
        ({'tea': task_fields(('r1', 'r2', 'r3'))}, '2 annotation lists for 3 handles'),
        ({'tea': task_fields(actions=(('0',), ('b',)))}, "handle 'r1': 1 labels, 2 start times and 2 end times"),
        ({'tea': task_fields(actions=(('0', 7), ('b',)))}, "'tea': handle 'r1': label 1 is 7, expected a string"),
        ({'tea': task_fields(starts=((0, 30.0), (5,)))}, "handle 'r1': \"hdl_start_times\" 1 is 30.0"),
        ({'tea': task_fields(ends=((30, '90'), (60,)))}, "handle 'r1': \"hdl_end_times\" 1 is '90'"),
        ({'tea': task_fields(ends=((30, float('nan')), (60,)))}, '"hdl_end_times" 1 is nan'),
        ({'tea': task_fields(ends=((30, 10**400), (60,)))}, '"hdl_end_times" 1 is 1000'),
        ({'tea': task_fields(ends=((30, 2**53 + 1), (60,)))}, 'at least 0 and at most 2^53'),
        ({'tea': task_fields(actions=(('0', 'a\ud800'), ('b',)))}, "label 1 is 'a\\ud800', which contains an unpaired"),
        ({'tea': task_fields(starts=((False, 30), (5,)))}, '"hdl_start_times" 0 is False'),
        ({'tea': task_fields(starts=((0, 30), (-5,)))}, "handle 'r2': \"hdl_start_times\" 0 is -5"),
        ({'tea': task_fields(starts=((0, 30), (61,)))}, "handle 'r2': segment 0 runs backwards, from 61 to 60"),
        ({'tea': task_fields(starts=((0, 29), (5,)))}, "handle 'r1': segment 1 runs backwards: it starts at 29"),
        ({'tea': task_fields(('r1',), starts=((0, 30), (61,)))}, "'tea': annotation list 1: segment 0 runs backwards"),
        ({'tea': {**task_fields(), 'hdl_actions': [['0', 'a'], 'b']}}, "handle 'r2': a string in \"hdl_actions\""),
    ])
    def test_error_is_one_line_with_file_and_place(self, tmp_path, content, words):
        path = write(tmp_path, content)
        with pytest.raises(UserError) as caught:
            load_annotations(path)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert '\n' not in str(caught.value)

    @pytest.mark.parametrize('name', ['../r1', 'a/b', 'a\\b', '..', '.', '', '  ', 'a\0b', 'a\nb', '/r1', '\ud800',
                                      'x' * 201, 'ü' * 101])
    def test_names_that_cannot_be_files_are_refused(self, tmp_path, name):
        for content in ({'tea': task_fields((name, 'r2'))}, {name: task_fields()}):
            with pytest.raises(UserError, match='expected the name of a') as caught:
                load_annotations(write(tmp_path, content))
            assert '\n' not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))

    def test_unusual_valid_names_are_accepted(self, tmp_path):
        names = ['S07_Salad_7151062-1782', '01.tent.090617.gopro', 'a..b', 'Küche 3', 'x' * 200]
        fields = task_fields(names, [['a']] * 5, [[0]] * 5, [[9]] * 5)
        assert load_annotations(write(tmp_path, {'Salad.cmu': fields}))['Salad.cmu'].handles == names

    @pytest.mark.parametrize('handle', [3, None, ['r1']])
    def test_handle_that_is_not_a_string_is_refused(self, tmp_path, handle):
        with pytest.raises(UserError, match="task 'tea': handle 1: .* is not a valid name"):
            load_annotations(write(tmp_path, {'tea': task_fields(('r1', handle))}))

    def test_unreadable_file_is_reported(self, tmp_path):
        for path in (tmp_path / 'none.json', tmp_path):
            with pytest.raises(UserError, match='cannot be read'):
                load_annotations(path)
        (tmp_path / 'latin.json').write_bytes('{"Küche": {}}'.encode('latin-1'))
        with pytest.raises(UserError, match='write it again as UTF-8'):
            load_annotations(tmp_path / 'latin.json')

    def test_a_byte_order_mark_is_accepted(self, tmp_path):
        path = tmp_path / 'set.json'
        path.write_text(json.dumps({'tea': task_fields()}), encoding='utf-8-sig')
        assert list(load_annotations(path)) == ['tea']


class TestSegmentsAtRate:
    def test_half_open_segments_become_inclusive(self):
        found = segments_at_rate(['0', 'a', 'b'], [0, 4, 7], [4, 7, 10], num_frames=10, rate=1)
        assert found == [('0', 0, 3), ('a', 4, 6), ('b', 7, 9)]

    def test_thirty_per_second_to_one_per_second(self):
        # Centers are at 15, 45, 75, 105: 'a' contains 15 and 45, 'b' contains 75, and '0' contains no center.
        found = segments_at_rate(['0', 'a', 'b', 'c'], [0, 15, 75, 76], [15, 75, 76, 120], num_frames=4,
                                               rate=1 / 30)
        assert found == [('a', 0, 1), ('b', 2, 2), ('c', 3, 3)]

    def test_clipped_to_the_recording(self):
        found = segments_at_rate(['a', 'b', 'c'], [0, 5, 12], [5, 12, 20], num_frames=8, rate=1)
        assert found == [('a', 0, 4), ('b', 5, 7)]

    def test_a_segment_without_length_is_dropped(self):
        found = segments_at_rate(['a', 'b'], [3, 3], [3, 9], num_frames=9, rate=1)
        assert found == [('b', 3, 8)]

    @pytest.mark.parametrize('seed', range(25))
    def test_frame_belongs_to_segment_that_contains_its_center(self, seed):
        draw = random.Random(seed)
        segments = draw_segments(draw, 12)
        last_end = max(segments[-1][2], 1)
        num_frames = max(1, round(last_end * draw.choice((1 / 30, 1 / 24, 4 / 30, 1, 1.5))))
        rate = Fraction(num_frames, last_end)
        expected = naive_times(segments, num_frames, rate)
        for given in (rate, float(rate)):  # a float stands for the fraction it was meant to be
            found = segments_at_rate(*zip(*segments, strict=True), num_frames=num_frames, rate=given)
            assert found == expected
        assert all(end < start for (_, _, end), (_, start, _) in zip(expected, expected[1:], strict=False))

    @pytest.mark.parametrize('scale', [10, 20, 30, 50, 90])  # some 1 / scale are rounded up, some down
    def test_centers_on_boundaries_are_exact(self, scale):
        for frames in range(1, 100):
            middle = scale * frames - scale // 2  # the center of the last frame, which belongs to the next segment
            found = segments_at_rate(['a', 'b'], [0, middle], [middle, scale * frames], num_frames=frames,
                                             rate=1 / scale)
            assert found[-1] == ('b', frames - 1, frames - 1)

    @pytest.mark.parametrize('rate', [0, -1.0, float('nan'), float('inf')])
    def test_invalid_rate_is_refused(self, rate):
        with pytest.raises(ValueError, match='positive number of feature frames per annotation frame'):
            segments_at_rate(['a'], [0], [3], num_frames=3, rate=rate)


class TestRecordingRate:
    @pytest.mark.parametrize(('num_frames', 'last_end', 'rate'), [
        (100, 3000, Fraction(1, 30)), (1000, 999, 1), (1000, 1000, 1), (102, 100, 1), (98, 100, 1),
        (103, 100, Fraction(103, 100)), (97, 100, Fraction(97, 100)), (50, 0, 1)])
    def test_auto(self, num_frames, last_end, rate):
        assert recording_rate(num_frames, last_end, 'auto') == rate

    def test_a_number_is_annotation_frames_per_feature_frame(self):
        assert recording_rate(100, 5000, 30) == Fraction(1, 30)
        assert recording_rate(100, 5000, 7.5) == Fraction(2, 15)
        assert recording_rate(100, 5000, 29.97) == Fraction(100, 2997)
        assert recording_rate(100, 5000, 1) == 1

    @pytest.mark.parametrize('scale', ['fast', 0, -2, float('nan'), float('inf'), True, None, '30'])
    def test_invalid_time_scale_is_refused(self, scale):
        with pytest.raises(UserError, match="TIME_SCALE is .*expected 'auto', 'median' or a number above 0"):
            recording_rate(10, 10, scale)
        with pytest.raises(UserError, match='TIME_SCALE'):
            annotate_recordings({'tea': annotated([[('a', 0, 9)]])}, {'r0': 9}, time_scale=scale,
                                background_labels=BACKGROUND)


class TestAnnotateRecordings:
    def annotate(self, segments, lengths, **options):
        found = annotate_recordings({'tea': annotated(segments)}, {f'r{i}': T for i, T in enumerate(lengths)},
                                    background_labels=BACKGROUND, **options)['tea']
        assert list(found) == [f'r{i}' for i in range(len(lengths))]
        return list(found.values())

    def test_auto_uses_one_rate_per_recording(self):
        segments = self.annotate([[('a', 0, 300)], [('a', 0, 120), ('b', 120, 240)], [('c', 10, 20)]], [10, 10, 20])
        assert segments == [[('a', 0, 9)], [('a', 0, 4), ('b', 5, 9)], [('c', 10, 19)]]

    def test_median_uses_one_rate_per_task(self):
        segments = self.annotate([[('a', 0, 300)], [('a', 0, 300)], [('a', 0, 150)]], [10, 10, 10], time_scale='median')
        assert segments == [[('a', 0, 9)], [('a', 0, 9)], [('a', 0, 4)]]

    def test_number(self):
        segments = self.annotate([[('a', 0, 300)], [('a', 0, 90), ('b', 90, 1000)]], [10, 10], time_scale=30)
        assert segments == [[('a', 0, 9)], [('a', 0, 2), ('b', 3, 9)]]

    def test_a_recording_far_from_the_median_is_named(self, caplog):
        segments = [[('a', 0, 300)]] * 3 + [[('a', 0, 200)], [('a', 0, 250)]]
        with caplog.at_level(logging.WARNING):
            self.annotate(segments, [10] * 5)
        [message] = [record.getMessage() for record in caplog.records]
        assert 'task tea' in message and 'r3 (0.05)' in message and 'r4' not in message and 'TIME_SCALE' in message

    def test_recording_without_segments_is_valid(self):
        segments = self.annotate([[], [('a', 0, 60)]], [10, 2])
        assert segments == [[], [('a', 0, 1)]]

    @pytest.mark.parametrize('scale', ['auto', 'median'])
    def test_a_task_without_any_annotated_time_has_no_rate(self, scale):
        with pytest.raises(UserError, match="task 'tea': no recording has a segment that ends after frame 0"):
            self.annotate([[], [('a', 0, 0)]], [10, 10], time_scale=scale)

    def test_one_log_line_per_task_counts_actions(self, caplog):
        with caplog.at_level(logging.INFO):
            self.annotate([[('0', 0, 100), ('a', 100, 160), ('b', 160, 161), ('SIL', 161, 162), ('c', 162, 300)],
                           [('a', 0, 300)]], [10, 10])
        assert [record.getMessage() for record in caplog.records] == [
            'task tea: 2 recordings, 3 actions, 1 of them shorter than 3 frames; '
            '1 more contain no frame and are dropped']


class TestListsThatOutnumberHandles:
    LENGTHS = (1500, 3900, 2600, 5200, 1900, 3100)

    def task(self, views=3):
        """Return annotations of six people with three views each, and one recording of each person."""
        segments = [[('0', 0, 100 + 7 * person), ('ab'[person % 2], 100 + 7 * person, 900 + person),
                     ('0', 900 + person, length + 10 * view)]
                    for person, length in enumerate(self.LENGTHS) for view in range(views)]
        every = annotated(segments)
        return TaskAnnotations('tea', [f'p{person}' for person in range(6)], every.actions, every.starts, every.ends)

    def annotate(self, lengths, others=(), **options):
        tasks = {'tea': self.task(), **{task.task: task for task in others}}
        frames = {**{f'p{person}': T for person, T in enumerate(lengths)}, 'r0': 10}
        return annotate_recordings(tasks, frames, background_labels=BACKGROUND, **options)

    @pytest.mark.parametrize(('rate', 'scale'), [(1, 'auto'), (1 / 30, 'auto'), (1 / 30, 'median'), (1 / 30, 30)])
    def test_each_recording_gets_labels_of_its_person(self, caplog, rate, scale):
        lengths = [round((length + 10) * rate) for length in self.LENGTHS]
        with caplog.at_level(logging.WARNING):
            result = self.annotate(lengths, time_scale=scale)['tea']
        assert list(result) == [f'p{person}' for person in range(6)]
        for person, segments in enumerate(result.values()):
            assert [segment.name for segment in segments] == ['0', 'ab'[person % 2], '0']
            assert segments[1].start == pytest.approx((100 + 7 * person) * rate, abs=1)
            assert segments[-1].end >= lengths[person] - 2
        [message] = [record.getMessage() for record in caplog.records]
        assert '18 annotation lists for 6 handles' in message
        assert 'one list per handle, in the order of the handles' in message

    def test_a_task_that_does_not_fit_is_left_out_with_a_warning(self, caplog):
        with caplog.at_level(logging.WARNING):
            result = self.annotate(sorted(self.LENGTHS), [annotated([[('a', 0, 10)]], 'rice')])
        assert list(result) == ['rice']
        [message] = [record.getMessage() for record in caplog.records]
        assert 'task tea is left out: 18 annotation lists for 6 handles' in message
        assert 'one list per handle, in the order of the handles' in message

    def test_error_if_no_task_remains(self):
        with pytest.raises(UserError, match='no task remains.*one list per handle'):
            self.annotate(sorted(self.LENGTHS))

    def test_a_wrong_time_scale_is_named_in_the_warning(self, caplog):
        with caplog.at_level(logging.WARNING), pytest.raises(UserError):
            self.annotate(self.LENGTHS, time_scale=30)
        assert 'at TIME_SCALE 30' in caplog.text

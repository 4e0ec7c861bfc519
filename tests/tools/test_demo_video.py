"""The video demo: what is drawn, when, and by whom; and the GIF of a video."""

import csv
import hashlib
import json
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from recordings.video import VideoReader
from tests.video_files import gray_of, write_video
from tools import demo_video, make_gif
from tools.demo_scene import BOLTS, CAR, CAR_SIZE, HEIGHT, PARTS, RED, STEEL, STEPS, WIDTH, Scene, Style

needs_av = pytest.mark.skipif(not find_spec('av'), reason='needs requirements-video.txt')
SETTINGS = ['--people', '4', '--repetitions', '1', '--seconds', '1.5']
PLAIN = Style(skin=(250, 0, 250), sleeve=(250, 0, 250), table=(0, 0, 0), paint=(0, 250, 0), hand=1, sway=0, bend=0,
              shift=(0, 0), light=1)


def is_color(picture, color):
    return (np.abs(picture.astype(int) - color) < 12).all(axis=-1)


def test_each_step_changes_the_car_and_a_later_picture_shows_more_of_it():
    scene = Scene(PLAIN)
    before, after = (scene.draw(done, None, 0, 0) for done in ((), STEPS))
    for part in PARTS:
        (x, y), (place_x, place_y) = part.tray, part.place
        assert not np.array_equal(before[y, x], after[y, x])  # the part has left the tray
        assert not np.array_equal(before[place_y, place_x], after[place_y, place_x])
    painted = [is_color(scene.draw(STEPS[:-1], 'paint_car', phase, 0), PLAIN.paint).sum() for phase in (0, 0.3, 0.6, 1)]
    assert painted == sorted(painted) and painted[0] == 0 < painted[1]
    # Nearly all of the car, except for cabin, bolts and wheels.
    assert painted[-1] == pytest.approx(CAR_SIZE[0] * CAR_SIZE[1] - 50 * 34, rel=0.25)
    for phase, colors in ((0, (RED, RED)), (0.5, (STEEL, RED)), (1, (STEEL, STEEL))):
        picture = scene.draw(STEPS[:4], 'tighten_bolts', phase, 0)
        assert [is_color(picture[CAR[1] + y, CAR[0] + x][None], color).item()
                for (x, y), color in zip(BOLTS, colors, strict=True)] == [True, phase != 0.5]  # the tool hides it


def test_a_step_begins_and_ends_with_the_hands_at_rest():
    scene = Scene(PLAIN)
    done = []
    for step in STEPS:
        rest = scene.draw(done, None, 0, 0)
        assert np.array_equal(scene.draw(done, step, 0, 0), rest)
        middle = scene.draw(done, step, 0.5, 0)
        assert is_color(middle, PLAIN.skin).any() and not np.array_equal(middle, rest)
        end = scene.draw(done, step, 1, 0)
        done.append(step)
        assert np.array_equal(end, scene.draw(done, None, 0, 0))
    assert rest.shape == (HEIGHT, WIDTH, 3) and CAR[0] < WIDTH


def test_orders_keep_the_chassis_first_and_the_paint_last_and_vary_between():
    rng = np.random.default_rng(0)
    orders = [demo_video.draw_order(demo_video.draw_preference(rng), rng) for _ in range(50)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(STEPS))}
    assert {(order[0], *order[4:]) for order in orders} == {(STEPS[0], *STEPS[4:])}
    assert len({tuple(order) for order in orders}) == 6


def test_segments_follow_each_other_and_a_slow_pace_stretches_the_steps():
    lengths = []
    for pace in (1, 2):
        segments = demo_video.draw_segments(STEPS, pace, 30, np.random.default_rng(0))
        assert [segment.step for segment in segments if segment.step] == list(STEPS)
        assert [segment.start for segment in segments] == [0, *(segment.end for segment in segments[:-1])]
        lengths.append(np.array([end - start for step, start, end in segments if step]))
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.05)
    assert lengths[0].sum() == pytest.approx(30 * demo_video.RATE, rel=0.3)


@needs_av
def test_the_command_writes_videos_annotations_and_a_split_of_people(tmp_path, capsys):
    assert demo_video.main([str(tmp_path / 'a'), *SETTINGS]) == 0
    assert f'python -m tools.extract {tmp_path}/a/videos toy_car' in capsys.readouterr().out
    names = [f'p0{person}_1' for person in range(4)]
    assert sorted(path.name for path in (tmp_path / 'a/videos').iterdir()) == [f'{name}.mp4' for name in names]
    split = json.loads((tmp_path / 'a/splits.json').read_text())
    assert split == {'splits': {'toy_car': {'train': names[:2], 'val': [], 'test': names[2:]}},
                     'groups': {name: name[:3] for name in names}}
    with (tmp_path / 'a/steps.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert [sum(row['recording'] == f'{name}.mp4' for row in rows) for name in names] == [len(STEPS)] * 4
    with VideoReader(tmp_path / 'a/videos/p00_1.mp4') as reader:
        ends = [float(end) for _, end, _ in reader.decoded()]
    last = max(float(row['end']) for row in rows if row['recording'] == 'p00_1.mp4')
    assert 0 < ends[-1] - last < 1  # a pause follows

    def content(folder):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / folder).rglob('*.*')}

    # A seed fixes every byte, another one changes the videos, and existing files are only replaced on request.
    first = content('a')
    assert demo_video.main([str(tmp_path / 'b'), *SETTINGS]) == 0 and content('b') == first
    assert demo_video.main([str(tmp_path / 'a'), *SETTINGS]) == 2 and content('a') == first
    assert 'contains videos of the demo; --overwrite' in capsys.readouterr().err
    assert demo_video.main([str(tmp_path / 'a'), *SETTINGS, '--overwrite', '--seed', '1']) == 0
    assert content('a').keys() == first.keys() and content('a')['p00_1.mp4'] != first['p00_1.mp4']


@needs_av
@pytest.mark.parametrize(('program', 'options', 'message'), [
    (demo_video, ['out', '--people', '3'], '--people 3: expected 4 to 1000'),
    (demo_video, ['out', '--seconds', 'nan'], '--seconds nan: expected 1 to 3600'),
    (demo_video, ['out', '--seed', '-1'], '--seed -1: expected 0 or more'),
    (make_gif, ['none.mp4', 'a.gif'], 'none.mp4: '), (make_gif, ['a.mp4', 'a.gif', '--fps', '60'], '--fps 60: '),
    (make_gif, ['a.mp4', 'a.gif', '--colors', '1'], '--colors 1: expected 2 to 256'),
    (make_gif, ['a.mp4', 'a.mp4'], 'OUT a.mp4: expected the name of another file than IN that ends in .gif'),
    (make_gif, ['a.mp4', 'missing/a.gif'], 'missing/a.gif: cannot be written')])
def test_wrong_arguments_end_in_one_line_and_write_nothing(tmp_path, monkeypatch, capsys, program, options, message):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / 'a.mp4', 2)
    assert program.main(options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4']


@needs_av
def test_a_gif_shows_the_video_at_its_rate_and_no_wider_than_asked(tmp_path, capsys):
    source = write_video(tmp_path / 'a.mp4', 20, rate=10)
    assert make_gif.main([str(source), str(tmp_path / 'a.gif'), '--fps', '5', '--width', '24']) == 0
    assert '10 pictures' in capsys.readouterr().out
    with Image.open(tmp_path / 'a.gif') as gif:
        assert (gif.size, gif.n_frames, gif.info['loop']) == ((24, 16), 10, 0)
        grays, durations = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            grays.append(np.asarray(gif.convert('L')).mean())
            durations.append(gif.info['duration'])
    assert durations == [200] * 10
    assert grays == pytest.approx([gray_of(number) for number in range(1, 20, 2)], abs=4)

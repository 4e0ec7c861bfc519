"""Write videos of a made-up procedure, with annotations and a split by person: python -m tools.demo_video OUT.

People with different looks and paces build a toy car from drawn parts, in varying order. Each step can be seen, and so
can how far it has progressed.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recordings.splits import Splits
from recordings.video import import_av
from tools.demo import mirrored
from tools.demo_scene import HEIGHT, STEPS, WIDTH, Scene, draw_style
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.files import remove_leftovers, write_csv, write_json
from utils.folders import make_folder, replace_folder, staged_folder
from utils.standard_streams import say

RATE = 12  # pictures per second
TEST_PEOPLE = 2
PACE, VARIATION = 0.25, 0.2  # std of the log of a person's pace, and of the log of a single step's duration
# Seconds of each step, at the average pace; spread, because real steps are.
DURATIONS = dict(zip(STEPS, (3.5, 6.0, 7.0, 3.0, 8.0, 6.0), strict=True))
PAUSE = 0.5, 2.5  # seconds at least and at most, before a step
PAUSE_PROBABILITY = 0.6
SWAP_PROBABILITY = 0.3  # of two parts, against the order that the person prefers
LIMITS = {'people': (4, 1000), 'repetitions': (1, 1000), 'seconds': (1, 3600)}


class Segment(NamedTuple):
    """Consecutive pictures of a step, or of resting hands (``step`` is None); ``end`` is the first one after it."""

    step: str | None
    start: int
    end: int


def draw_order(preference: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the steps of a recording: neighbors among wheels and cabin may be swapped."""
    first, *parts, tighten, paint = preference
    for position in range(len(parts) - 1):
        if rng.random() < SWAP_PROBABILITY:
            parts[position:position + 2] = parts[position + 1], parts[position]
    return [first, *parts, tighten, paint]


def draw_preference(rng: np.random.Generator) -> list[str]:
    """Return the order of steps that a person prefers."""
    first, *parts, tighten, paint = STEPS
    return [first, *(parts[index] for index in rng.permutation(len(parts))), tighten, paint]


def draw_segments(order: Sequence[str], pace: float, seconds: float, rng: np.random.Generator) -> list[Segment]:
    """Draw when the steps of a recording happen.

    Args:
        order: steps, in the order of the recording.
        pace: factor on the durations.
        seconds: length of a recording at the average pace, without pauses.
        rng: generator.
    """
    unit = RATE * seconds / sum(DURATIONS.values())  # pictures per second of DURATIONS
    segments, end = [], 0
    for step in [*order, None]:
        if step is None or rng.random() < PAUSE_PROBABILITY:
            pause = max(1, round(unit * rng.uniform(*PAUSE)))
            segments.append(Segment(None, end, end := end + pause))
        if step:
            length = max(2, round(unit * DURATIONS[step] * pace * np.exp(rng.normal() * VARIATION)))
            segments.append(Segment(step, end, end := end + length))
    return segments


def draw_pictures(scene: Scene, segments: Sequence[Segment]) -> Iterator[np.ndarray]:
    """Yield the pictures of a recording, (HEIGHT, WIDTH, 3), uint8."""
    done: list[str] = []
    for step, start, end in segments:
        for number in range(start, end):
            # Progress as in the metrics: 1 at the last picture of a step.
            yield scene.draw(done, step, (number - start + 1) / (end - start), number / RATE)
        done += [step] if step else []


def write_pictures(path: Path, pictures: Iterator[np.ndarray]) -> None:
    """Write pictures as a video (H.264)."""
    av = import_av()
    with av.open(str(path), 'w') as container:
        # x264 looks ahead in memory that it has not written, so the same pictures are not always coded the same way.
        # Without looking ahead ('zerolatency') they are.
        options = {'crf': '20', 'preset': 'veryfast', 'tune': 'zerolatency', 'threads': '1'}
        stream = container.add_stream('libx264', rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        container.mux(stream.encode())


def write_demo_video(out: Path, seed: int = 0, *, people: int = 10, repetitions: int = 2, seconds: float = 24,
                     overwrite: bool = False) -> None:
    """Write ``videos/``, ``steps.csv`` in seconds, and ``splits.json``, whose test people are unseen in training.

    Args:
        out: folder to write to.
        seed: random seed, >= 0.
        people: number of people; the last two are used for the test.
        repetitions: number of recordings per person.
        seconds: length of a recording at the average pace, without pauses.
        overwrite: True to replace such files.

    Raises:
        UserError: they exist and ``overwrite`` is False; an argument is out of its range; or ``out`` cannot be written
            to.
    """
    import_av()
    for name, value in (('people', people), ('repetitions', repetitions), ('seconds', seconds)):
        least, most = LIMITS[name]
        if not least <= value <= most:
            raise UserError(f'--{name} {value}: expected {least} to {most}')
    if seed < 0:
        raise UserError(f'--seed {seed}: expected 0 or more')
    table, videos = out / 'steps.csv', out / 'videos'
    if not overwrite and (table.exists() or videos.exists()):
        raise UserError(f'{out}: contains videos of the demo; --overwrite replaces them, or choose another folder')
    make_folder(out, 'choose another folder')
    remove_leftovers(out)  # of processes that were killed
    paces = np.exp(mirrored(people, np.random.default_rng([seed, 0])) * PACE)
    rows, parts, groups = [], {'train': [], 'val': [], 'test': []}, {}
    with staged_folder(videos) as staged:
        for person in range(people):
            rng = np.random.default_rng([seed, 1 + person])  # more people do not change the first ones
            scene, preference = Scene(draw_style(rng)), draw_preference(rng)
            for repetition in range(repetitions):
                handle = f'p{person:02d}_{repetition + 1}'
                segments = draw_segments(draw_order(preference, rng), paces[person], seconds, rng)
                write_pictures(staged / f'{handle}.mp4', draw_pictures(scene, segments))
                rows += [(f'{handle}.mp4', f'{start / RATE:.3f}', f'{end / RATE:.3f}', step)
                         for step, start, end in segments if step]
                parts['test' if person >= people - TEST_PEOPLE else 'train'].append(handle)
                groups[handle] = handle.partition('_')[0]
        replace_folder(staged, videos)
    write_json(out / 'splits.json', Splits({'toy_car': parts}, groups).as_json())
    write_csv(table, ('recording', 'start', 'end', 'label'), rows)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m tools.demo_video', description='Write videos of a made-up procedure, their '
                           'annotations, and a split by person. Requires the packages of requirements-video.txt.')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write to')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--people', type=int, default=10, help='default 10; the last two are used for the test')
    parser.add_argument('--repetitions', type=int, default=2, help='recordings per person, default 2')
    parser.add_argument('--seconds', type=float, default=24, help='length of a recording, without pauses, default 24')
    parser.add_argument('--overwrite', action='store_true', help='replace such videos in OUT')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        out = arguments.out
        write_demo_video(out, arguments.seed, people=arguments.people, repetitions=arguments.repetitions,
                         seconds=arguments.seconds, overwrite=arguments.overwrite)
        videos, table, splits = (shlex.quote(str(out / name)) for name in ('videos', 'steps.csv', 'splits.json'))
        say(f'Wrote {arguments.people * arguments.repetitions} drawn videos of {arguments.people} people to '
            f'{videos}, when each step happens to {table}, and who trains and who tests to {splits}. Next:\n\n'
            f'python -m tools.extract {videos} toy_car\npython -m tools.import_segments toy_car {table}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

"""Measure the chain from a video to rows and memory over a long video: python -m benchmarks.speed.video RUN VIDEO.

The pictures of VIDEO are repeated to fill a video of the asked length, which is read as ``predict.py --video`` reads a
live source: picture by picture, with the encoder and the filter of RUN.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.measure import MIB, describe_command, describe_machine, format_table, positive
from prediction import ProgressStream, load_run
from prediction.overlay import write_overlay
from prediction.video import RunEncoder
from recordings.video import VideoReader, import_av
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.memory import process_memory

TENTHS = 10
WARM_UP = 8  # frames, not timed: the filter is compiled or traced at the first ones
STAGES = ('decoding', 'image encoder', 'filter')
LARGEST_GROWTH = 20 * MIB  # from the second tenth to the last one


def repeat_video(source: Path, path: Path, seconds: float) -> None:
    """Write a video of a length from the pictures of another, which are repeated, at its rate."""
    av = import_av()
    with VideoReader(source) as reader:
        pictures, rate = [frame.reformat(format='yuv420p') for _, _, frame in reader.decoded()], reader.rate
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=rate, options={'preset': 'ultrafast'})
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, 'yuv420p'
        for number, picture in enumerate(itertools.islice(itertools.cycle(pictures), round(seconds * rate))):
            picture.pts, picture.time_base = number, 1 / Fraction(rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def frame_costs(path: Path, encoder: RunEncoder, stream: ProgressStream, threads: int,
                ) -> Iterator[tuple[list[tuple[float, float]], int]]:
    """Yield (seconds, processor seconds) of each stage for every feature frame, and the memory in bytes after it."""
    def stamp() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    with VideoReader(path, threads) as reader:
        frames = reader.sample(encoder.info.fps, encoder.info.image_size)
        while True:
            stamps = [stamp()]
            if (frame := next(frames, None)) is None:
                return
            stamps.append(stamp())
            features = encoder.encode([frame])[0]
            stamps.append(stamp())
            stream.push(features)
            stamps.append(stamp())
            yield np.diff(stamps, axis=0), process_memory('VmRSS')


def table_of_stages(costs: np.ndarray) -> str:
    """Return the table of speeds from (seconds, processor seconds) per frame and stage, (T, 3, 2)."""
    rows = []
    for name, stages in (*((stage, [index]) for index, stage in enumerate(STAGES)), ('extraction: both first', [0, 1]),
                         ('whole chain', [0, 1, 2])):
        seconds, processor = costs[:, stages].sum(axis=1).T  # each (T,)
        rows.append({'stage': name, 'ms a frame, median': f'{1e3 * np.median(seconds):.1f}',
                     '99 %': f'{1e3 * np.quantile(seconds, 0.99):.1f}', 'frames/s': f'{1 / seconds.mean():.1f}',
                     'frames/s of processor time': f'{1 / processor.mean():.1f}'})
    return format_table(rows)


def describe_memory(memory: np.ndarray) -> str:
    """Describe the memory after each frame, (T,), in bytes, in each tenth of the video."""
    tenths = [part.max() for part in np.array_split(memory, TENTHS)]
    growth = tenths[-1] - tenths[1]
    values = ' '.join(f'{tenth / MIB:.0f}' for tenth in tenths)
    return (f'Memory of the process in each tenth of the video, MiB: {values}.\nRule: from the second tenth to the '
            f'last, it grows by at most {LARGEST_GROWTH // MIB} MiB: {growth / MIB:.1f}, '
            f'{"kept" if growth <= LARGEST_GROWTH else "broken"}.')


def overlay_rate(source: Path, folder: Path, encoder: RunEncoder, stream: ProgressStream) -> float:
    """Return the pictures per processor second at which the overlay of a video is written."""
    with VideoReader(source) as reader:
        frames = list(reader.sample(encoder.info.fps, encoder.info.image_size))
    rows = [row for frame in frames for row in stream.push(encoder.encode([frame])[0])] + stream.finish()
    started = time.process_time()
    write_overlay(source, folder / 'overlay.mp4', rows, encoder.info.fps)
    elapsed = time.process_time() - started
    with VideoReader(folder / 'overlay.mp4') as reader:
        return sum(1 for _ in reader.decoded()) / elapsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = OneLineParser(prog='python -m benchmarks.speed.video', description='Speed and memory of videos.')
    parser.add_argument('run', type=Path, metavar='RUN', help='run on features of tools.extract')
    parser.add_argument('video', type=Path, metavar='VIDEO', help='video whose pictures are repeated')
    parser.add_argument('--minutes', type=float, default=20, help='length of the long video, default 20')
    parser.add_argument('--task', help='task of the video, one of the tasks of the run')
    parser.add_argument('--threads', type=positive, default=2, help='default 2')

    def command() -> None:
        arguments = parser.parse_args(argv)
        torch.set_num_threads(arguments.threads)
        run = load_run(arguments.run, device='cpu')
        encoder = RunEncoder(run)
        machine = describe_machine(arguments.threads)

        def new_stream() -> ProgressStream:
            return ProgressStream(run, arguments.task, fps=encoder.info.fps)

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            overlay = overlay_rate(arguments.video, folder, encoder, new_stream())
            repeat_video(arguments.video, folder / 'long.mp4', 60 * arguments.minutes)
            measured = list(frame_costs(folder / 'long.mp4', encoder, new_stream(), arguments.threads))[WARM_UP:]
        if len(measured) < TENTHS:
            raise UserError(f'--minutes {arguments.minutes}: gives {len(measured)} frames to measure, expected at '
                            f'least {TENTHS}; give more')
        costs, memory = (np.array(part) for part in zip(*measured, strict=True))
        print(f'{describe_command("benchmarks.speed.video", argv)}\n\n{machine}.\n\n{len(measured)} feature frames of '
              f'{arguments.minutes:g} minutes of video.\n\n{table_of_stages(costs)}\n\nOverlay: {overlay:.0f} pictures '
              f'per second of processor time.\n{describe_memory(memory)}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

"""Convert a video, such as an overlay of predict.py, to a small GIF for a web page: python -m tools.make_gif IN OUT.

All pictures share one palette, and each stores only what has changed, so pages of flat colors stay small.
"""

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from recordings.rates import parse_rate
from recordings.video import VideoReader
from utils.command_line import OneLineParser, option, run_command
from utils.errors import UserError
from utils.files import atomic_path, remove_leftovers
from utils.standard_streams import say

MAX_COLORS = 256
MAX_FPS = 50  # browsers show faster GIFs at 10 per second
PALETTE_PICTURES = 12  # the palette is chosen from this number of pictures, spread over the video


def read_pictures(source: Path, fps: Fraction, width: int) -> list[Image.Image]:
    """Return the pictures of a video at a rate, at most ``width`` pixels wide."""
    pictures = []
    with VideoReader(source) as reader:
        for frame in reader.sample(fps):
            picture = Image.fromarray(frame.image)
            if picture.width > width:
                height = max(1, round(picture.height * width / picture.width))
                picture = picture.resize((width, height), Image.Resampling.LANCZOS)
            pictures.append(picture)
    return pictures


def choose_palette(pictures: Sequence[Image.Image], colors: int) -> Image.Image:
    """Return a picture whose palette fits all pictures."""
    chosen = pictures[::max(1, len(pictures) // PALETTE_PICTURES)]
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in chosen])).quantize(colors)


def write_gif(source: Path, path: Path, *, fps: Fraction, width: int, colors: int) -> int:
    """Write a video as an endless GIF, and return the number of pictures. All of them are in memory at once.

    Args:
        source: the video.
        path: file to write, atomically.
        fps: pictures per second.
        width: pixels at most; a narrower video keeps its size.
        colors: number of colors, 2 to 256.

    Raises:
        UserError: the video cannot be read, or the GIF cannot be written.
    """
    pictures = read_pictures(source, fps, width)
    palette = choose_palette(pictures, colors)
    # No dithering: its pattern would change from picture to picture, and nothing would stay the same between them.
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    remove_leftovers(path.parent)
    with atomic_path(path) as temporary:
        first.save(temporary, format='GIF', save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return len(pictures)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = OneLineParser(prog='python -m tools.make_gif', description='Convert a video to a small GIF.')
    parser.add_argument('source', type=Path, metavar='IN', help='the video')
    parser.add_argument('path', type=Path, metavar='OUT', help='the GIF')
    parser.add_argument('--fps', default='4', metavar='F', help='pictures per second, default 4')
    parser.add_argument('--width', type=int, default=480, help='pixels at most, default 480')
    parser.add_argument('--colors', type=int, default=64, help=f'2 to {MAX_COLORS}, default 64')

    def command() -> None:
        arguments = parser.parse_args(argv)
        if arguments.path.suffix.lower() != '.gif' or arguments.path.resolve() == arguments.source.resolve():
            raise UserError(f'OUT {arguments.path}: expected the name of another file than IN that ends in .gif; give '
                            'one')
        with option('--fps'):
            fps = parse_rate(arguments.fps)
            if fps > MAX_FPS:
                raise UserError(f'{arguments.fps}: expected at most {MAX_FPS}')
        for name, least, most in (('width', 1, 10_000), ('colors', 2, MAX_COLORS)):
            if not least <= (value := getattr(arguments, name)) <= most:
                raise UserError(f'--{name} {value}: expected {least} to {most}')
        number = write_gif(arguments.source, arguments.path, fps=fps, width=arguments.width, colors=arguments.colors)
        say(f'{arguments.path}: {number} pictures, {arguments.path.stat().st_size / 1024:.0f} KiB')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

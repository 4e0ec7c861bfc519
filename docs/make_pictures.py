"""Writes the README's pictures, small: python docs/make_pictures.py RUN, the folder of an evaluated run."""

import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent / 'pictures'
# Name here -> file in the run folder.
PICTURES = {
    'progress.png': 'EVAL/best_model_combined/progress_make_tea.png',
    'error_by_length.png': 'EVAL/best_model_combined/mae_by_length.png',
}
WIDTH = 800  # pixels at most
COLOURS = 64


def shrink(source: Path, target: Path) -> None:
    """Write a picture with fewer pixels and colours."""
    with Image.open(source) as picture:
        picture = picture.convert('RGB')
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
        picture.quantize(COLOURS).save(target, optimize=True)


def main(run: Path) -> None:
    """Write all pictures and print their sizes."""
    FOLDER.mkdir(exist_ok=True)
    for name, source in PICTURES.items():
        shrink(run / source, FOLDER / name)
        print(f'{FOLDER / name}: {(FOLDER / name).stat().st_size / 1024:.0f} KiB')


if __name__ == '__main__':
    main(Path(sys.argv[1]))

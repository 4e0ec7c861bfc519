"""Write small versions of the README's pictures: python docs/make_pictures.py RUN (folder of an evaluated run)."""

import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent / 'pictures'
# Name in the README -> file in the run folder.
PICTURES = {
    'progress.png': 'EVAL/best_model_combined/progress_make_tea.png',
    'error_by_length.png': 'EVAL/best_model_combined/mae_by_length.png',
}
WIDTH = 800  # pixels at most
COLORS = 64


def shrink(source: Path, target: Path) -> None:
    """Write a picture with fewer pixels and colors."""
    with Image.open(source) as picture:
        picture = picture.convert('RGB')
        if picture.width > WIDTH:
            picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
        # The octree keeps small patches of a color, such as a short step; the median cut merges them into others.
        picture.quantize(COLORS, method=Image.Quantize.FASTOCTREE).save(target, optimize=True)


def main(run: Path) -> None:
    """Write all pictures and print their sizes."""
    FOLDER.mkdir(exist_ok=True)
    for name, source in PICTURES.items():
        shrink(run / source, FOLDER / name)
        print(f'{FOLDER / name}: {(FOLDER / name).stat().st_size / 1024:.0f} KiB')


if __name__ == '__main__':
    main(Path(sys.argv[1]))

"""Write a small synthetic dataset in the project's format: python -m tools.demo OUT --name NAME --seed N.

People with different paces and styles perform the actions of each task in varying order. The features encode the label
of the current action and its progress, but progress not linearly: it rotates a phase vector in planes that are the same
for all labels, from a start angle that differs between labels.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from configs.paths import check_new_name
from recordings.splits import Splits
from tools.dataset_output import staged_dataset
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError
from utils.standard_streams import say

BACKGROUND = '0'
TASKS = {
    'make_tea': ['boil_water', 'warm_pot', 'add_leaves', 'pour_water', 'steep', 'serve'],
    'change_tyre': ['loosen_nuts', 'jack_up', 'remove_wheel', 'mount_wheel', 'tighten_nuts', 'lower_car'],
    'dress_wound': ['wash_hands', 'clean_wound', 'dry_wound', 'apply_ointment', 'place_pad', 'wrap_bandage'],
}
PARTS_OF_PEOPLE = {'train': 0.7, 'val': 0.1, 'test': 0.2}
TURN = 1.5 * np.pi  # angle from an action's first to its last frame; after a full circle both would look the same
PHASE_PLANES = 3
FRAME_SHAPE = (8, 3, 3)  # C, H, W of the frames
TYPICAL_FRAMES = 150  # of a recording
MAX_RECORDINGS = 100_000
# Minimum and maximum of each setting: amplitudes that fit into float16 frames, durations that give small files.
LIMITS = {'people': (4, 1000), 'repetitions': (1, 1000), 'width': (2 * PHASE_PLANES, 4096), 'noise': (0, 10),
          'phase': (0, 10), 'style': (0, 10), 'pace': (0, 1), 'variation': (0, 1)}


@dataclass(frozen=True)
class DemoSettings:
    """Size and difficulty of the demo dataset; ``LIMITS`` holds the range of each.

    Attributes:
        people: number of people who perform every task; the last people are used for validation and test.
        repetitions: number of recordings per person and task.
        width: D of the features.
        noise: std of the noise of a feature.
        phase: amplitude of the phase within an action.
        style: std of a person's constant offset; half of it is the std of the gain of each feature.
        pace: std of the log of a person's pace.
        variation: std of the log of a single action's duration.
    """

    people: int = 10
    repetitions: int = 2
    width: int = 48
    noise: float = 0.2
    phase: float = 1.0
    style: float = 0.2
    pace: float = 0.45
    variation: float = 0.3


class _World:
    """Parameters common to all recordings: appearance and duration of each label, style and pace of each person."""

    def __init__(self, settings: DemoSettings, rng: np.random.Generator) -> None:
        self.settings = settings
        steps = [step for task in TASKS.values() for step in task]
        directions = np.linalg.qr(rng.normal(size=(settings.width, settings.width)))[0]
        self.planes = directions[:2 * PHASE_PLANES].reshape(PHASE_PLANES, 2, settings.width)
        looks = rng.normal(size=(len(steps) + 1, settings.width)) / 2
        self.looks = dict(zip([BACKGROUND, *steps], looks, strict=True))
        self.angles = {step: rng.uniform(0, 2 * np.pi, PHASE_PLANES) for step in steps}
        # Spread evenly on a log scale, so that every task has short and long actions.
        self.durations = {step: base for task in TASKS.values()
                          for step, base in zip(task, rng.permutation(np.geomspace(7, 45, len(task))), strict=True)}
        self.paces = np.exp(mirrored(settings.people, rng) * settings.pace)
        self.offsets = rng.normal(size=(settings.people, settings.width)) * settings.style
        self.gains = 1 + rng.normal(size=(settings.people, settings.width)) * settings.style / 2
        self.to_frames = rng.normal(size=(settings.width, int(np.prod(FRAME_SHAPE)))) / np.sqrt(settings.width)

    def features(self, segments: Sequence[tuple[str, int, int]], person: int, rng: np.random.Generator) -> np.ndarray:
        """Return the features (T, D) of consecutive segments (label, start, end)."""
        clean = np.concatenate([self._segment(label, end - start) for label, start, end in segments])
        noisy = clean + rng.normal(size=clean.shape) * self.settings.noise
        return (noisy * self.gains[person] + self.offsets[person]).astype(np.float32)

    def _segment(self, label: str, frames: int) -> np.ndarray:
        look = np.tile(self.looks[label], (frames, 1))
        if label == BACKGROUND:
            return look
        progress = np.arange(1, frames + 1) / frames
        angles = self.angles[label] + TURN * progress[:, None]  # (frames, planes)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (frames, planes, 2)
        return look + self.settings.phase * np.einsum('fpc,pcd->fd', circle, self.planes)


def mirrored(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw numbers with std 1 in pairs (x, -x), so that the two test people are not both fast."""
    half = rng.uniform(0.5, 1.5, size=(count + 1) // 2)
    return np.stack([half, -half], axis=1).ravel()[:count] / np.sqrt(np.mean(half**2))


def _draw_segments(world: _World, task: str, person: int, rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Draw the actions of a recording, some swapped, skipped or repeated, with background in between."""
    steps = list(TASKS[task])
    for position in range(len(steps) - 1):
        if rng.random() < 0.25:
            steps[position:position + 2] = steps[position + 1], steps[position]
    labels = [step for step in steps for _ in range(int(rng.choice([0, 1, 2], p=[0.1, 0.75, 0.15])))]
    labels = labels or steps[:1]  # if every action was skipped, the recording would be empty
    segments, end = [], 0
    for label in [BACKGROUND, *(label for step in labels for label in (step, BACKGROUND))]:
        if label == BACKGROUND:
            frames = int(rng.integers(2, 12)) if rng.random() < 0.6 else 0
        else:
            pace = world.paces[person] * np.exp(rng.normal() * world.settings.variation)
            frames = max(2, round(world.durations[label] * pace))
        if frames:
            segments.append((label, end, end + frames))
            end += frames
    return segments


def write_demo(out: Path, name: str = 'demo', seed: int = 0, settings: DemoSettings | None = None, *,
               overwrite: bool = False) -> dict[str, Path]:
    """Write the demo dataset: features, frames, annotations, and a split of people, some of them unseen in training.

    Args:
        out: folder that ``data/`` and ``dset_jsons/`` are written to.
        name: name of the dataset.
        seed: random seed, >= 0.
        settings: size and difficulty.
        overwrite: True to replace a dataset of that name.

    Returns:
        Environment variable -> folder to set it to.

    Raises:
        UserError: the dataset exists and ``overwrite`` is False; the name, the seed or a setting is invalid; or ``out``
            cannot be written to.
    """
    settings = settings or DemoSettings()
    _check(name, seed, settings)
    paths = {'DATASET_PATH': out / 'data', 'JSON_DPATH': out / 'dset_jsons', 'OUTPUT_PATH': out / 'output'}
    annotation_path = paths['JSON_DPATH'] / f'{name}.json'
    if annotation_path.exists() and not overwrite:
        raise UserError(f'{annotation_path}: this dataset exists; --overwrite replaces it, or choose another --name')
    _check_room(out, settings)
    world = _World(settings, np.random.default_rng([seed, 0]))
    annotations, splits = {}, {}
    folders = [paths['DATASET_PATH'] / name / kind for kind in ('features', 'frames')]
    with staged_dataset(folders, annotation_path, f'OUT = {out}: choose another folder') as staged:
        for number, task in enumerate(TASKS):
            annotations[task], splits[task] = _write_task(world, task, staged.folders,
                                                          np.random.default_rng([seed, 1 + number]))
        people = {handle: handle.partition('_')[0] for task in annotations.values() for handle in task['handles']}
        staged.commit(annotation_path, annotations, paths['JSON_DPATH'] / f'{name}.splits.json',
                      Splits(splits, people).as_json())
    return paths


def _check(name: str, seed: int, settings: DemoSettings) -> None:
    """Check the arguments before an earlier dataset is changed."""
    check_new_name(name, '--name')
    if seed < 0:
        raise UserError(f'--seed {seed}: expected 0 or more')
    for field in fields(settings):
        value, (least, most) = getattr(settings, field.name), LIMITS[field.name]
        if not least <= value <= most:  # written this way, NaN is refused, too
            raise UserError(f'--{field.name} {value}: expected {least} to {most}')


def _check_room(out: Path, settings: DemoSettings) -> None:
    """Check that the dataset, whose size follows from the settings, fits on the disk before hours of writing.

    Raises:
        UserError: it does not fit.
    """
    existing = next((folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists()), Path('/'))
    recordings = len(TASKS) * settings.people * settings.repetitions
    if recordings > MAX_RECORDINGS:
        raise UserError(f'--people {settings.people} --repetitions {settings.repetitions}: {recordings:,} recordings, '
                        f'which take hours; expected at most {MAX_RECORDINGS:,}')
    frame_bytes = 4 * settings.width + 2 * int(np.prod(FRAME_SHAPE))  # float32 features, float16 frames
    needed, free = recordings * TYPICAL_FRAMES * frame_bytes, shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(f'{recordings:,} recordings need about {needed / 2**30:,.1f} GiB, and {existing} has '
                        f'{free / 2**30:,.1f} GiB left; give fewer --people or --repetitions, or a smaller --width')


def _write_task(world: _World, task: str, folders: Mapping[Path, Path],
                rng: np.random.Generator) -> tuple[dict, dict]:
    """Write the recordings of a task to the folders of features and of frames; return annotations and split."""
    keys = ('handles', 'hdl_actions', 'hdl_start_times', 'hdl_end_times')
    annotations: dict[str, list] = {key: [] for key in keys}
    split: dict[str, list[str]] = {part: [] for part in PARTS_OF_PEOPLE}
    for person in range(world.settings.people):
        for repetition in range(world.settings.repetitions):
            handle = f'p{person:02d}_{task}_{repetition + 1}'
            segments = _draw_segments(world, task, person, rng)
            features = world.features(segments, person, rng)
            frames = (features @ world.to_frames).reshape(-1, *FRAME_SHAPE).astype(np.float16)
            for folder, array in zip(folders.values(), (features, frames), strict=True):
                np.save(folder / f'{handle}.npy', array)
            # As in real annotations, the last end is T in some recordings and T - 1 in others.
            ends = [end for _, _, end in segments[:-1]] + [len(features) - (repetition % 2)]
            for key, value in zip(keys, (handle, [label for label, _, _ in segments],
                                         [start for _, start, _ in segments], ends), strict=True):
                annotations[key].append(value)
            split[_part_of(person, world.settings.people)].append(handle)
    return annotations, split


def _part_of(person: int, people: int) -> str:
    """Return the part of the split that a person's recordings belong to."""
    test = max(1, round(PARTS_OF_PEOPLE['test'] * people))
    val = max(1, round(PARTS_OF_PEOPLE['val'] * people))
    if person >= people - test:
        return 'test'
    return 'val' if person >= people - test - val else 'train'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = OneLineParser(prog='python -m tools.demo', description='Write a synthetic demo dataset.')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write to')
    parser.add_argument('--name', default='demo', help='name of the dataset; use egoprocel for --ego to find it')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--overwrite', action='store_true', help='replace a dataset of that name')
    for field in fields(DemoSettings):
        parser.add_argument(f'--{field.name}', type=field.type, default=field.default,
                            help=f'{LIMITS[field.name][0]} to {LIMITS[field.name][1]}, default {field.default}')

    def command() -> None:
        arguments = parser.parse_args(argv)
        settings = DemoSettings(**{field.name: getattr(arguments, field.name) for field in fields(DemoSettings)})
        paths = write_demo(arguments.out, arguments.name, arguments.seed, settings, overwrite=arguments.overwrite)
        say(f'Wrote the dataset {arguments.name}: synthetic recordings of {settings.people} people and '
              f'{len(TASKS)} tasks, test people unseen in training. To use it:\n')
        for variable, path in paths.items():
            say(f'export {variable}={shlex.quote(str(path.resolve()))}')
        splits = paths['JSON_DPATH'].resolve() / f'{arguments.name}.splits.json'
        say(f'\nand give its split to training: --dataset {shlex.quote(arguments.name)} --splits '
              f'{shlex.quote(str(splits))}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

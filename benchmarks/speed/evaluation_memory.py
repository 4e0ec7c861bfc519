"""Memory of an evaluation against the number of recordings; printed by benchmarks.speed.scale."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speed.hours import PRESET, cost_of
from benchmarks.speed.measure import MIB

NAME = 'many'
TRAINED = 40  # recordings that the evaluated run is trained on
Writer = Callable[[Path, int], None]  # writes the dataset NAME with so many recordings into a folder


def evaluation_rows(counts: Sequence[int], values: int, write: Writer) -> list[dict[str, str]]:
    """Train the preset on a few recordings, evaluate it on collections of several sizes, and return a row for each.

    Args:
        counts: numbers of recordings of one task; half of them are training recordings, which baselines and probes
            are fitted to, and half are test recordings.
        values: numbers in the features of a recording.
        write: writes a collection.
    """
    with tempfile.TemporaryDirectory(prefix='evaluation_') as name:
        root = Path(name)
        run = root / 'output' / 'multi-task-setting' / f'V1___GTCC_{NAME}'
        rows = []
        for count in (TRAINED, *counts):
            folder = root / str(count)
            environment = {'DATASET_PATH': str(folder), 'JSON_DPATH': str(folder), 'OUTPUT_PATH': str(root / 'output'),
                           'OMP_NUM_THREADS': '1'}
            split = _write(folder, count, write)
            if not rows:
                cost_of(['multitask_train.py', '1', '--dataset', NAME, '--config', PRESET, '--splits', str(split)],
                        environment)
            (run / 'splits.json').write_text(split.read_text())  # the run is evaluated on the split in its folder
            cost = cost_of(['eval.py', '-f', str(run)], environment)
            rows.append({'recordings': str(count), 'features': f'{count * values * 4 / MIB:.0f} MiB',
                         'evaluation': f'{cost.seconds:.0f} s', 'peak memory': f'{cost.peak_mib:.0f} MiB'})
            print(rows[-1], file=sys.stderr, flush=True)  # the next size takes several times as long
        return rows


def _write(folder: Path, count: int, write: Writer) -> Path:
    """Write a collection and its split, half training and half test recordings, and return the file of the split."""
    features = folder / NAME / 'features'
    features.mkdir(parents=True)
    write(features, count)
    (features / f'{NAME}.json').rename(folder / f'{NAME}.json')
    splits = {task: {'train': of_task['handles'][::2], 'val': [], 'test': of_task['handles'][1::2]}
              for task, of_task in json.loads((folder / f'{NAME}.json').read_text()).items()}
    path = folder / f'{NAME}.splits.json'
    path.write_text(json.dumps({'splits': splits}))
    return path

"""Read mutated tables, label files and imports: python -m benchmarks.reliability.fuzz_inputs.

Each case must give a valid result or a UserError of one line, never another exception or a hang. A case depends only on
the seed and its number.
"""

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.reliability.fuzz_loaders import MUTATIONS, Outcome, fuzz_command, run_case, write_dataset
from benchmarks.reliability.mutations import mutate_bytes, mutate_json
from configs.generic_config import CONFIG
from recordings.segment_tables import TableOptions, read_tables
from recordings.time_columns import COLUMNS
from recordings.times import UNITS
from tools import import_segments
from tools.frame_labels import read_label_file
from tools.inspection import inspect_dataset

TIMES = ('0', '1', '2.5', '1,5', '1,000', '1.000.000', '0:01', '00:00:01.5', '00:00:01,250', '0:75', '00:00:01:12',
         '00:00:01;12', '1e3', '1e9999', 'nan', '-1', '١', '1/2', '1_0', '', '12 345', '9' * 400)
HEADERS = ('start', 'end', 'label', 'recording', 'start_frame', 'stop_frame', 'start_timestamp', 'end_sec', 'video_id',
           'Begin Time - msec', 'End Time - hh:mm:ss.ms', 'action', 'duration', 'startframe', '', '#', 'START')
LABELS = ('pour', 'SIL', '0', 'BG', '-100', 'pour, slowly', '"open', 'a "b" c', '#1', '1-30 SIL', '31 187 G1', 'label',
          'Frame\tPhase', '3\tpour', 'pour 0.9', '', ' ', 'x' * 2000)
WORDS = ('seconds', 'frames', 'milliseconds', '10', '1', '-1', '30000/1001', 'label=1', 'start=2', 'end=x', 'demo',
         'auto', 'cpu', '.', '~', '~nobody_of_this_name', '^(P[0-9]+)', '(', '{}', 'a=1', 'LEARNING_RATE=2',
         'LOSS_TYPE.tcc=true', 'NUM_EPOCHS=NaN')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return fuzz_command('fuzz_inputs', 'Mutated tables, label files and imports.', fuzz, argv)


def fuzz(seed: int, numbers: Sequence[int]) -> dict[str, Outcome]:
    """Run cases by their numbers; see :func:`benchmarks.reliability.fuzz_loaders.fuzz`."""
    outcomes = {kind: Outcome() for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {'DATASET_PATH': str(folder / 'data'), 'JSON_DPATH': str(folder / 'json'), 'HOME': str(folder)}
        with (patch.dict(os.environ, paths), contextlib.redirect_stdout(io.StringIO()),
              warnings.catch_warnings(action='ignore')):  # from numpy, about headers that it can still parse
            for number in numbers:
                draw = random.Random(f'{seed}/{number}')
                kind = draw.choice(tuple(KINDS))
                run_case(KINDS[kind](folder, draw), outcomes[kind], number)
    return outcomes


def _table(draw: random.Random) -> bytes:
    """Return a table as text: mostly a valid one with a few changes."""
    sign = draw.choice([',', ';', '\t', '|', ' ', ', '])
    valid = draw.random() < 0.8
    rows = [['recording', 'start', 'end', 'label']] if valid else [draw.choices(HEADERS, k=draw.randint(1, 6))]
    rows += [['a', str(10 * number), str(10 * number + draw.randint(0, 10)), 'pour'] for number in range(4)]
    for _ in range(draw.randint(0, 2)):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = draw.choice(draw.choice((TIMES, LABELS, HEADERS)))
    if draw.random() < 0.2:
        rows.insert(draw.randint(0, len(rows)), [draw.choice(('# comment "', '// x', '%', '', '-'))])
    if draw.random() < 0.1:
        del rows[0]
    text = draw.choice(('\n', '\n', '\n', '\r\n', '\r')).join(sign.join(row) for row in rows)
    return mutate_bytes(text.encode(), draw) if draw.random() < 0.1 else text.encode()


def _options(draw: random.Random) -> TableOptions:
    unit = draw.choice(UNITS)
    columns = {column: draw.choice((*HEADERS[:8], '1', '2', '3', '4')) for column in COLUMNS if draw.random() < 0.02}
    fps, timecode = None if unit == UNITS[0] else Fraction(10), draw.choice((None, Fraction(30000, 1001)))
    return TableOptions(fps, unit, timecode, int(draw.random() < 0.1), inclusive_ends=draw.random() < 0.2,
                        trim_overlaps=draw.random() < 0.5, needs_labels=draw.random() < 0.7, columns=columns)


def _read_table(folder: Path, draw: random.Random) -> Callable[[], None]:
    ending = draw.choice(('.csv', '.tsv', '.txt', '.json'))
    entries = [[10 * number, 10 * number + 5, draw.choice(LABELS)] for number in range(4)]
    path = folder / f'table{ending}'
    path.write_bytes(mutate_json(entries, draw) if ending == '.json' else _table(draw))
    options = _options(draw)

    def read() -> None:
        for segments in read_tables(path, options).values():
            assert all(0 <= start <= end for start, end in zip(segments.starts, segments.ends, strict=True))
            assert all(end <= start for end, start in zip(segments.ends, segments.starts[1:], strict=False))
            assert all(label or not options.needs_labels for label in segments.labels)
    return read


def _labels(draw: random.Random) -> bytes:
    """Return a label file: runs of equal labels with a few other lines, frame numbers or ranges."""
    lines = [label for label in draw.choices(LABELS[:5], k=4) for _ in range(draw.randint(1, 8))]
    form = draw.choice(('{label}', '{label}', '{number}\t{label}', '{label},{number}', '{number}-{number} {label}'))
    lines = [form.format(number=number, label=label) for number, label in enumerate(lines)]
    for _ in range(draw.randint(0, 2)):
        lines[draw.randrange(len(lines))] = draw.choice(LABELS)
    data = '\n'.join([*draw.choice(([], ['label'], ['Frame,Phase'])), *lines]).encode()
    return mutate_bytes(data, draw) if draw.random() < 0.2 else data


def _read_labels(folder: Path, draw: random.Random) -> Callable[[], None]:
    path, mapping = folder / 'labels.txt', draw.choice((None, dict(enumerate(LABELS[:5]))))
    path.write_bytes(_labels(draw))
    mapping = None if mapping is None else {str(index): label for index, label in mapping.items()}

    def read() -> None:
        segments = read_label_file(path, mapping)
        assert segments.starts[0] == 0 and segments.ends[-1] == segments.length
        assert segments.ends[:-1] == segments.starts[1:]
        assert all(one != other for one, other in pairwise(segments.labels))
    return read


def _import(folder: Path, draw: random.Random) -> Callable[[], None]:
    source = folder / 'source'
    (source / 'groundTruth').mkdir(parents=True, exist_ok=True)
    (source / 'features').mkdir(exist_ok=True)
    time_last = draw.random() < 0.5
    for name in ('a', 'b', 'c'):
        data = _labels(draw) if draw.random() < 0.1 else b'pour\n' * 9 + b'stir\n' * draw.randint(4, 6)
        (source / f'groundTruth/{name}.txt').write_bytes(data)
        frames = 14 if draw.random() < 0.9 else draw.choice((7, 30))
        shape = (4, frames) if time_last else (frames, 4)
        np.save(source / f'features/{name}.npy', np.zeros(shape if draw.random() < 0.95 else shape[::-1], np.float32))
    options = draw.sample(WORDS, draw.randint(0, 2)) if draw.random() < 0.2 else []
    arguments = ['fuzzed', str(source), '--overwrite', *options]

    def read() -> None:
        import_segments.import_dataset(import_segments.build_parser().parse_args(arguments))
        for fields in json.loads((folder / 'json/fuzzed.json').read_text()).values():
            assert all(actions for actions in fields['hdl_actions'])
    return read


def _inspect(folder: Path, draw: random.Random) -> Callable[[], None]:
    write_dataset(folder)
    draw.choice([mutate for mutate in MUTATIONS.values() if mutate])(folder, draw)

    def read() -> None:
        found = inspect_dataset(folder / 'set.json', folder / 'features', background=CONFIG.BACKGROUND_LABELS)
        assert not any('\n' in message for message in (*found.problems, *found.notes))
    return read


KINDS: dict[str, Callable[[Path, random.Random], Callable[[], None]]] = {
    'tables': _read_table, 'label files': _read_labels, 'imports': _import, 'inspections': _inspect}


if __name__ == '__main__':
    sys.exit(main())

"""A table of several runs next to the baselines: python -m evaluation.compare RUN RUN ... [-o FILE].

It reads what ``eval.py`` wrote. Runs that differ in the seed alone are one row: mean and standard deviation.
"""

import argparse
import csv
import io
import json
import math
import re
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.compared_tables import WRITERS, Summary, Values, as_text
from evaluation.evaluated import check_evaluated
from recordings.splits import load_run_splits
from utils.command_line import OneLineParser, run_command
from utils.errors import UserError, name_some
from utils.files import read_bounded, read_json, write_text
from utils.run_folder import RunFolder, is_single_task_folder
from utils.standard_streams import say
from utils.tables import MEAN

HEAD_COLUMNS = ('action_progress.mae', 'action_progress.skill', 'unsegmented.mae', 'unsegmented.frame_accuracy',
                'unsegmented.edit', 'overall.mae')
EMBEDDING_COLUMNS = ('phase_classification.accuracy_100', 'phase_progression.r2', 'kendalls_tau.kendalls_tau',
                     'kendalls_tau_wild.kendalls_tau_wild', 'enclosed_area_error.enclosed_area_error', 'ogpe.ogpe')
# Settings in which repetitions of one configuration may differ.
REPETITION = ('VERSION', 'EXPERIMENTNAME', 'SEED')
BASELINE, CHECKPOINT = 'baseline_', 'best_model_'


@dataclass(frozen=True)
class EvaluatedRun:
    """The values of a run.

    Attributes:
        path: its folder.
        tables: folder of its tables.
        configuration: its settings without the seed, and its split, as text; equal for repetitions.
        seed: its seed.
        tests: task -> its test recordings.
        values: values of the row of the chosen task.
    """

    path: Path
    tables: Path
    configuration: str
    seed: int
    tests: Mapping[str, list[str]]
    values: Values


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m evaluation.compare', description='A table of evaluated runs next to the '
                           'baselines; runs that differ in the seed only are one row, mean and std.')
    parser.add_argument('runs', nargs='+', type=Path, metavar='RUN',
                        help='run folder, or folder of single-task runs, that eval.py has evaluated')
    parser.add_argument('--columns', nargs='+', metavar='TABLE.COLUMN', help='columns of docs/metrics.md, such as '
                        'action_progress.mae; default: progress if a run has a progress head, else the embeddings')
    parser.add_argument('--task', default=MEAN, help='row of the tables; default: the mean over tasks')
    parser.add_argument('--checkpoint_type', choices=['combined', 'alignment'], default='combined',
                        help='lowest total loss (default), or lowest alignment loss')
    parser.add_argument('-o', '--output', type=Path, metavar='FILE', help=f'also write {" or ".join(WRITERS)}')
    arguments = parser.parse_args(argv)
    if arguments.output and arguments.output.suffix not in WRITERS:
        parser.error(f'-o {arguments.output}: expected a name that ends in {" or ".join(WRITERS)}')
    return arguments


def read_run(path: Path, checkpoint: str, task: str) -> EvaluatedRun:
    """Read the tables that ``eval.py`` wrote of a run.

    Args:
        path: run folder.
        checkpoint: name of the checkpoint, without its ending.
        task: task of the row to read, or MEAN.

    Raises:
        UserError: the folder is not a run or has not been evaluated since it was trained, or there is no such task.
    """
    run, configs = RunFolder(path), _configurations(path)
    folder = path / configs[0]['EVAL_PLOTFOLDER'] / checkpoint
    again = f'python eval.py -f {shlex.quote(str(path))} --checkpoint_type {checkpoint.removeprefix(CHECKPOINT)}'
    tables = sorted(folder.glob('*.csv'))
    if not tables:
        raise UserError(f'{folder}: contains no tables, expected those of an evaluation; run: {again}')
    check_evaluated(folder, again)
    values: Values = {}
    tasks: list[str] = []
    for table in tables:
        rows = list(csv.DictReader(io.StringIO(read_bounded(table))))
        # by_group.csv has a row per metric, intervals_by_tenth.csv several per task: neither has one value per task.
        if not rows or len({row.get('task') for row in rows}) < len(rows):
            continue
        tasks = tasks or [row['task'] for row in rows]
        row = next((row for row in rows if row['task'] == task), {})
        try:
            values |= {f'{table.stem}.{column}': float(text) if text else math.nan
                       for column, text in row.items() if column != 'task'}
        except (TypeError, ValueError) as error:
            raise UserError(f'{table}: {error}, expected a table of eval.py; evaluate the run again') from error
    if not values:
        raise UserError(f'--task {task}: not in the evaluation of {path}, expected one of {name_some(tasks)}')
    splits = load_run_splits(run.splits)
    fixed = [{key: value for key, value in config.items() if key not in REPETITION} for config in configs]
    return EvaluatedRun(path, folder, json.dumps([fixed, splits], sort_keys=True), configs[0]['SEED'],
                        {task: sorted(parts['test']) for task, parts in splits.items()}, values)


def _configurations(path: Path) -> list[dict]:
    """Return the configuration of a run, or those of the runs in a folder of ``singletask_train.py``.

    Raises:
        UserError: the folder is neither.
    """
    if is_single_task_folder(path):
        # A task has a run of its own, with settings that depend on its recordings, but one seed.
        files = [path / task / RunFolder(path).config.name for task in load_run_splits(RunFolder(path).splits)]
    else:
        files = [RunFolder(path).config]
    if missing := next((file for file in files if not file.is_file()), None):
        raise UserError(f'{missing.parent}: contains no {missing.name}, expected a run folder, as printed by training')
    return [read_json(file, 'the configuration of a run') for file in files]


def check_comparable(runs: Sequence[EvaluatedRun]) -> None:
    """Check that all runs are tested on the same recordings, and that none is there twice.

    Raises:
        UserError: a run is tested on other recordings than the first one, or has settings and seed of another one.
    """
    known: dict[tuple[str, int], Path] = {}
    for run in runs:
        # With the same seed the values are the same: the spread would be too small.
        other = known.setdefault((run.configuration, run.seed), run.path)
        if other is not run.path:
            raise UserError(f'{run.path}: has the settings and the seed ({run.seed}) of {other}; leave one out')
    for run in runs[1:]:
        if run.tests != runs[0].tests:
            raise UserError(f'{run.path}: tested on other recordings than {runs[0].path}, so their values cannot be '
                            'compared; train both with the same --splits')


def choose_columns(asked: Sequence[str] | None, runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the columns to show: those asked for, or those of the defaults that a run has a value of.

    Raises:
        UserError: no run has a column that was asked for.
    """
    known = {column for run in runs for column in run.values}
    if asked:
        if unknown := next((column for column in asked if column not in known), None):
            table = unknown.partition('.')[0]
            near = sorted(column for column in known if column.startswith(f'{table}.')) or sorted(known)
            raise UserError(f'--columns {unknown}: in no evaluation of these runs, expected one of '
                            f'{name_some(near, 60)}')
        return list(asked)
    return [column for column in HEAD_COLUMNS if column in known] or [column for column in EMBEDDING_COLUMNS
                                                                      if column in known]


def summarize(name: str, values: Sequence[Values], columns: Sequence[str], runs: int | None) -> Summary:
    """Return mean and sample standard deviation of each column over those values that exist."""
    present = {column: [one[column] for one in values if not math.isnan(one.get(column, math.nan))]
               for column in columns}
    return Summary(name, runs, {column: statistics.mean(found) if found else math.nan
                                for column, found in present.items()},
                   {column: statistics.stdev(found) if len(found) > 1 else math.nan
                    for column, found in present.items()})


def compare(runs: Sequence[EvaluatedRun], columns: Sequence[str]) -> list[Summary]:
    """Return a row per configuration, in the order of the runs, and below them a row per baseline."""
    configurations: dict[str, list[EvaluatedRun]] = {}
    for run in runs:
        configurations.setdefault(run.configuration, []).append(run)
    # V0___GTCC_demo.mine and V1___GTCC_demo.mine are GTCC_demo.mine, unless another configuration has that name.
    short = [re.sub('^V.*?___', '', group[0].path.resolve().name) for group in configurations.values()]
    rows = [summarize(name if short.count(name) == 1 else group[0].path.resolve().name,
                      [run.values for run in group], columns, len(group))
            for name, group in zip(short, configurations.values(), strict=True)]
    for baseline in find_baselines(runs):
        values = [{column: run.values.get(baseline_column(baseline, column), math.nan) for column in columns}
                  for run in runs]
        row = summarize(f'baseline: {baseline}', values, columns, None)
        if not all(map(math.isnan, row.means.values())):
            rows.append(row)
    return rows


def find_baselines(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the names of the baselines, those with an error of progress: ``baseline_NAME`` next to ``mae``."""
    found: dict[str, None] = {}
    for run in runs:
        for column in run.values:
            table, _, name = column.partition('.')
            own = [other.partition('.')[2] for other in run.values if other.startswith(f'{table}.')]
            # baseline_probe_edit is the column edit of the baseline probe, not another baseline.
            of_column = any(name.endswith(f'_{other}') for other in [*own, 'remaining'])
            if name.startswith(BASELINE) and 'mae' in own and not of_column:
                found[name.removeprefix(BASELINE)] = None
    return list(found)


def baseline_column(baseline: str, column: str) -> str:
    """Return the column of a baseline that belongs to a column of the run: ``mae`` has no name of its own."""
    table, _, name = column.partition('.')
    what = name.removesuffix('mae').rstrip('_')
    return f'{table}.{BASELINE}{baseline}{f"_{what}" if what else ""}'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        checkpoint = f'{CHECKPOINT}{arguments.checkpoint_type}'
        runs = [read_run(path, checkpoint, arguments.task) for path in arguments.runs]
        check_comparable(runs)
        # A file there would replace a table of the run, or be read as another one.
        if arguments.output and arguments.output.resolve().parent in {run.tables.resolve() for run in runs}:
            raise UserError(f'-o {arguments.output}: is in the folder of the tables that are compared, expected '
                            'another one; choose another folder')
        columns = choose_columns(arguments.columns, runs)
        rows = compare(runs, columns)
        if arguments.output:
            write_text(arguments.output, WRITERS[arguments.output.suffix](rows, columns) + '\n')
        say(as_text(rows, columns))

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

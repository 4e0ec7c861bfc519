"""What the evaluation of a checkpoint found, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from easydict import EasyDict

from evaluation.intervals import TENTHS_TABLE, with_mean_tenths
from evaluation.progress_metrics import PROGRESS_TABLE, skill
from utils.files import make_folder, remove_leftovers
from utils.tables import Row, with_mean_row, write_table


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a checkpoint found.

    Attributes:
        checkpoint: its name without '.pt'.
        epoch: epoch that it was saved after; of several runs, their epochs.
        lookahead: frames that the encoder sees ahead.
        folder: where tables and pictures lie.
        tables: name of the metric -> rows, the last one MEAN.
        steps: task -> errors by step, from ``errors_by_step``; empty without a progress head.
        config: configuration of the run.
        missing: tables that are left out -> what the head does not do, as the rest of a sentence.
        tenths: coverage and width of intervals by task and tenth of progress; empty if the head predicts none.
    """

    checkpoint: str
    epoch: int | str
    lookahead: int
    folder: Path
    tables: dict[str, list[Row]]
    steps: dict[str, list[Row]]
    config: EasyDict
    missing: dict[str, str] = field(default_factory=dict)
    tenths: list[Row] = field(default_factory=list)


def results_folder(root: Path, config: EasyDict, checkpoint: str) -> Path:
    """Make the folder of a checkpoint's tables and pictures, without what a killed evaluation left half written.

    Args:
        root: folder of the run, or of the runs that are gathered.
        config: of the run.
        checkpoint: its name without '.pt'.

    Raises:
        UserError: it cannot be made.
    """
    folder = root / config.EVAL_PLOTFOLDER / checkpoint
    make_folder(folder, 'make the run folder writable')
    remove_leftovers(folder)
    return folder


def finish_tables(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Append the MEAN row to each table that has rows; its skill is that of its own columns, not a mean of ratios."""
    tables = {name: with_mean_row(table) for name, table in rows.items() if table}
    if PROGRESS_TABLE in tables:
        mean = tables[PROGRESS_TABLE][-1]
        mean['skill'] = skill(mean)
    return tables


def write_tables(evaluation: Evaluation) -> None:
    """Write the tables into the evaluation's folder, and remove those of an earlier evaluation that it lacks."""
    for name in evaluation.missing:
        (evaluation.folder / f'{name}.csv').unlink(missing_ok=True)
    for name, rows in evaluation.tables.items():
        write_table(rows, evaluation.folder / f'{name}.csv')
    tenths = evaluation.folder / f'{TENTHS_TABLE}.csv'
    if evaluation.tenths:
        write_table(with_mean_tenths(evaluation.tenths), tenths)
    else:
        tenths.unlink(missing_ok=True)

"""What the evaluation of a checkpoint found, and how it is written."""

from dataclasses import dataclass, field
from pathlib import Path

from easydict import EasyDict

from evaluation.by_group import BY_GROUP_TABLE, by_group_rows
from evaluation.columns import described_columns
from evaluation.intervals import TENTHS_TABLE, with_mean_tenths
from utils.files import make_folder, remove_leftovers
from utils.tables import Row, write_table


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
        groups: name of the table -> task -> group of test recordings -> row; empty if groups are not known.
        chosen: weights that the progress head chose in training, by name; empty if it chooses none.
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
    groups: dict[str, dict[str, dict[str, Row]]] = field(default_factory=dict)
    chosen: dict[str, float] = field(default_factory=dict)

    def missing_columns(self, name: str) -> list[str]:
        """Return the columns of a table that it lacks, since the progress head does not offer them."""
        return [column for column in described_columns(name) if column not in self.tables[name][0]]


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


def write_tables(evaluation: Evaluation) -> None:
    """Write the tables into the evaluation's folder, and remove those of an earlier evaluation that it lacks."""
    for name in evaluation.missing:
        (evaluation.folder / f'{name}.csv').unlink(missing_ok=True)
    for name, rows in evaluation.tables.items():
        write_table(rows, evaluation.folder / f'{name}.csv')
    more = {TENTHS_TABLE: with_mean_tenths(evaluation.tenths) if evaluation.tenths else [],
            BY_GROUP_TABLE: by_group_rows(evaluation.groups)}
    for name, rows in more.items():
        if rows:
            write_table(rows, evaluation.folder / f'{name}.csv')
        else:
            (evaluation.folder / f'{name}.csv').unlink(missing_ok=True)

"""Results of the evaluation of a checkpoint, and their files."""

from dataclasses import dataclass, field
from pathlib import Path

from easydict import EasyDict

from evaluation.by_group import BY_GROUP_TABLE, by_group_rows
from evaluation.columns import described_columns
from evaluation.evaluated import EVALUATED, write_evaluated
from evaluation.intervals import TENTHS_TABLE, with_mean_tenths
from utils.files import remove_leftovers
from utils.folders import make_folder
from utils.tables import Row, write_table


@dataclass(frozen=True)
class Evaluation:
    """Results of the evaluation of a checkpoint.

    Attributes:
        checkpoint: name of the checkpoint without '.pt'.
        epoch: epoch after which it was saved; for several runs, their epochs.
        lookahead: number of future frames that the encoder sees.
        folder: folder of tables and pictures.
        tables: name of the metric -> rows; the last row is MEAN.
        steps: task -> errors by step, from ``StepErrors``; empty without a progress head.
        config: configuration of the run.
        missing: table that is left out -> the reason, as a predicate of "the progress head".
        groups: name of the table -> task -> group of test recordings -> row; empty if groups are unknown.
        chosen: weights that the progress head chose in training, by name; empty if there are no such weights.
        tenths: coverage and width of intervals by task and tenth of progress; empty if the head predicts no intervals.
        samples: what was evaluated on a sample of the recordings, a line each; empty if nothing was.
        files: checkpoint that was evaluated, for each task of single-task runs -> digest of its content.
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
    samples: list[str] = field(default_factory=list)
    files: dict[Path, str] = field(default_factory=dict)

    def missing_columns(self, name: str) -> list[str]:
        """Return the columns that a table lacks because the progress head does not offer them."""
        return [column for column in described_columns(name) if column not in self.tables[name][0]]


def results_folder(root: Path, config: EasyDict, checkpoint: str) -> Path:
    """Create the folder of a checkpoint's tables and pictures, and remove partly written files of a killed evaluation.

    Args:
        root: folder of the run, or of several single-task runs.
        config: configuration of the run.
        checkpoint: name of the checkpoint without '.pt'.

    Raises:
        UserError: the folder cannot be created.
    """
    folder = root / config.EVAL_PLOTFOLDER / checkpoint
    make_folder(folder, 'make the run folder writable')
    remove_leftovers(folder.parent)  # the report is written next to the folders of the checkpoints
    remove_leftovers(folder)
    return folder


def write_tables(evaluation: Evaluation) -> None:
    """Write the tables into the evaluation's folder, and remove other tables of an earlier evaluation."""
    # Without this file, which says what they are of, tables of a killed evaluation cannot be taken for whole.
    (evaluation.folder / EVALUATED).unlink(missing_ok=True)
    # Otherwise a table of an earlier evaluation, of another version of the run, would look current.
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
    write_evaluated(evaluation.folder, evaluation.files)

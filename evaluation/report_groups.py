"""Sections of a report on groups of test recordings, and on the weights that the progress head chose."""

import math
from collections.abc import Sequence

from evaluation.by_group import BY_GROUP_TABLE, GROUP_PREFIX, by_group_rows, main_rows
from evaluation.html_parts import Cell, heading, paragraph, table
from evaluation.report_tables import short_name, title
from evaluation.results import Evaluation
from utils.tables import Row, show_value

MOST_GROUPS = 12  # groups whose values are shown, at most


def groups_part(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show mean and std of the main metrics over groups of test recordings; show nothing if groups are unknown."""
    if not evaluations[0].groups:
        return []
    tables = [main_rows(by_group_rows(evaluation.groups)) for evaluation in evaluations]
    groups = [column for column in tables[0][0] if column.startswith(GROUP_PREFIX)][:MOST_GROUPS]
    # All checkpoints are evaluated on the same recordings, so their rows correspond one to one.
    rows = [(_metric(same[0]), [_cells(evaluation, row, groups, several=len(evaluations) > 1)
                                for evaluation, row in zip(evaluations, same, strict=True)])
            for same in zip(*tables, strict=True)]
    return [
        paragraph("Mean and std, over groups of test recordings (who performs them), of each group's mean over tasks: "
                  'an estimate for a new person and its uncertainty. All metrics, tasks, and groups are in '
                  f'{BY_GROUP_TABLE}.csv.'),
        table([Cell('mean over tasks'), *([Cell('checkpoint', 'text')] if len(evaluations) > 1 else []),
               Cell('groups'), Cell('mean'), Cell('std'),
               *(Cell(group.removeprefix(GROUP_PREFIX)) for group in groups)], rows)]


def _cells(evaluation: Evaluation, row: Row, groups: Sequence[str], *, several: bool) -> list[Cell]:
    values = [row[column] for column in ('num_groups', 'mean', 'std', *groups)]
    checkpoint = [Cell(short_name(evaluation), 'text')] if several else []
    return [*checkpoint, *(Cell(show_value(value)) for value in values)]


def _metric(row: Row) -> str:
    """Return the table and column of a row of ``by_group.csv``."""
    return f'{row["table"]}.{title(row["table"], row["column"])}'


def chosen_part(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the weights that the progress head chose; show nothing if there are no such weights."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.chosen)
    if not names:
        return []
    rows = [(name, [[Cell(show_value(evaluation.chosen.get(name, math.nan))) for evaluation in evaluations]])
            for name in names]
    return [heading('Weights that the progress head chose'),
            paragraph('Weight of each source of evidence, selected on recordings left out of the head\'s training.'),
            table([Cell('weight'), *(Cell(short_name(evaluation)) for evaluation in evaluations)], rows)]


def missing_part(evaluation: Evaluation, name: str) -> list[str]:
    """Name the columns that a table lacks; return nothing if it has all columns."""
    missing = [title(name, column) for column in evaluation.missing_columns(name)]
    return [paragraph(f'Without {", ".join(missing)}: the progress head of this run does not offer '
                      f'{"them" if len(missing) > 1 else "it"}.')] if missing else []

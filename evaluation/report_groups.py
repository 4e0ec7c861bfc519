"""The sections of a report on groups of test recordings, and on what the progress head chose by itself."""

import math
from collections.abc import Sequence

from evaluation.by_group import BY_GROUP_TABLE, GROUP_PREFIX, by_group_rows, main_rows
from evaluation.html_parts import Cell, heading, paragraph, table
from evaluation.report_tables import short_name, title
from evaluation.results import Evaluation
from utils.tables import Row, show_value

MOST_GROUPS = 12  # whose values are shown


def groups_part(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show mean and spread over groups of test recordings of the main metrics; nothing if groups are not known."""
    if not evaluations[0].groups:
        return []
    tables = [main_rows(by_group_rows(evaluation.groups)) for evaluation in evaluations]
    groups = [column for column in tables[0][0] if column.startswith(GROUP_PREFIX)][:MOST_GROUPS]
    rows = [(_metric(same[0]), [_cells(evaluation, row, groups, several=len(evaluations) > 1)
                                for evaluation, row in zip(evaluations, same, strict=True)])
            for same in zip(*tables, strict=True)]
    return [
        paragraph('Mean over groups of test recordings (who performs them) and standard deviation between groups, of '
                  "each group's mean over tasks: what to expect of the next person, and how far it may be off. All "
                  f'metrics, tasks, and groups are in {BY_GROUP_TABLE}.csv.'),
        table([Cell('mean over tasks'), *([Cell('checkpoint', 'text')] * (len(evaluations) > 1)), Cell('groups'),
               Cell('mean'), Cell('std'), *(Cell(group.removeprefix(GROUP_PREFIX)) for group in groups)], rows)]


def _cells(evaluation: Evaluation, row: Row, groups: Sequence[str], *, several: bool) -> list[Cell]:
    values = [row[column] for column in ('num_groups', 'mean', 'std', *groups)]
    return [*([Cell(short_name(evaluation), 'text')] * several), *(Cell(show_value(value)) for value in values)]


def _metric(row: Row) -> str:
    """Return the table and column of a row of ``by_group.csv``."""
    return f'{row["table"]}.{title(row["table"], row["column"])}'


def chosen_part(evaluations: Sequence[Evaluation]) -> list[str]:
    """Show the weights that the progress head chose; nothing if it chose none."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.chosen)
    if not names:
        return []
    rows = [(name, [[Cell(show_value(evaluation.chosen.get(name, math.nan))) for evaluation in evaluations]])
            for name in names]
    return [heading('Weights that the progress head chose'),
            paragraph('How much each source of evidence counts: decided on recordings left out of its training.'),
            table([Cell('weight'), *(Cell(short_name(evaluation)) for evaluation in evaluations)], rows)]


def missing_part(evaluation: Evaluation, name: str) -> list[str]:
    """Name the columns that a table lacks; nothing if it lacks none."""
    missing = [title(name, column) for column in evaluation.missing_columns(name)]
    return [paragraph(f'Without {", ".join(missing)}: the progress head of this run does not offer '
                      f'{"them" if len(missing) > 1 else "it"}.')] if missing else []

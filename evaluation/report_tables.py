"""Tables of a report that compare checkpoints, baselines, and metrics."""

from collections.abc import Callable, Sequence

from evaluation.baselines import BASELINES, LABEL_FREE
from evaluation.columns import COUNT_PREFIX, column_of
from evaluation.html_parts import Cell, table
from evaluation.progress_metrics import PROGRESS_TABLE
from evaluation.results import Evaluation
from utils.tables import MEAN, Row, show_value


def baselines_table(key: str, evaluations: Sequence[Evaluation], tables: Sequence[Sequence[Row]]) -> str:
    """Return a table of errors of head and baselines; ``tables`` has the rows, named by ``key``, of each checkpoint."""
    predictors = ['mae', *(f'baseline_{name}' for name in BASELINES)]
    rivals = [f'baseline_{name}' for name in LABEL_FREE]

    def cells(row: Row) -> list[Cell]:
        # The best of all is shaded, even if it is told the label; the best rival is what skill compares with.
        best, best_rival = (min(row[column] for column in columns) for columns in (predictors, rivals))
        kinds = {column: ' '.join((['best'] if row[column] == best else [])
                                  + (['rival'] if column in rivals and row[column] == best_rival else []))
                 for column in predictors}
        return [Cell(show_value(row['num_actions'])), *(Cell(show_value(row[column]), kinds[column])
                                                        for column in predictors), Cell(show_value(row['skill']))]

    told = {name: '' if name in LABEL_FREE else ' (given the step)' for name in BASELINES}
    heads = ['actions', 'progress head', *(name.replace('_', ' ') + told[name] for name in BASELINES),
             title(PROGRESS_TABLE, 'skill')]
    return _by_checkpoint(key, heads, evaluations, tables, cells)


def metrics_table(evaluations: Sequence[Evaluation], names: Sequence[str], skip: Sequence[str] = ()) -> str:
    """Return the model's own columns of several tables as one table, a row per task and checkpoint.

    Args:
        evaluations: evaluations of the checkpoints; all of them have the tables.
        names: names of tables with the same tasks.
        skip: columns to leave out.
    """
    columns = [(name, column) for name in names for column in own_columns(evaluations[0].tables[name][0])
               if column not in skip]
    return columns_table(evaluations, columns)


def columns_table(evaluations: Sequence[Evaluation], columns: Sequence[tuple[str, str]]) -> str:
    """Return columns, given as (table, column), of tables with the same tasks, a row per task and checkpoint."""
    names = list(dict.fromkeys(name for name, _ in columns))
    merged = [[{'task': rows[0]['task'], **{(name, column): value for name, row in zip(names, rows, strict=True)
                                            for column, value in row.items()}}
               for rows in zip(*(with_summed_counts(evaluation.tables[name]) for name in names), strict=True)]
              for evaluation in evaluations]
    return _by_checkpoint('task', [title(*column) for column in columns], evaluations, merged,
                          lambda row: [Cell(show_value(row[column])) for column in columns])


def with_summed_counts(rows: Sequence[Row]) -> list[Row]:
    """Return a table whose MEAN row has the sums of the counts instead of their means."""
    # The mean number of actions per task says little; how many a MEAN rests on matters.
    return [{column: sum(other[column] for other in rows[:-1])
             if row['task'] == MEAN and column.startswith(COUNT_PREFIX) else value
             for column, value in row.items()} for row in rows]


def _by_checkpoint(key: str, heads: Sequence[str], evaluations: Sequence[Evaluation],
                   tables: Sequence[Sequence[Row]], cells: Callable[[Row], list[Cell]]) -> str:
    """Return a table with the checkpoints' rows of the same ``key`` below each other, in the first table's order."""
    rows = [{row[key]: row for row in table_rows} for table_rows in tables]
    several = len(evaluations) > 1
    groups = [(name, [[*([Cell(short_name(evaluation), 'text')] if several else []), *cells(by_name[name])]
                      for evaluation, by_name in zip(evaluations, rows, strict=True)]) for name in rows[0]]
    checkpoint = [Cell('checkpoint', 'text')] if several else []
    return table([Cell(key), *checkpoint, *(Cell(head) for head in heads)], groups)


def own_columns(row: Row) -> list[str]:
    """Return the columns of a table with results of the model: without names, counts, and baselines."""
    return [column for column in row if column != 'task' and not column.startswith((COUNT_PREFIX, 'baseline_'))]


def title(table_name: str, column: str) -> str:
    """Return the title of a column, with an arrow toward better values."""
    return column.replace('_', ' ') + column_of(table_name, column).arrow


def short_name(evaluation: Evaluation) -> str:
    """Return the name of a checkpoint in the report."""
    return evaluation.checkpoint.removeprefix('best_model_')

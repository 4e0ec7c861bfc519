"""Evaluate a trained run: python eval.py -f RUN [--checkpoint_type combined|alignment|both] [--report]."""

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.command_line import OneLineParser, choose_device, option, run_command
from utils.errors import UserError
from utils.logging import set_up_logging
from utils.run_folder import RunFolder, is_single_task_folder, open_run_folder
from utils.standard_streams import say
from utils.tables import MEAN, Row, format_table

if TYPE_CHECKING:
    from evaluation.results import Evaluation

CHECKPOINT_TYPES = ('combined', 'alignment')
TABLE_COLUMNS = 9  # of a printed table; wider tables are printed in parts


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog=Path(__file__).name, description='Metrics of a trained run. Data is looked for under '
                                                                 '$DATASET_PATH and $JSON_DPATH.')
    parser.add_argument('-f', '--folder', type=Path, required=True, help='run folder, as printed by training')
    parser.add_argument('--checkpoint_type', choices=[*CHECKPOINT_TYPES, 'both'], default='combined',
                        help='lowest total loss (default), lowest alignment loss, or both side by side')
    parser.add_argument('--report', action='store_true',
                        help='also write report.html, a page with all tables and pictures, next to the tables')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu', 'cuda', 'cuda:1', ...")
    return parser.parse_args(argv)


def print_evaluation(evaluation: 'Evaluation') -> None:
    """Print the tables of a checkpoint: the tables of the embeddings merged, and wide tables of the head in parts."""
    from evaluation.head_tables import HEAD_TABLES
    from evaluation.progress_metrics import PROGRESS_TABLE

    say(f'\n{evaluation.checkpoint}.pt (epoch {evaluation.epoch}); the encoder sees {evaluation.lookahead} frames '
          'ahead')
    embeddings = [rows for name, rows in evaluation.tables.items() if name not in (PROGRESS_TABLE, *HEAD_TABLES)]
    say('\n' + format_table([{column: value for row in rows for column, value in row.items()}
                               for rows in zip(*embeddings, strict=True)], 'the embeddings'))
    for line in evaluation.samples:
        say(line)
    if PROGRESS_TABLE in evaluation.tables:
        print_action_progress(evaluation.tables[PROGRESS_TABLE])
        for name in HEAD_TABLES:
            print_head_table(name, evaluation)
        print_chosen(evaluation.chosen)
    elif evaluation.config.PROGRESS_LOSS.enabled:
        say('\nno task has actions in its training and test recordings: action progress is not evaluated')
    else:
        say('\nno progress head in this run: action progress is not evaluated')
    print_groups(evaluation)
    say(f'\ntables and pictures: {evaluation.folder}')


def print_head_table(name: str, evaluation: 'Evaluation') -> None:
    """Print a further table of the head in parts, or the reason why the table is missing."""
    from evaluation.report_tables import with_summed_counts

    if rows := with_summed_counts(evaluation.tables.get(name, [])):
        columns = list(rows[0])[1:]
        for start in range(0, len(columns), TABLE_COLUMNS):
            part = columns[start:start + TABLE_COLUMNS]
            say('\n' + format_table([_pick(row, ['task', *part]) for row in rows], name))
        if missing := evaluation.missing_columns(name):
            say(f'without {", ".join(missing)}: the progress head of this run does not offer '
                  f'{"them" if len(missing) > 1 else "it"}')
    elif reason := evaluation.missing.get(name):
        say(f'\nno {name}.csv: the progress head of this run {reason}')


def print_chosen(chosen: Mapping[str, float]) -> None:
    """Print the weights that the progress head chose in training."""
    if chosen:
        say('\n' + format_table([{'weight': name, 'value': value} for name, value in chosen.items()],
                                  'weights that the progress head chose on held-out recordings'))


def print_groups(evaluation: 'Evaluation') -> None:
    """Print mean and std over groups of the main metrics' means over tasks."""
    if not evaluation.groups:
        return
    from evaluation.by_group import BY_GROUP_TABLE, by_group_rows, main_rows

    rows = [{'metric': f'{row["table"]}.{row["column"]}', **_pick(row, ['num_groups', 'mean', 'std'])}
            for row in main_rows(by_group_rows(evaluation.groups))]
    say('\n' + format_table(rows, f'by group of test recordings ({MEAN} over tasks; std between groups; all metrics '
                                    f'in {BY_GROUP_TABLE}.csv)'))


def print_action_progress(rows: Sequence[Row]) -> None:
    """Print the metrics of the head, and its error next to the errors of the baselines."""
    from evaluation.progress_metrics import PROGRESS_TABLE
    from evaluation.report_tables import with_summed_counts

    rows = with_summed_counts(rows)
    baselines = [column for column in rows[0] if column.startswith('baseline_')]
    own = [column for column in rows[0] if column not in (*baselines, 'task', 'skill')]
    say('\n' + format_table([_pick(row, ['task', *own]) for row in rows], f'{PROGRESS_TABLE}: the progress head'))
    errors = [_pick(row, ['task', 'mae', *baselines, 'skill']) for row in rows]
    say('\n' + format_table([{column.removeprefix('baseline_'): value for column, value in row.items()}
                               for row in errors], f'{PROGRESS_TABLE}: MAE of the head and of the baselines'))


def print_side_by_side(evaluations: Sequence['Evaluation']) -> None:
    """Print the MEAN rows of the checkpoints in one table."""
    from evaluation.columns import COUNT_PREFIX

    rows = []
    for name, table in evaluations[0].tables.items():
        for column in (column for column in list(table[0])[1:] if not column.startswith(COUNT_PREFIX)):
            values = {evaluation.checkpoint: evaluation.tables[name][-1].get(column, math.nan)
                      for evaluation in evaluations}
            rows.append({'metric': f'{name}.{column}', **values})
    say('\n' + format_table(rows, f'side by side ({MEAN} over tasks)'))


def _pick(row: dict, columns: Sequence[str]) -> dict:
    return {column: row[column] for column in columns}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    def command() -> None:
        arguments = parse_arguments(argv)
        set_up_logging()
        # Slow imports, after help and option errors.
        from evaluation.evaluate import evaluate_checkpoint
        from evaluation.report import write_report
        from evaluation.single_tasks import evaluate_single_tasks

        with option('--device'):
            device = choose_device(arguments.device)
        types = CHECKPOINT_TYPES if arguments.checkpoint_type == 'both' else (arguments.checkpoint_type,)
        if is_single_task_folder(arguments.folder):
            if arguments.report:
                raise UserError(f'--report: {arguments.folder} contains a run for each task; give one of these runs '
                                'with -f')
            run = RunFolder(arguments.folder)
            evaluations = [evaluate_single_tasks(run, kind, device) for kind in types]
        else:
            with option('-f'):
                run = open_run_folder(arguments.folder)
            evaluations = [evaluate_checkpoint(run, kind, device, with_alignments=arguments.report) for kind in types]
        for evaluation in evaluations:
            print_evaluation(evaluation)
        if len(evaluations) > 1:
            print_side_by_side(evaluations)
        if arguments.report:
            command_line = shlex.join(['python', Path(__file__).name, *(sys.argv[1:] if argv is None else argv)])
            say(f'\nreport: {write_report(run, evaluations, command_line)}')

    return run_command(command)


if __name__ == '__main__':
    sys.exit(main())

"""Evaluation of several single-task runs together, as if they were a single run."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from evaluation.evaluate import NOTHING_TO_TEST, evaluate_checkpoint
from evaluation.progress_metrics import finish_tables
from evaluation.results import Evaluation, results_folder, write_tables
from recordings.splits import load_run_splits
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import RunFolder, open_run_folder
from utils.tables import Row

LOGGER = get_logger(__name__)


def evaluate_single_tasks(folder: RunFolder, checkpoint_type: str, device: torch.device) -> Evaluation:
    """Evaluate the runs of ``singletask_train.py``, each on its own task.

    Args:
        folder: folder with a run for each task.
        checkpoint_type: 'combined' or 'alignment'.
        device: device to compute on.

    Returns:
        The tables of all tasks, which are also written to ``FOLDER/EVAL/<checkpoint>/<metric>.csv``; pictures and
        tables of single tasks are written to the runs.

    Raises:
        UserError: see :func:`evaluation.evaluate.evaluate_checkpoint`; a task has no run yet, or no task has test
            recordings.
    """
    splits = load_run_splits(folder.splits)
    tested = [task for task, parts in splits.items() if parts['test']]
    if not tested:
        raise UserError(f'{folder.splits}: {NOTHING_TO_TEST}')
    if left_out := sorted(set(splits) - set(tested)):
        LOGGER.warning('left out because they have no test recordings: %s', ', '.join(left_out))
    runs = [open_run_folder(folder.path / task) for task in tested]
    return gather([evaluate_checkpoint(run, checkpoint_type, device) for run in runs], folder.path)


def gather(evaluations: Sequence[Evaluation], folder: Path) -> Evaluation:
    """Merge the tables of several runs and write them under ``folder``."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for evaluation in evaluations:
        for name, table in evaluation.tables.items():
            rows[name] += table[:-1]  # all except MEAN
    tables = finish_tables(rows)
    first = evaluations[0]
    target = results_folder(folder, first.config, first.checkpoint)
    epochs = ', '.join(str(evaluation.epoch) for evaluation in evaluations)
    steps = {task: errors for evaluation in evaluations for task, errors in evaluation.steps.items()}
    missing = {name: reason for evaluation in evaluations for name, reason in evaluation.missing.items()}
    tenths = [row for evaluation in evaluations for row in evaluation.tenths]
    groups: dict[str, dict[str, dict[str, Row]]] = defaultdict(dict)
    for evaluation in evaluations:
        for name, of_tasks in evaluation.groups.items():
            groups[name].update(of_tasks)
    # Each run has one task; without its name, the weights of one run would replace those of another.
    chosen = {f'{task} {name}': value for evaluation in evaluations for name, value in evaluation.chosen.items()
              for task in evaluation.steps}
    gathered = Evaluation(first.checkpoint, epochs, first.lookahead, target, tables, steps, first.config, missing,
                          tenths, dict(groups), chosen,
                          [line for evaluation in evaluations for line in evaluation.samples],
                          {path: value for evaluation in evaluations for path, value in evaluation.files.items()})
    write_tables(gathered)
    return gathered

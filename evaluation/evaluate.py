"""Evaluation of a checkpoint: embeddings, metrics, tables and pictures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from easydict import EasyDict
from torch import nn
from tqdm import tqdm

from evaluation.baselines import ProgressBaselines
from evaluation.by_group import RowsByGroup, rows_by_group
from evaluation.embedded_task import EmbeddedTask
from evaluation.embedding_metrics import alignment_scorer
from evaluation.head_tables import HeadTables, TaskPart, head_tables
from evaluation.pictures import draw_alignments, draw_error_by_length
from evaluation.progress_metrics import (
    PROGRESS_TABLE,
    ActionCurves,
    action_progress_row,
    errors_by_step,
    finish_tables,
)
from evaluation.progress_picture import DrawnRecording, draw_progress
from evaluation.results import Evaluation, results_folder, write_tables
from models.action_progress import predict_actions
from models.build import check_input_width, reads_frames
from recordings.batches import to_device
from recordings.from_config import load_dataset, reading_options, split_recordings
from recordings.json_dataset import Recording, RecordingDataset
from recordings.splits import load_run_splits
from utils.ckpt_save import find_checkpoint, load_model
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import RunFolder
from utils.tables import Row
from utils.tensorops import Action, action_progress, recording_progress

LOGGER = get_logger(__name__)
NOTHING_TO_TEST = 'no task has test recordings; train with a test fraction above 0 in TRAIN_SPLIT'


def evaluate_checkpoint(run: RunFolder, checkpoint_type: str, device: torch.device, *,
                        with_alignments: bool = False) -> Evaluation:
    """Evaluate a checkpoint on the test recordings; baselines and scales are fitted to the training recordings.

    Args:
        run: folder of the run.
        checkpoint_type: 'combined' or 'alignment'.
        device: device to compute on.
        with_alignments: also draw the alignment matrices of pairs of recordings, ``alignment_<task>.png``.

    Returns:
        The tables, which are also written to ``RUN/EVAL/<checkpoint>/<metric>.csv``.

    Raises:
        UserError: the checkpoint is missing, there are no test recordings, or the dataset does not match the run.
    """
    try:
        path = find_checkpoint(run.path, checkpoint_type)
    except FileNotFoundError as error:
        raise UserError(f'{run.path}: {error}; train at least one epoch') from error
    model, config, checkpoint = load_model(path, device)
    parts, reading = _load_parts(config, run)
    folder = results_folder(run.path, config, path.stem)
    evaluation = Evaluation(path.stem, checkpoint['epoch'], model.lookahead, folder, {}, {}, config,
                            chosen=_chosen(model))
    _evaluate_tasks(model, parts, reading, device, evaluation, with_alignments=with_alignments)
    write_tables(evaluation)
    return evaluation


def _chosen(model: nn.Module) -> dict[str, float]:
    """Return the weights that the progress head chose; its state_dict holds them."""
    head = getattr(model, 'progress_head', None)
    return head.chosen() if head is not None else {}


def _load_parts(config: EasyDict, run: RunFolder) -> tuple[dict[str, dict[str, list[Recording]]], dict]:
    """Load the dataset of a run from the paths in the environment, split as in training."""
    recordings = load_dataset(config, frames=reads_frames(config))
    # Without this check, features of another extraction would fail inside the first layer of the network.
    check_input_width(config, next(iter(recordings.values()))[0].width)
    parts = split_recordings(recordings, load_run_splits(run.splits))
    if not any(parts['test'].values()):
        raise UserError(f'{run.splits}: {NOTHING_TO_TEST}')
    return parts, reading_options(config, recordings, frames=reads_frames(config))


def _evaluate_tasks(model: nn.Module, parts: Mapping, reading: Mapping, device: torch.device, evaluation: Evaluation,
                    *, with_alignments: bool) -> None:
    """Add results to an evaluation and draw pictures, task by task: embeddings of a single task are in memory."""
    rows: dict[str, list[Row]] = defaultdict(list)
    curves: dict[str, list[ActionCurves]] = {}
    # A task without test recordings has no row, instead of a row of missing values.
    tasks = [task for task, test in parts['test'].items() if test]
    for task in tqdm(tasks, desc='evaluating', unit='task', leave=False, disable=None):
        # The same checkpoint embeds both parts: probes and baselines are fitted in its embedding, not in another one.
        train, test = (embed(model, parts[part][task], reading, device) for part in ('train', 'test'))
        _add_rows(rows, evaluation.groups, task, *_alignment(train, test))
        if with_alignments:
            handles = [recording.handle for recording in test.recordings]
            draw_alignments(task, list(zip(handles, test.embeddings, test.actions, strict=True)),
                            evaluation.folder / f'alignment_{task}.png')
        if not evaluation.config.PROGRESS_LOSS.enabled:
            continue
        # Without training actions no baseline can be fitted; without test actions there is nothing to score.
        if not any(train.actions) or not any(test.actions):
            LOGGER.warning('task %s: no actions in its training or test recordings; left out of %s', task,
                           PROGRESS_TABLE)
            continue
        by_recording = _action_curves(model, train, test, device)
        curves[task] = [curve for recording in by_recording for curve in recording]
        _add_rows(rows, evaluation.groups, task, *_action_progress(by_recording, test))
        evaluation.steps[task] = errors_by_step(_group_by_step(test.actions, by_recording))
        found = head_tables(model.progress_head, _part(task, train), _part(task, test), device)
        _add_rows(rows, evaluation.groups, task, found.rows, found.by_group)
        evaluation.tenths.extend({'task': task, **row} for row in found.tenths)
        evaluation.missing.update(found.missing)
        _draw_task(task, test, by_recording, found, evaluation.folder / f'progress_{task}.png')
    if curves:
        # After the loop, because the bins of lengths and the means are over the actions of all tasks.
        draw_error_by_length(curves, evaluation.folder / 'mae_by_length.png')
    evaluation.tables.update(finish_tables(rows))


def _part(task: str, embedded: EmbeddedTask) -> TaskPart:
    return TaskPart(task, [recording.handle for recording in embedded.recordings], embedded.embeddings,
                    embedded.actions, embedded.groups)


def _add_rows(rows: dict[str, list[Row]], groups: dict[str, RowsByGroup], task: str, found: Mapping[str, Row],
              by_group: Mapping[str, dict[str, Row]]) -> None:
    """Add the rows of a task to the tables, and the rows of its groups of test recordings."""
    for name, row in found.items():
        rows[name].append({'task': task, **row})
    for name, of_groups in by_group.items():
        groups.setdefault(name, {})[task] = of_groups


def _alignment(train: EmbeddedTask, test: EmbeddedTask) -> tuple[dict[str, Row], dict[str, dict[str, Row]]]:
    """Return the rows of the tables that need no progress head, over all test recordings and for each group."""
    score = alignment_scorer(train)
    of_groups = rows_by_group(test.groups or [], lambda indices: score(test.take(indices)))
    # group -> table -> row becomes table -> group -> row. Without groups, of_groups is empty.
    names = next(iter(of_groups.values()), {})
    return score(test), {name: {group: rows[name] for group, rows in of_groups.items()} for name in names}


def _action_progress(curves: Sequence[Sequence[ActionCurves]],
                     test: EmbeddedTask) -> tuple[dict[str, Row], dict[str, dict[str, Row]]]:
    """Return the row of ``action_progress.csv`` over all test recordings and for each group."""
    def row(indices: Sequence[int]) -> Row:
        return action_progress_row([curve for index in indices for curve in curves[index]])

    return ({PROGRESS_TABLE: row(range(len(curves)))},
            {PROGRESS_TABLE: rows_by_group(test.groups, row)} if test.groups else {})


@torch.no_grad()
def embed(model: nn.Module, recordings: Sequence[Recording], reading: Mapping, device: torch.device) -> EmbeddedTask:
    """Embed recordings one at a time, so that an embedding does not depend on other recordings."""
    dataset = RecordingDataset(recordings, **reading)
    # A batch of one video: [(T, D)] -> (T, E). On the CPU, because all embeddings of a task are in memory at once.
    embeddings = [model(to_device([dataset[index][0]], device))['outputs'][0].float().cpu()
                  for index in range(len(dataset))]
    progress = [recording_progress(recording.actions, recording.num_frames) for recording in recordings]
    return EmbeddedTask(list(recordings), embeddings, [recording.actions for recording in recordings], progress)


def _action_curves(model: nn.Module, train: EmbeddedTask, test: EmbeddedTask,
                   device: torch.device) -> list[list[ActionCurves]]:
    """Predict the progress of the test recordings' actions with the head and with every baseline."""
    baselines = ProgressBaselines(train.actions, train.embeddings, train.groups)
    curves = []
    for recording, embedding, actions in zip(test.recordings, test.embeddings, test.actions, strict=True):
        # The head gets the true starts, and contexts that tell it about completed actions.
        heads = predict_actions(model, embedding.to(device), actions, recording.task)
        curves.append([
            ActionCurves(recording.handle, action.length, action_progress(action, len(embedding)).numpy(),
                         {'head': head.numpy(), **others})
            for action, head, others in zip(actions, heads, baselines.predict(actions, embedding), strict=True)])
    return curves


def _group_by_step(actions: Sequence[Sequence[Action]],
                   curves: Sequence[Sequence[ActionCurves]]) -> dict[str, list[ActionCurves]]:
    """Return label -> curves of its actions, from the actions and the curves of each recording."""
    steps: dict[str, list[ActionCurves]] = defaultdict(list)
    for in_recording, theirs in zip(actions, curves, strict=True):
        for action, curve in zip(in_recording, theirs, strict=True):
            steps[action.name].append(curve)
    return steps


def _draw_task(task: str, test: EmbeddedTask, curves: Sequence[Sequence[ActionCurves]], found: HeadTables,
               path: Path) -> None:
    """Draw a task's progress curves, one list of actions per test recording."""
    # A head that requires boundaries has no answers, but the number of recordings must match in zip.
    answers = found.answers or [None] * len(curves)
    draw_progress(task, [
        DrawnRecording(recording.handle, actions, theirs, len(embedding), answer)
        for recording, actions, theirs, embedding, answer
        in zip(test.recordings, test.actions, curves, test.embeddings, answers, strict=True)], path)

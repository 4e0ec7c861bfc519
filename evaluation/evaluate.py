"""Evaluation of one checkpoint of a run: embeddings, metrics, tables and pictures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn
from tqdm import tqdm

from evaluation.alignment_metrics import (
    coefficient_of_variation,
    enclosed_area_error,
    kendalls_tau,
    kendalls_tau_wild,
    overall_progress_error,
    path_lengths,
)
from evaluation.baselines import ProgressBaselines
from evaluation.phase_metrics import frame_labels, majority_accuracy, phase_classification, phase_progression
from evaluation.pictures import draw_alignments, draw_error_by_length, draw_progress
from evaluation.progress_metrics import PROGRESS_TABLE, ActionCurves, action_progress_row, errors_by_step, skill
from models.action_progress import predict_actions
from models.build import check_input_width
from recordings.from_config import load_dataset, reading_options, split_recordings
from recordings.json_dataset import Recording, RecordingDataset, to_device
from recordings.splits import load_run_splits
from utils.ckpt_save import find_checkpoint, load_model
from utils.errors import UserError
from utils.files import make_folder, remove_leftovers
from utils.logging import get_logger
from utils.run_folder import RunFolder
from utils.tables import Row, with_mean_row, write_table
from utils.tensorops import Action, action_progress, recording_progress

LOGGER = get_logger(__name__)
NOTHING_TO_TEST = 'no task has test recordings; train with a test share above 0 in TRAIN_SPLIT'


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
    """

    checkpoint: str
    epoch: int | str
    lookahead: int
    folder: Path
    tables: dict[str, list[Row]]
    steps: dict[str, list[Row]]
    config: EasyDict


@dataclass(frozen=True)
class EmbeddedTask:
    """Recordings of one part of a task and, in the same order, what is known of them.

    Attributes:
        recordings: the recordings.
        embeddings: (T, E) of each, on the CPU.
        actions: of each, in order of time.
        progress: (T,) of each, the true progress of the whole recording.
    """

    recordings: list[Recording]
    embeddings: list[Tensor]
    actions: list[Sequence[Action]]
    progress: list[Tensor]

    @property
    def labels(self) -> list[np.ndarray]:
        """Steps at the frames (T,) of each recording."""
        return [frame_labels(actions, len(embedding))
                for actions, embedding in zip(self.actions, self.embeddings, strict=True)]


def evaluate_checkpoint(run: RunFolder, checkpoint_type: str, device: torch.device, *,
                        with_alignments: bool = False) -> Evaluation:
    """Evaluate a run's checkpoint on its test recordings; baselines and scales are fitted on the training ones.

    Args:
        run: folder of the run.
        checkpoint_type: 'combined' or 'alignment'.
        device: where to compute.
        with_alignments: also draw the alignment matrices of pairs of recordings, ``alignment_<task>.png``.

    Returns:
        The tables, which are also written to ``RUN/EVAL/<checkpoint>/<metric>.csv``.

    Raises:
        UserError: no checkpoint, no test recordings, or the dataset is not that of the run.
    """
    try:
        path = find_checkpoint(run.path, checkpoint_type)
    except FileNotFoundError as error:
        raise UserError(f'{run.path}: {error}; train at least one epoch') from error
    model, config, checkpoint = load_model(path, device)
    parts, reading = _load_parts(config, run)
    folder = results_folder(run.path, config, path.stem)
    tables, steps = _evaluate_tasks(model, config, parts, reading, folder, device, with_alignments)
    for name, rows in tables.items():
        write_table(rows, folder / f'{name}.csv')
    return Evaluation(path.stem, checkpoint['epoch'], model.lookahead, folder, tables, steps, config)


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


def _load_parts(config: EasyDict, run: RunFolder) -> tuple[dict[str, dict[str, list[Recording]]], dict]:
    """Load the dataset of a run under the paths of the environment, split as in training."""
    recordings = load_dataset(config)
    check_input_width(config, next(iter(recordings.values()))[0].width)
    parts = split_recordings(recordings, load_run_splits(run.splits))
    if not any(parts['test'].values()):
        raise UserError(f'{run.splits}: {NOTHING_TO_TEST}')
    return parts, reading_options(config, recordings)


def _evaluate_tasks(model: nn.Module, config: EasyDict, parts: Mapping, reading: Mapping, folder: Path,
                    device: torch.device, with_alignments: bool) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Compute tables and errors by step, task by task (one task's embeddings are in memory at a time), and draw."""
    rows: dict[str, list[Row]] = defaultdict(list)
    curves: dict[str, list[ActionCurves]] = {}
    steps: dict[str, list[Row]] = {}
    tasks = [task for task, test in parts['test'].items() if test]
    for task in tqdm(tasks, desc='evaluating', unit='task', leave=False, disable=None):
        train, test = (embed(model, parts[part][task], reading, device) for part in ('train', 'test'))
        for name, row in alignment_rows(train, test).items():
            rows[name].append({'task': task, **row})
        if with_alignments:
            handles = [recording.handle for recording in test.recordings]
            draw_alignments(task, list(zip(handles, test.embeddings, test.actions, strict=True)),
                            folder / f'alignment_{task}.png')
        if not config.PROGRESS_LOSS.enabled:
            continue
        if not any(train.actions) or not any(test.actions):
            LOGGER.warning('task %s: no actions in its training or test recordings; left out of %s', task,
                           PROGRESS_TABLE)
            continue
        by_recording = _action_curves(model, train, test, device)
        curves[task] = [curve for recording in by_recording for curve in recording]
        rows[PROGRESS_TABLE].append({'task': task, **action_progress_row(curves[task])})
        steps[task] = errors_by_step(_group_by_step(test.actions, by_recording))
        _draw_task(task, test, by_recording, folder / f'progress_{task}.png')
    if curves:
        draw_error_by_length(curves, folder / 'mae_by_length.png')
    return finish_tables(rows), steps


def alignment_rows(train: EmbeddedTask, test: EmbeddedTask) -> dict[str, dict[str, float]]:
    """Return a task's rows of the tables that need no progress head, but for its name.

    Args:
        train: what probes and scales are fitted to.
        test: what is scored.

    Returns:
        Name of the table -> column -> value.
    """
    totals = path_lengths(train.embeddings)
    return {
        'phase_classification': {
            **phase_classification(train.embeddings, train.actions, test.embeddings, test.actions),
            'accuracy_majority': majority_accuracy(train.labels, test.labels)},
        'phase_progression': {'r2': phase_progression(train.embeddings, train.progress, test.embeddings,
                                                      test.progress)},
        'kendalls_tau': {'kendalls_tau': kendalls_tau(test.embeddings)},
        'kendalls_tau_wild': {'kendalls_tau_wild': kendalls_tau_wild(test.embeddings, test.actions)},
        'enclosed_area_error': {'enclosed_area_error': enclosed_area_error(test.embeddings, test.actions)},
        'ogpe': {'ogpe': overall_progress_error(test.embeddings, test.progress, float(totals.mean())),
                 'CoV': coefficient_of_variation(totals)},
    }


def finish_tables(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Append the MEAN row to each table that has rows; its skill is that of its own columns, not a mean of ratios."""
    tables = {name: with_mean_row(table) for name, table in rows.items() if table}
    if PROGRESS_TABLE in tables:
        mean = tables[PROGRESS_TABLE][-1]
        mean['skill'] = skill(mean)
    return tables


@torch.no_grad()
def embed(model: nn.Module, recordings: Sequence[Recording], reading: Mapping, device: torch.device) -> EmbeddedTask:
    """Embed recordings one by one: an embedding does not depend on what it is evaluated with."""
    dataset = RecordingDataset(recordings, **reading)
    embeddings = [model(to_device([dataset[index][0]], device))['outputs'][0].float().cpu()
                  for index in range(len(dataset))]
    progress = [recording_progress(recording.actions, recording.num_frames) for recording in recordings]
    return EmbeddedTask(list(recordings), embeddings, [recording.actions for recording in recordings], progress)


def _action_curves(model: nn.Module, train: EmbeddedTask, test: EmbeddedTask,
                   device: torch.device) -> list[list[ActionCurves]]:
    """Predict the progress of the test recordings' actions with the head and with every baseline."""
    baselines = ProgressBaselines(train.actions, train.embeddings)
    curves = []
    for recording, embedding, actions in zip(test.recordings, test.embeddings, test.actions, strict=True):
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


def _draw_task(task: str, test: EmbeddedTask, curves: Sequence[Sequence[ActionCurves]], path: Path) -> None:
    """Draw a task's progress curves, one list of actions per test recording."""
    handles = [recording.handle for recording in test.recordings]
    lengths = [len(embedding) for embedding in test.embeddings]
    draw_progress(task, list(zip(handles, test.actions, curves, lengths, strict=True)), path)

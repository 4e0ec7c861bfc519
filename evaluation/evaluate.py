"""Evaluation of one checkpoint of a run: embeddings, metrics, tables and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor, nn
from tqdm import tqdm

from datasets.from_config import load_dataset, reading_options, split_recordings
from datasets.json_dataset import Recording, RecordingDataset
from evaluation.alignment_metrics import (
    coefficient_of_variation,
    enclosed_area_error,
    kendalls_tau,
    overall_progress_error,
    path_lengths,
)
from evaluation.baselines import ProgressBaselines
from evaluation.pictures import draw_progress
from evaluation.progress_metrics import ActionCurves, action_progress_row, skill
from evaluation.tables import Row, with_mean_row, write_table
from training.epoch import to_device
from utils.ckpt_save import find_checkpoint, load_model
from utils.errors import UserError
from utils.logging import get_logger
from utils.run_folder import RunFolder, read_json
from utils.tensorops import Action, action_progress, get_trueprogress, list_actions

LOGGER = get_logger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a checkpoint found.

    Attributes:
        checkpoint: its name without '.pt'.
        epoch: epoch that it was saved after.
        lookahead: frames that the encoder sees ahead.
        folder: where tables and pictures lie.
        tables: name of the metric -> rows, the last one MEAN.
    """

    checkpoint: str
    epoch: int
    lookahead: int
    folder: Path
    tables: dict[str, list[Row]]


@dataclass(frozen=True)
class EmbeddedTask:
    """Recordings of one part of a task, their embeddings (T, E) on the CPU, and their actions."""

    recordings: list[Recording]
    embeddings: list[Tensor]
    actions: list[list[Action]]


def evaluate_checkpoint(run: RunFolder, checkpoint_type: str, device: torch.device) -> Evaluation:
    """Evaluate a run's checkpoint on its test recordings; baselines and scales are fitted on the training ones.

    Args:
        run: folder of the run.
        checkpoint_type: 'combined' or 'alignment'.
        device: where to compute.

    Returns:
        The tables, which are also written to ``RUN/EVAL/<checkpoint>/<metric>.csv``.

    Raises:
        UserError: no checkpoint, no test recordings, or the dataset is not that of the run.
    """
    try:
        path = find_checkpoint(run.path, checkpoint_type)
    except FileNotFoundError as error:
        raise UserError(f'-f {run.path}: {error}; train at least one epoch') from error
    model, config, checkpoint = load_model(path, device)
    parts, reading = _load_parts(config, run)
    folder = run.path / config.EVAL_PLOTFOLDER / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    tables = _compute_tables(model, config, parts, reading, folder, device)
    for name, rows in tables.items():
        write_table(rows, folder / f'{name}.csv')
    return Evaluation(path.stem, checkpoint['epoch'], model.lookahead, folder, tables)


def _load_parts(config: EasyDict, run: RunFolder) -> tuple[dict[str, dict[str, list[Recording]]], dict]:
    """Load the dataset of a run under the paths of the environment, split as in training."""
    recordings = load_dataset(config)
    parts = split_recordings(recordings, read_json(run.splits)['splits'])
    if not any(parts['test'].values()):
        raise UserError(f'{run.splits}: no task has test recordings; train with a test share above 0 in TRAIN_SPLIT')
    return parts, reading_options(config, recordings)


def _compute_tables(model: nn.Module, config: EasyDict, parts: Mapping, reading: Mapping, folder: Path,
                    device: torch.device) -> dict[str, list[Row]]:
    """Compute every metric, task by task, so that one task's embeddings are in memory at a time."""
    rows: dict[str, list[Row]] = {'ogpe': [], 'kendalls_tau': [], 'enclosed_area_error': [], 'action_progress': []}
    tasks = [task for task, test in parts['test'].items() if test]
    for task in tqdm(tasks, desc='evaluating', unit='task', leave=False, disable=None):
        train, test = (embed(model, parts[part][task], reading, config.BACKGROUND_LABELS, device)
                       for part in ('train', 'test'))
        rows['ogpe'].append({'task': task, **_ogpe_row(train, test, config.BACKGROUND_LABELS)})
        rows['kendalls_tau'].append({'task': task, 'kendalls_tau': kendalls_tau(test.embeddings)})
        area = enclosed_area_error(test.embeddings, test.actions)
        rows['enclosed_area_error'].append({'task': task, 'enclosed_area_error': area})
        if not config.PROGRESS_LOSS.enabled:
            continue
        if not any(train.actions) or not any(test.actions):
            LOGGER.warning('task %s: no actions in its training or test recordings; left out of action_progress', task)
            continue
        curves = _action_curves(model, train, test, device)
        flat = [curve for recording in curves for curve in recording]
        rows['action_progress'].append({'task': task, **action_progress_row(flat)})
        lengths = [recording.num_frames for recording in test.recordings]
        draw_progress(task, list(zip([recording.handle for recording in test.recordings], test.actions, curves,
                                     lengths, strict=True)), folder / f'progress_{task}.png')
    return finish_tables(rows)


def finish_tables(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Append the MEAN row to each table that has rows; its skill is that of its own columns, not a mean of ratios."""
    tables = {name: with_mean_row(table) for name, table in rows.items() if table}
    if 'action_progress' in tables:
        mean = tables['action_progress'][-1]
        mean['skill'] = skill(mean)
    return tables


@torch.no_grad()
def embed(model: nn.Module, recordings: Sequence[Recording], reading: Mapping, background: Sequence[str],
           device: torch.device) -> EmbeddedTask:
    """Embed recordings one by one: an embedding does not depend on what it is evaluated beside."""
    dataset = RecordingDataset(recordings, **reading)
    embeddings = [model(to_device([dataset[index][0]], device))['outputs'][0].float().cpu()
                  for index in range(len(dataset))]
    actions = [list_actions(recording.times, len(embedding), background)
               for recording, embedding in zip(recordings, embeddings, strict=True)]
    return EmbeddedTask(list(recordings), embeddings, actions)


def _ogpe_row(train: EmbeddedTask, test: EmbeddedTask, background: Sequence[str]) -> dict[str, float]:
    """Return a task's row of ogpe.csv, but for its name."""
    totals = path_lengths(train.embeddings)
    truth = [get_trueprogress(recording.times, len(embedding), background)
             for recording, embedding in zip(test.recordings, test.embeddings, strict=True)]
    return {'ogpe': overall_progress_error(test.embeddings, truth, float(totals.mean())),
            'CoV': coefficient_of_variation(totals)}


@torch.no_grad()
def _action_curves(model: nn.Module, train: EmbeddedTask, test: EmbeddedTask,
                   device: torch.device) -> list[list[ActionCurves]]:
    """Predict the progress of the test recordings' actions with the head and with every baseline."""
    baselines = ProgressBaselines(train.actions, train.embeddings)
    curves = []
    for recording, embedding, actions in zip(test.recordings, test.embeddings, test.actions, strict=True):
        segments = [embedding[action.start:action.end + 1].to(device) for action in actions]
        heads = model.progress_head.forward_dense(segments) if segments else []
        curves.append([
            ActionCurves(recording.handle, action.length, action_progress(action, len(embedding)).numpy(),
                         {'head': head.double().cpu().numpy(), **others})
            for action, head, others in zip(actions, heads, baselines.predict(actions, embedding), strict=True)])
    return curves

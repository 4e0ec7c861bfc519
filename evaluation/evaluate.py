"""Evaluation of a checkpoint: embeddings, metrics, tables and pictures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from easydict import EasyDict
from torch import nn
from tqdm import tqdm

from evaluation.by_group import RowsByGroup, rows_by_group
from evaluation.embedded_task import EmbeddedTask, groups_of, join
from evaluation.embedding_metrics import alignment_scorer
from evaluation.evaluated import digest
from evaluation.head_scores import HeadScores
from evaluation.pictures import draw_alignments, draw_error_by_length
from evaluation.progress_metrics import PROGRESS_TABLE, LengthErrors, finish_tables
from evaluation.progress_picture import DrawnRecording, draw_progress, drawn_recordings
from evaluation.results import Evaluation, results_folder, write_tables
from evaluation.sampling import chunks, describe_sample, sampled_recordings
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
from utils.tensorops import recording_progress

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
    files = {path: digest(path)}
    model, config, checkpoint = load_model(path, device)
    parts, reading = _load_parts(config, run)
    folder = results_folder(run.path, config, path.stem)
    evaluation = Evaluation(path.stem, checkpoint['epoch'], model.lookahead, folder, {}, {}, config,
                            chosen=_chosen(model), files=files)
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
    """Add results to an evaluation and draw pictures, task by task."""
    rows: dict[str, list[Row]] = defaultdict(list)
    lengths: dict[str, LengthErrors] = {}
    # A task without test recordings has no row, instead of a row of missing values.
    tasks = [task for task, test in parts['test'].items() if test]
    for task in tqdm(tasks, desc='evaluating', unit='task', leave=False, disable=None):
        training, tested = parts['train'][task], parts['test'][task]
        # The same checkpoint embeds both parts: probes and baselines are fitted in its embedding, not in another one.
        train, kept = _sample(model, task, training, tested, reading, device, evaluation)
        scores = _head_scores(model, task, training, tested, train, device) if evaluation.config.PROGRESS_LOSS.enabled \
            else None
        test, drawn = _embed_and_score(model, tested, kept, reading, device, scores)
        _add_rows(rows, evaluation.groups, task, *_alignment(train, test))
        if with_alignments:
            handles = [recording.handle for recording in test.recordings]
            draw_alignments(task, list(zip(handles, test.embeddings, test.actions, strict=True)),
                            evaluation.folder / f'alignment_{task}.png')
        if scores is None:
            continue
        found, lengths[task] = scores.tables(), scores.lengths
        _add_rows(rows, evaluation.groups, task, found.rows, found.by_group)
        evaluation.steps[task] = scores.steps.rows()
        evaluation.tenths.extend({'task': task, **row} for row in found.tenths)
        evaluation.missing.update(found.missing)
        draw_progress(task, drawn, evaluation.folder / f'progress_{task}.png')
    if lengths:
        # After the loop, because the bins of lengths and the means are over the actions of all tasks.
        draw_error_by_length(lengths, evaluation.folder / 'mae_by_length.png')
    evaluation.tables.update(finish_tables(rows))


def _sample(model: nn.Module, task: str, training: Sequence[Recording], tested: Sequence[Recording],
            reading: Mapping, device: torch.device, evaluation: Evaluation) -> tuple[EmbeddedTask, list[int]]:
    """Embed the training recordings to fit to, and choose the test recordings whose embeddings are kept, by index."""
    fitted, kept = (sampled_recordings([recording.num_frames for recording in part],
                                       evaluation.config.OUTPUT_DIMENSIONALITY) for part in (training, tested))
    for line in describe_sample(task, (len(fitted), len(kept)), (len(training), len(tested))):
        LOGGER.info('%s', line)
        evaluation.samples.append(line)
    return embed(model, [training[index] for index in fitted], reading, device), kept


def _head_scores(model: nn.Module, task: str, training: Sequence[Recording], tested: Sequence[Recording],
                 sample: EmbeddedTask, device: torch.device) -> HeadScores | None:
    """Return the scores of the progress head, to add test recordings to; None if there is nothing to score."""
    # Without training actions no baseline can be fitted; without test actions there is nothing to score.
    if all(any(recording.actions for recording in part) for part in (training, tested)):
        return HeadScores(model, task, training, sample, device)
    LOGGER.warning('task %s: no actions in its training or test recordings; left out of %s', task, PROGRESS_TABLE)
    return None


def _embed_and_score(model: nn.Module, tested: Sequence[Recording], kept: Sequence[int], reading: Mapping,
                     device: torch.device, scores: HeadScores | None) -> tuple[EmbeddedTask, list[DrawnRecording]]:
    """Embed test recordings, add all of them to the scores, and return the kept ones and those to draw."""
    if scores is None:
        return embed(model, [tested[index] for index in kept], reading, device), []
    groups, shown, chosen = groups_of(tested), set(drawn_recordings(tested)), set(kept)
    parts, drawn = [], []
    for indices in chunks([recording.num_frames for recording in tested]):
        part = embed(model, [tested[index] for index in indices], reading, device)
        pictures = scores.add(part, groups and [groups[index] for index in indices])
        # All else of the chunk is freed here: memory does not grow with the number of test recordings.
        drawn += [picture for index, picture in zip(indices, pictures, strict=True) if index in shown]
        parts.append(part.take([place for place, index in enumerate(indices) if index in chosen]))
    return join(parts), drawn


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


@torch.no_grad()
def embed(model: nn.Module, recordings: Sequence[Recording], reading: Mapping, device: torch.device) -> EmbeddedTask:
    """Embed recordings one at a time, so that an embedding does not depend on other recordings."""
    dataset = RecordingDataset(recordings, **reading)
    # A batch of one video: [(T, D)] -> (T, E). On the CPU, because the embeddings of many recordings are kept.
    embeddings = [model(to_device([dataset[index][0]], device))['outputs'][0].float().cpu()
                  for index in range(len(dataset))]
    progress = [recording_progress(recording.actions, recording.num_frames) for recording in recordings]
    return EmbeddedTask(list(recordings), embeddings, [recording.actions for recording in recordings], progress)

"""Write a run as files that other programs read: ONNX graphs, weights, a description, and an example."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor, nn

from models.build import input_width, reads_frames
from recordings.feature_info import FeatureInfo, read_feature_info
from tools.onnx_graph import INPUT, EncoderStep, StatefulStep, write_graph
from utils.ckpt_save import find_checkpoint, load_model, to_plain
from utils.errors import UserError, first_line
from utils.files import write_json
from utils.folders import replace_folder, staged_folder
from utils.logging import get_logger
from utils.run_folder import open_run_folder
from utils.standard_streams import say

LOGGER = get_logger(__name__)
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime', 'safetensors')
FORMAT = 1  # of model.json
MODEL, WEIGHTS, EXAMPLE = 'model.json', 'model.safetensors', 'example.py'
CHECKED_FRAMES, TOLERANCE = 40, 1e-4
MEANING = {
    'step': 'index in steps', 'step_probability': '0 to 1',
    'progress': 'within the step, 0 to 1: 5 % quantile, estimate, 95 % quantile; void if the step is background',
    'remaining': 'expected number of frames until the step ends; void if the step is background',
    'overall': 'of the recording, 0 to 1: 5 % quantile, estimate, 95 % quantile',
    'overall_remaining': 'frames until the recording ends: 5 % quantile, estimate, 95 % quantile',
    'next_step': 'index in next_steps', 'unknown': 'true if nothing that the model knows fits the frame',
    'task_probability': 'of each of tasks'}


def export_run(folder: Path, out: Path, task: str | None = None, checkpoint_type: str = 'combined', *,
               overwrite: bool = False) -> None:
    """Export a run.

    Args:
        folder: run folder.
        out: folder to write.
        task: task of the recordings; None if it is to be inferred, or if the run has one task.
        checkpoint_type: 'combined' or 'alignment'.
        overwrite: replace an existing export.

    Raises:
        UserError: packages are missing, ``out`` exists, the run cannot be read or does not know the task, or its
            network cannot process one frame at a time with unknown boundaries.
    """
    if missing := [name for name in PACKAGES if not find_spec(name)]:
        raise UserError(f'tools.export: the packages {", ".join(missing)} are missing; run pip install -r '
                        'requirements-export.txt')
    _check_out(out, overwrite=overwrite)
    run = open_run_folder(folder)
    try:
        path = find_checkpoint(run.path, checkpoint_type)
    except FileNotFoundError as error:
        raise UserError(f'{folder}: {error}; train at least one epoch') from error
    model, config, checkpoint = load_model(path)
    info = read_feature_info(run.path)
    tasks, filter_step = _filter_step(model, task, folder)
    encoder_step = _encoder_step(model, _example_frame(config, info, folder), folder)
    steps = {'filter.onnx': filter_step}
    if not _returns_the_frame(encoder_step):
        steps = {'encoder.onnx': encoder_step, **steps}
    if config.MAX_FRAMES:
        LOGGER.warning('in training, the run uses at most %d evenly spaced frames of a recording, but an export uses '
                       'every frame: longer recordings have more frames than in training', config.MAX_FRAMES)
    with _named_errors(out), staged_folder(out) as staged:
        graphs = [_write(step, staged / name) for name, step in steps.items()]
        write_json(staged / MODEL, {
            'format': FORMAT, 'run': run.path.resolve().name, 'checkpoint': path.stem, 'epoch': checkpoint['epoch'],
            'tasks': tasks, 'steps': filter_step.steps, 'next_steps': filter_step.next_steps,
            'fps': float(info.fps) if info else None, 'skip_rate': config.SKIP_RATE,
            'image_encoder': info and {**asdict(info), 'fps': str(info.fps)},
            'outputs': {name: MEANING[name] for name in filter_step.outputs},
            'calibration': dict(zip(tasks, filter_step.calibration(), strict=True)),
            'chosen': model.progress_head.chosen(), 'graphs': graphs})
        _write_weights(model, config, staged / WEIGHTS)
        shutil.copymode(staged / MODEL, staged / WEIGHTS)  # safetensors makes files that only their owner can read
        shutil.copyfile(Path(__file__).with_name('export_example.py'), staged / EXAMPLE)
        replace_folder(staged, out)
    say(f'{path.stem}.pt (epoch {checkpoint["epoch"]}), {", ".join(tasks)} -> {out}\n'
        f'Try it with numpy and onnxruntime alone:\n\npython {shlex.quote(str(out / EXAMPLE))} FEATURES.npy')


@contextmanager
def _named_errors(out: Path) -> Iterator[None]:
    """Name the folder that the user asked for if a file cannot be written, not the temporary one.

    Raises:
        UserError: a file cannot be written.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        reason = getattr(error, 'strerror', None) or first_line(error)
        raise UserError(f'OUT {out}: cannot be written ({reason}); free some space or choose another folder') from error
    except UserError as error:
        name = out.resolve().name
        raise UserError(re.sub(rf'\.{re.escape(name)}\.\d+\.new', name, str(error))) from error


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not (out / MODEL).is_file():
            raise UserError(f'OUT {out}: exists and contains no {MODEL}, so it is not an export; choose another folder')
        if not overwrite:
            raise UserError(f'OUT {out}: this export exists; --overwrite replaces it, or choose another folder')


def _filter_step(model: nn.Module, task: str | None, folder: Path) -> tuple[list[str], StatefulStep]:
    """Return the tasks that a recording may be of, and the step of their filters.

    Raises:
        UserError: the run has no head that infers boundaries, or it does not know the task.
    """
    head = model.progress_head if model.use_progress_head else None
    step = head and head.recording_step(task)
    if step is None:
        raise UserError(f'RUN {folder}: has no progress head that infers where actions start and end, which an export '
                        'requires; train with configs/progress_recommended.json')
    if task not in (None, *head.tasks):
        raise UserError(f'--task {task!r}: not a task of the run, expected one of {", ".join(head.tasks)}')
    if task is None and len(head.tasks) > 1:
        try:
            head.check_task(None)
        except UserError as error:
            raise UserError(f'--task: not given: {error}') from error
    return [task] if task else head.tasks, step.eval()


def _encoder_step(model: nn.Module, frame: Tensor, folder: Path) -> EncoderStep:
    """Return the step of the network in front of the head.

    Raises:
        UserError: the network cannot process one frame at a time.
    """
    if model.lookahead:
        raise UserError(f'RUN {folder}: its encoder looks {model.lookahead} frames ahead, expected one that does not; '
                        'train with --set CAUSAL=true, or on the features themselves with --identity')
    try:
        return EncoderStep(model, frame).eval()
    except ValueError as error:
        raise UserError(f'RUN {folder}: its network cannot process one frame at a time ({error}); choose another '
                        'encoder') from error


def _returns_the_frame(step: EncoderStep) -> bool:
    """Return True if embeddings are the features, unchanged."""
    frame = step.examples(1)[0]
    embedding, *_ = step(frame, *step.start())
    return torch.equal(embedding, frame)


def _example_frame(config: EasyDict, info: FeatureInfo | None, folder: Path) -> Tensor:
    """Return zeros of the shape of a frame, (D,) or (C, H, W).

    Raises:
        UserError: the size of the run's frames is unknown.
    """
    if not reads_frames(config):
        return torch.zeros(input_width(config))
    if info is None:
        raise UserError(f'RUN {folder}: reads frames (C, H, W) of unknown size, expected features.json in the run; '
                        'train on frames of tools.extract')
    return torch.zeros(info.shape)


def _write(step: StatefulStep, path: Path) -> dict:
    """Write a graph, check its results on random frames, and return its description.

    Raises:
        UserError: the results differ from those of the step.
    """
    description = write_graph(step, path)
    difference = _largest_difference(step, path)
    LOGGER.info('%s: largest difference from this project in %d random frames: %.1g', path.name, CHECKED_FRAMES,
                difference)
    if difference > TOLERANCE:
        raise UserError(f'{path.name}: results of onnxruntime differ by {difference:.2g}, expected at most '
                        f'{TOLERANCE}; install the versions of requirements-export.txt')
    return description


def _largest_difference(step: StatefulStep, path: Path) -> float:
    """Return the largest difference between a graph's outputs and the step's, relative to values above 1."""
    import onnxruntime

    session, count, worst = onnxruntime.InferenceSession(path), len(step.outputs), 0.0
    # Each side keeps its own state, so that errors add up over the frames as they do in use.
    own = step.start()
    state = [value.numpy() for value in own]
    for frame in step.examples(CHECKED_FRAMES):
        results = step(frame, *own)
        found = session.run(None, {INPUT: frame.numpy(), **dict(zip(step.states, state, strict=True))})
        own, state = results[count:], found[count:]  # outputs come first, then the next state
        for one, other in zip(found[:count], results[:count], strict=True):
            right = other.double().numpy()
            worst = max(worst, float((np.abs(one.astype(float) - right) / np.maximum(1, np.abs(right))).max()))
    return worst


def _write_weights(model: nn.Module, config: EasyDict, path: Path) -> None:
    """Write all weights and buffers, and the configuration of the run as metadata."""
    from safetensors.torch import save_file

    # Copies: the format has no place for views or for tensors that share memory.
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={'format': 'pt', 'config': json.dumps(to_plain(config))})

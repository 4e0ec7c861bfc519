"""Feature files -> progress as CSV, JSON and picture."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prediction.frame_progress import DIGITS, FrameProgress
from prediction.picture import draw_prediction
from prediction.recording import Prediction, predict
from prediction.segments import FORMATS, Segment, check_segments, read_segments
from prediction.trained_run import TrainedRun
from recordings.feature_files import check_headers, open_recording
from recordings.segment_list import list_files
from utils.errors import UserError
from utils.files import atomic_path, make_folder, write_json

ENDINGS = ('.csv', '.json', '.png')


@dataclass(frozen=True)
class Request:
    """A recording to predict.

    Attributes:
        features: its ``.npy`` file.
        segments: its segments; None: the whole recording is one action.
        outputs: files to write, in the order of ``ENDINGS``.
    """

    features: Path
    segments: list[Segment] | None
    outputs: list[Path]


def plan_requests(run: TrainedRun, features: Path, segments: Path | None, out: Path, *,
                  overwrite: bool) -> list[Request]:
    """Find what there is to predict, and look it through before anything is computed.

    Args:
        run: from ``load_run``.
        features: a ``.npy`` file or a folder of them.
        segments: a file of segments, or beside a folder of features a folder with one of the same name for each.
        out: folder that takes the results.
        overwrite: replace those that are there.

    Raises:
        UserError: nothing there, a file that does not fit the run, segments that do not fit their recording, or a
            result that is there already.
    """
    paths = _feature_files(features)
    kept = {path.resolve() for path in (*paths, *_segment_files(segments))}
    shapes = check_headers(paths, run.rank)
    requests = []
    for path in paths:
        run.check_shape(shapes[path], str(path))
        listed = None if segments is None else _segments_of(path, features, segments)
        if listed is not None:
            check_segments(listed, shapes[path][0], str(path))
        requests.append(Request(path, listed, [out / f'{path.stem}{ending}' for ending in ENDINGS]))
    if own := [output for request in requests for output in request.outputs if output.resolve() in kept]:
        raise UserError(f'{own[0]}: would be replaced by a result, but is among the features and segments; choose '
                        'another folder with -o')
    existing = [output for request in requests for output in request.outputs if output.exists()]
    if existing and not overwrite:
        raise UserError(f'{existing[0]}: exists; --overwrite replaces it, or choose another folder with -o')
    return requests


def write_predictions(run: TrainedRun, requests: Sequence[Request], task: str | None, out: Path,
                      ) -> Iterator[tuple[Request, Prediction]]:
    """Predict and write one recording after the other, each file whole or not at all.

    Args:
        run: from ``load_run``.
        requests: from :func:`plan_requests`.
        task: of all recordings.
        out: folder that takes the results; made where it is not there.

    Yields:
        Each recording, once its files are written.

    Raises:
        UserError: values that are not finite, labels or task that the run cannot do with, or a file that cannot be
            written.
    """
    task = run.check_task(task)
    for request in requests:
        prediction = predict(run, open_recording(request.features, run.rank), request.segments, task,
                             name=str(request.features))
        make_folder(out, '-o ', 'choose a folder that can be written')
        table, content, picture = request.outputs
        _write_csv(prediction, table)
        write_json(content, _as_json(run, request, task, prediction))
        draw_prediction(prediction, f'{request.features.stem}: predicted progress within each action', picture)
        yield request, prediction


def _feature_files(features: Path) -> list[Path]:
    if not features.exists():
        raise UserError(f'--features {features}: no such file or folder, expected a .npy file or a folder of them')
    paths = list_files(features, '.npy') if features.is_dir() else [features]
    if not paths:
        raise UserError(f'--features {features}: holds no .npy file, expected one for each recording')
    return paths


def _segment_files(segments: Path | None) -> list[Path]:
    if segments is None:
        return []
    return [path for ending in FORMATS for path in list_files(segments, ending)] if segments.is_dir() else [segments]


def _segments_of(path: Path, features: Path, segments: Path) -> list[Segment]:
    """Read the segments of one of the files under ``features``."""
    if features.is_dir() != segments.is_dir():
        kinds = ('a file', 'a folder')
        raise UserError(f'--segments {segments}: {kinds[segments.is_dir()] if segments.exists() else "nothing there"}, '
                        f'but --features is {kinds[features.is_dir()]}; expected {kinds[features.is_dir()]}, too')
    if segments.is_dir():
        candidates = [segments / f'{path.stem}{ending}' for ending in FORMATS]
        there = [candidate for candidate in candidates if candidate.is_file()]
        if len(there) != 1:
            raise UserError(f'--segments {segments}: {len(there)} files for {path.name}, expected one of '
                            f'{" and ".join(candidate.name for candidate in candidates)}')
        segments = there[0]
    return read_segments(segments)


def frames_ahead(run: TrainedRun, prediction: Prediction) -> int:
    """Return how many frames of a recording after the current one its progress depends on, at most."""
    if not run.max_frames or len(prediction.frames) <= run.model.lookahead:
        return run.delay
    lookahead, frames = run.model.lookahead, prediction.frames
    return int((frames[lookahead:] - frames[:len(frames) - lookahead]).max())


def _write_csv(prediction: Prediction, path: Path) -> None:
    """Write a row per frame."""
    with atomic_path(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(FrameProgress._fields)
        writer.writerows(row.cells() for row in prediction.rows())


def _as_json(run: TrainedRun, request: Request, task: str | None, prediction: Prediction) -> dict:
    """Return what was predicted action by action, and what with."""
    frames = prediction.frames.tolist()
    return {
        'recording': request.features.stem, 'run': run.name, 'checkpoint': run.checkpoint, 'epoch': run.epoch,
        'task': task, 'frames': len(frames), 'frames_ahead': frames_ahead(run, prediction),
        'whole_recording': request.segments is None,
        'actions': [{'label': action.name, 'frames': frames[action.start:action.end + 1],
                     'progress': [round(value, DIGITS) for value in
                                  prediction.progress[action.start:action.end + 1].tolist()]}
                    for action in prediction.actions]}

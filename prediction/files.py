"""Feature files -> progress as CSV, JSON and picture."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from prediction.frame_progress import DIGITS, FrameProgress
from prediction.picture import draw_prediction
from prediction.recording import Prediction, predict
from prediction.segments import Segment, check_segments, choose_segments, read_segment_table, read_segments
from prediction.trained_run import TrainedRun
from recordings.feature_files import check_headers, open_recording
from recordings.segment_list import list_files
from recordings.table_rows import ENDINGS
from utils.errors import UserError
from utils.files import make_folder, write_csv, write_json

RESULTS = ('.csv', '.json', '.png')


@dataclass(frozen=True)
class Request:
    """A recording to predict.

    Attributes:
        features: its ``.npy`` file.
        segments: its segments; None: the whole recording is one action.
        outputs: files to write, in the order of ``RESULTS``.
    """

    features: Path
    segments: list[Segment] | None
    outputs: list[Path]


def plan_requests(run: TrainedRun, features: Path, segments: Path | None, out: Path, *, fps: Fraction | None = None,
                  overwrite: bool) -> list[Request]:
    """Find the recordings to predict, and check them before anything is computed.

    Args:
        run: from ``load_run``.
        features: a ``.npy`` file or a folder of them.
        segments: a table of segments; for a folder of features a table with a column of recordings, or a folder with
            one of the same name for each.
        out: folder that takes the results.
        fps: feature frames per second, if the times of the segments are seconds.
        overwrite: replace results that exist.

    Raises:
        UserError: nothing found, a file that does not fit the run, segments that do not fit their recording, or a
            result that exists already.
    """
    paths = _feature_files(features)
    kept = {path.resolve() for path in (*paths, *_segment_files(segments))}
    shapes = check_headers(paths, run.rank)
    read = _segment_reader(features, segments, fps)
    requests = []
    for path in paths:
        run.check_shape(shapes[path], str(path))
        listed = read(path) if read else None
        if listed is not None:
            check_segments(listed, shapes[path][0], str(path))
        requests.append(Request(path, listed, [out / f'{path.stem}{ending}' for ending in RESULTS]))
    if own := [output for request in requests for output in request.outputs if output.resolve() in kept]:
        raise UserError(f'{own[0]}: would be replaced by a result, but is among the features and segments; choose '
                        'another output folder')
    existing = [output for request in requests for output in request.outputs if output.exists()]
    if existing and not overwrite:
        raise UserError(f'{existing[0]}: exists; set overwrite to replace it, or choose another output folder')
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
        make_folder(out, 'choose an output folder that can be written')
        table, content, picture = request.outputs
        write_csv(table, FrameProgress._fields, (row.cells() for row in prediction.rows()), line_end='\n')
        write_json(content, _as_json(run, request, task, prediction))
        draw_prediction(prediction, f'{request.features.stem}: predicted progress within each action', picture)
        yield request, prediction


def _feature_files(features: Path) -> list[Path]:
    if not features.exists():
        raise UserError(f'{features}: no such file or folder, expected a .npy file or a folder of them')
    paths = list_files(features, '.npy') if features.is_dir() else [features]
    if not paths:
        raise UserError(f'{features}: contains no .npy file, expected one for each recording')
    return paths


def _segment_files(segments: Path | None) -> list[Path]:
    if segments is None:
        return []
    return [path for ending in ENDINGS for path in list_files(segments, ending)] if segments.is_dir() else [segments]


def _segment_reader(features: Path, segments: Path | None, fps: Fraction | None,
                    ) -> Callable[[Path], list[Segment]] | None:
    """Return what reads the segments of one of the files under ``features``; None without segments."""
    if segments is None:
        return None
    if segments.is_dir():
        if not features.is_dir():
            raise UserError(f'{segments}: a folder of segments, but {features} is a file; expected a file, too')
        return lambda path: read_segments(_segment_file(path, segments), path.stem, fps=fps)
    tables = read_segment_table(segments, fps)
    if features.is_dir() and None in tables:
        raise UserError(f'{segments}: a file without a column of recordings, but {features} is a folder; add the '
                        'column, or give a folder of segments, too')
    return lambda path: choose_segments(tables, path.stem, segments)


def _segment_file(path: Path, segments: Path) -> Path:
    """Return the file of segments of a recording in a folder of them."""
    candidates = [segments / f'{path.stem}{ending}' for ending in ENDINGS]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:
        raise UserError(f'{segments}: {len(found)} files for {path.name}, expected one of '
                        f'{" and ".join(candidate.name for candidate in candidates)}')
    return found[0]


def frames_ahead(run: TrainedRun, prediction: Prediction) -> int:
    """Return how many frames of a recording after the current one its progress depends on, at most."""
    if not run.max_frames or len(prediction.frames) <= run.model.lookahead:
        return run.delay
    lookahead, frames = run.model.lookahead, prediction.frames
    return int((frames[lookahead:] - frames[:len(frames) - lookahead]).max())


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

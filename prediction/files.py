"""Predict feature files: write rows as CSV or JSON lines, a summary as JSON, and a picture."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from prediction.frame_progress import DIGITS
from prediction.picture import draw_prediction
from prediction.prediction import Prediction
from prediction.recording import predict
from prediction.row_writer import write_rows
from prediction.segments import Segment, choose_segments, fit_segments, read_segment_table, read_segments
from prediction.trained_run import TrainedRun
from recordings.annotations import check_name
from recordings.feature_files import check_headers, open_recording
from recordings.feature_info import feature_rate
from recordings.feature_lookup import instead_of
from recordings.rates import FRAMES, SECONDS
from recordings.segment_list import list_files
from recordings.segment_tables import TableOptions
from recordings.table_rows import ENDINGS
from utils.errors import UserError
from utils.files import CSV, remove_leftovers, write_json
from utils.folders import make_folder


@dataclass(frozen=True)
class Request:
    """A recording to predict.

    Attributes:
        features: ``.npy`` file of the recording.
        segments: segments of the recording; None if not given.
        fps: feature frames per second; None if unknown.
        rows: file of the rows to write, as CSV or JSON lines depending on its suffix.
        summary: JSON file to write.
        picture: PNG to write; None to write no picture.
    """

    features: Path
    segments: list[Segment] | None
    fps: Fraction | None
    rows: Path
    summary: Path
    picture: Path | None

    @property
    def outputs(self) -> list[Path]:
        """All files to write."""
        return [path for path in (self.rows, self.summary, self.picture) if path]


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written.

    Attributes:
        fps: feature frames per second; if None, read from ``features.json`` next to the features if it exists.
        unit: unit of the segments' times, 'frames' of the features, 'seconds' or 'milliseconds'; None means seconds if
            the frame rate is known, otherwise frames.
        format: format of the rows, 'csv' or 'jsonl'.
        overwrite: replace existing results.
        tables: how tables of segments are read; its rate and unit are set from the other options.
    """

    fps: Fraction | None = None
    unit: str | None = None
    format: str = CSV
    overwrite: bool = False
    tables: TableOptions = field(default_factory=TableOptions)


def plan_requests(run: TrainedRun, features: Path, segments: Path | None, out: Path,
                  options: FileOptions) -> list[Request]:
    """Find the recordings to predict, and check them before any computation.

    Args:
        run: from ``load_run``.
        features: a ``.npy`` file or a folder of them.
        segments: a table of segments; for a folder of features, a table with a column of recordings, or a folder with
            a table of the same name for each recording.
        out: folder of the results.
        options: how files are read and written.

    Raises:
        UserError: there is no recording, a file does not fit the run, segments do not fit their recording, times are
            in seconds but the frame rate is unknown, or a result exists already.
    """
    paths = _feature_files(features)
    # Inputs, which no result may replace.
    kept = {path.resolve() for path in (*paths, *_segment_files(segments))}
    shapes = check_headers(paths, run.ndim)
    fps = options.fps or feature_rate(features if features.is_dir() else features.parent)
    rate = _rate_of_segments(fps, options.unit)
    unit = options.unit or (FRAMES if rate is None else SECONDS)
    read = _segment_reader(features, segments, rate, replace(options.tables, unit=unit))
    # A recording that counts as one action has no steps to draw.
    draws = segments is not None or run.head.offers_filter
    requests = []
    # All of them first: a mistake in the last file must not cost the time to predict the others.
    for path in paths:
        check_name(str(path), path.stem, 'file')  # of the results, in which it is also written
        run.check_shape(shapes[path], str(path))
        listed = read(path) if read else None
        if listed is not None:
            listed = fit_segments(listed, shapes[path][0], str(path))
        requests.append(Request(path, listed, fps, out / f'{path.stem}.{options.format}', out / f'{path.stem}.json',
                                out / f'{path.stem}.png' if draws else None))
    if own := [output for request in requests for output in request.outputs if output.resolve() in kept]:
        raise UserError(f'{own[0]}: would be replaced by a result, but is among the features and segments; choose '
                        'another output folder')
    if not options.overwrite:
        refuse_existing(output for request in requests for output in request.outputs)
    return requests


def refuse_existing(outputs: Iterable[Path]) -> None:
    """Check that no result exists yet.

    Raises:
        UserError: a result exists.
    """
    if existing := next((output for output in outputs if output.exists()), None):
        raise UserError(f'{existing}: exists; give --overwrite to replace it, or choose another output folder')


def write_predictions(run: TrainedRun, requests: Sequence[Request], task: str | None, out: Path,
                      ) -> Iterator[tuple[Request, Prediction]]:
    """Predict and write recordings one after another; each file is written atomically.

    Args:
        run: from ``load_run``.
        requests: from :func:`plan_requests`.
        task: task of all recordings.
        out: folder of the results; created if it is missing.

    Yields:
        Each recording, after its files are written.

    Raises:
        UserError: features or predictions are not finite, labels or task do not fit the run, or a file cannot be
            written.
    """
    task = run.check_task(task)
    remove_leftovers(out)
    for request in requests:
        prediction = predict(run, open_recording(request.features, run.ndim), request.segments, task, fps=request.fps,
                             name=str(request.features))
        # After the first prediction: a run that fails on it leaves no empty folder.
        make_folder(out, 'choose an output folder that can be written')
        write_rows(request.rows, prediction.rows)
        write_json(request.summary, _summary(run, request, task, prediction))
        if request.picture:
            draw_prediction(prediction, request.features.stem, request.picture)
        yield request, prediction


def _feature_files(features: Path) -> list[Path]:
    if not features.exists():
        raise UserError(f'{features}: no such file or folder, expected a .npy file or a folder of them'
                        f'{instead_of([features.stem], features.parent)}')
    paths = list_files(features, '.npy') if features.is_dir() else [features]
    if not paths:
        raise UserError(f'{features}: contains no .npy file, expected one for each recording{instead_of([], features)}')
    return paths


def _rate_of_segments(fps: Fraction | None, unit: str | None) -> Fraction | None:
    """Return the feature frames per second if the segments' times are not in frames, otherwise None."""
    if unit not in (None, FRAMES) and fps is None:
        raise UserError(f'unit {unit}: the frame rate of the features is not known, expected features.json next to '
                        'them or the frames per second (fps); give it')
    return None if unit == FRAMES else fps


def _segment_files(segments: Path | None) -> list[Path]:
    if segments is None:
        return []
    return [path for ending in ENDINGS for path in list_files(segments, ending)] if segments.is_dir() else [segments]


def _segment_reader(features: Path, segments: Path | None, fps: Fraction | None, options: TableOptions,
                    ) -> Callable[[Path], list[Segment]] | None:
    """Return a function that reads the segments of a file under ``features``; None if there are no segments."""
    if segments is None:
        return None
    if segments.is_dir():
        if not features.is_dir():
            raise UserError(f'{segments}: a folder of segments, but {features} is a file; expected a file, too')
        return lambda path: read_segments(_segment_file(path, segments), path.stem, fps=fps, options=options)
    tables = read_segment_table(segments, fps, options)
    if features.is_dir() and None in tables:
        raise UserError(f'{segments}: a file without a column of recordings, but {features} is a folder; add the '
                        'column, or give a folder of segments, too')
    return lambda path: choose_segments(tables, path.stem, segments)


def _segment_file(path: Path, segments: Path) -> Path:
    """Return the file of a recording's segments in a folder of segment files."""
    candidates = [segments / f'{path.stem}{ending}' for ending in ENDINGS]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:  # two would be ambiguous
        raise UserError(f'{segments}: {len(found)} files for {path.name}, expected one of '
                        f'{", ".join(candidate.name for candidate in candidates)}')
    return found[0]


def frames_ahead(run: TrainedRun, prediction: Prediction) -> int:
    """Return the largest number of frames after the current frame that its progress depends on."""
    lookahead, frames = run.model.lookahead, prediction.frame
    if not run.max_frames or len(frames) <= lookahead:
        return run.delay
    # In feature frames: the spacing of used frames varies if MAX_FRAMES selects them.
    return int((frames[lookahead:] - frames[:len(frames) - lookahead]).max())


def _summary(run: TrainedRun, request: Request, task: str | None, prediction: Prediction) -> dict[str, object]:
    """Return the predictions per action, and the settings that they were made with."""
    frames, progress = prediction.frame.tolist(), prediction.progress.tolist()
    return {
        'recording': request.features.stem, 'run': run.name, 'checkpoint': run.checkpoint, 'epoch': run.epoch,
        'task': task, 'fps': None if request.fps is None else float(request.fps), 'frames': len(frames),
        'frames_ahead': frames_ahead(run, prediction), 'boundaries': prediction.boundaries,
        'actions': [{'label': action.name, 'frames': frames[action.start:action.end + 1],
                     'progress': [round(value, DIGITS) for value in progress[action.start:action.end + 1]]}
                    for action in prediction.actions]}

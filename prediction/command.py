"""Implementation of ``predict.py``, after its command line is parsed."""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from models.build import input_width
from prediction import Prediction, TrainedRun
from prediction.captions import write_subtitles
from prediction.files import FileOptions, frames_ahead, plan_requests, refuse_existing, write_predictions
from prediction.many_recordings import RecordingStreams
from prediction.overlay import write_overlay
from prediction.row_writer import RowWriter
from prediction.serve import serve
from prediction.standard_input import NAME
from prediction.video import RunEncoder, extract_video, live_rows
from recordings.segment_tables import TableOptions
from recordings.table_options import read_columns, timecode_rate
from recordings.video import check_video_name
from utils.command_line import option
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.logging import get_logger
from utils.standard_streams import say

LOGGER = get_logger(__name__)
DEFAULT_OUTPUT = Path('predictions')
TABLE_ADVICE = {'column': ', or name it with --columns {}=NAME',
                'overlap': ', or give --trim_overlaps to end each segment where the next segment starts'}


def predict_files(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None, features: Path,
                  use: Callable[[Prediction], None] = lambda prediction: None) -> None:
    """Write the predictions for recordings in files.

    Args:
        run: from ``load_run``.
        arguments: arguments of the command line.
        fps: feature frames per second, if given.
        features: file or folder of features.
        use: called with each prediction after it is written.
    """
    out = arguments.output or DEFAULT_OUTPUT
    tables = TableOptions(timecode_rate=timecode_rate(arguments), first_frame=arguments.first_frame,
                          inclusive_ends=arguments.inclusive_ends, trim_overlaps=arguments.trim_overlaps,
                          columns=read_columns(arguments), advice=TABLE_ADVICE)
    requests = plan_requests(run, features, arguments.segments, out,
                             FileOptions(fps, arguments.unit, arguments.format, arguments.overwrite, tables))
    if arguments.segments is None and not run.head.offers_filter:
        LOGGER.warning('no --segments: each recording counts as one action, from its first frame to its last. This '
                       'fits recordings of a single action; for longer recordings the result means little, because '
                       'the head predicts progress within single actions and does not infer where they start and end')
    ahead = 0
    with option('--task'):
        task = run.check_task(arguments.task)
    for request, prediction in write_predictions(run, requests, task, out):
        ahead = max(ahead, frames_ahead(run, prediction))
        say(f'{request.features.stem}: {len(prediction.rows)} frames, actions: {len(prediction.actions)} -> '
              f'{", ".join(map(str, request.outputs))}')
        use(prediction)
    say(f'{run.checkpoint}.pt (epoch {run.epoch}); the encoder sees {ahead} frames ahead')


def predict_video(run: TrainedRun, arguments: argparse.Namespace) -> None:
    """Write the predictions for a video, or print the rows of a live source."""
    encoder, source = RunEncoder(run), Path(arguments.video)
    # A camera, a pipe, or an address: its rows are printed while it runs.
    if not source.is_file():
        with option('--task'):
            task = run.check_task(arguments.task)
        with rows_to_stdout():
            writer = RowWriter(sys.stdout, arguments.format)
            for row in live_rows(run, encoder, arguments.video, task):
                writer.write(row)
                sys.stdout.flush()  # otherwise a pipe gets rows in blocks
        return
    results = [arguments.overlay, arguments.srt]
    if arguments.overlay:
        check_video_name(arguments.overlay)
    if not arguments.overwrite:  # before the video is read, which takes time
        out = arguments.output or DEFAULT_OUTPUT
        refuse_existing([*filter(None, results), *(out / f'{source.stem}.{ending}' for ending in
                                                   (arguments.format, 'json', 'png'))])
    # Compare resolved paths: two spellings of a path may name the same file.
    if source.resolve() in [path.resolve() for path in results if path]:
        raise UserError(f'{source}: would be replaced by its own overlay or subtitles; choose another name')
    for path in filter(None, results):
        remove_leftovers(path.parent)

    def use(prediction: Prediction) -> None:
        if arguments.srt:
            write_subtitles(arguments.srt, prediction.rows, encoder.info.fps)
        if arguments.overlay:
            write_overlay(source, arguments.overlay, prediction.rows, encoder.info.fps)

    # The features are needed only until they are predicted.
    with TemporaryDirectory() as folder:
        predict_files(run, arguments, None, extract_video(source, encoder, Path(folder)), use)


@contextmanager
def rows_to_stdout() -> Iterator[None]:
    """Prepare standard output for rows, and end without an error if the reader closes it."""
    # Use the encoding of the files, regardless of the terminal: labels may be any text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding='utf-8', newline='')
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe; without this, Python would report an error when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is not None:  # of another file
            raise
        raise UserError(f'standard output: cannot be written ({error.strerror}); give it a pipe, or a file on a disk '
                        'with free space') from error


def predict_stream(run: TrainedRun, arguments: argparse.Namespace, fps: Fraction | None) -> None:
    """Print the predictions for frames from standard input, each row as soon as it is available."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(f'--stream: {NAME} is {"closed" if sys.stdin is None else "a terminal"}, expected frames; pipe '
                        'them in')
    boundaries = 'inferred unless marked' if run.head.offers_filter else 'where they are marked'
    LOGGER.info('%s.pt (epoch %d); the progress of a frame comes %d frames after it; boundaries are %s', run.checkpoint,
                run.epoch, run.delay, boundaries)
    with option('--task'):
        task = run.check_task(arguments.task)
    streams = RecordingStreams(run, task, fps=fps, name=NAME)
    source = cast(io.BufferedReader, sys.stdin.buffer)  # its declared type lacks peek
    with rows_to_stdout():
        serve(streams, source, run.ndim, sys.stdout, arguments.format, skip_bad=arguments.skip_bad,
              width=input_width(run.config))

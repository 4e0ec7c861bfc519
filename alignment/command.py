"""Implementation of ``align.py``, after its command line is parsed."""

import argparse
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from alignment.annotations import Tables, read_labels, read_tables, write_annotations
from alignment.labels import agreement, frame_labels, label_segments
from alignment.output import Alignment, align_recording, write_matches
from alignment.picture import DrawnAlignment, draw_alignment
from alignment.recordings import AlignedRecording, feature_rate_of, find_sources, is_video, load_recordings
from alignment.reference import choose_reference
from configs.generic_config import CONFIG
from prediction import TrainedRun
from prediction.files import refuse_existing
from recordings.annotations import check_task_name
from recordings.rates import FRAMES, SECONDS
from recordings.video import check_video_name
from utils.action import Action
from utils.command_line import option
from utils.errors import UserError
from utils.files import remove_leftovers
from utils.folders import make_folder
from utils.standard_streams import say

DEFAULT_TASK = 'recordings'
ANNOTATIONS = 'annotations.json'
Segments = Mapping[str, Sequence[Action]]


def align(arguments: argparse.Namespace, run: TrainedRun | None, fps: Fraction | None) -> None:
    """Align recordings, write the results, and print one line for each."""
    sources = find_sources(arguments.recordings)
    _check_outputs(arguments, sources)
    tables = _read_tables(arguments, sources, run, fps)
    recordings = load_recordings(sources, run, fps)
    background = (run.config if run else CONFIG).BACKGROUND_LABELS
    given, task = _read_given(arguments, recordings, tables, background)
    with option('--reference'):
        chosen = choose_reference([one.name for one in recordings], [one.embedding for one in recordings],
                                  arguments.reference, list(given) or [one.name for one in recordings],
                                  keep_order=arguments.keep_order)
    reference = recordings.pop(chosen)
    if given and reference.name not in given:
        raise UserError(f'--reference {reference.name}: is not annotated in {arguments.labels}, expected one of '
                        f'{", ".join(given)}')
    labels = frame_labels(given[reference.name], reference.frames) if given else None
    say(f'reference: {reference.name}')
    make_folder(arguments.output, 'choose an output folder that can be written')
    for folder in {arguments.output, *(path.parent for path in (arguments.annotations, arguments.video) if path)}:
        remove_leftovers(folder)  # of processes that were killed
    alignments = []
    for recording in recordings:
        alignments.append(align_recording(recording, reference, labels, keep_order=arguments.keep_order))
        _write(alignments[-1], reference, labels, given.get(recording.name), arguments.output, background)
    if given:
        path = arguments.annotations or arguments.output / ANNOTATIONS
        write_annotations(path, arguments.task or task or _only_task(run) or DEFAULT_TASK,
                          _annotated(reference, alignments, given), background[0])
        say(f'labels carried over -> {path}')
    if arguments.video:
        from alignment.side_by_side import write_side_by_side  # needs requirements-video.txt

        write_side_by_side(arguments.video, reference, labels, alignments)
        say(f'side by side -> {arguments.video}')


def _check_outputs(arguments: argparse.Namespace, sources: Sequence[Path]) -> None:
    """Check that no result exists or would replace an input, before the recordings are read, which takes time."""
    if arguments.task:
        check_task_name('--task', arguments.task)
    if arguments.video and (features := [source for source in sources if not is_video(source)]):
        raise UserError(f'--video {arguments.video}: needs the videos of all recordings, but {features[0]} is a '
                        'feature file; give the videos')
    if arguments.video:
        check_video_name(arguments.video)
    named = [path for path in (arguments.annotations, arguments.video) if path]
    results = [*named, *(arguments.output / f'{source.stem}.{ending}' for source in sources
                         for ending in ('csv', 'png'))]
    if arguments.labels and not arguments.annotations:
        results.append(arguments.output / ANNOTATIONS)
    inputs = {path.resolve() for path in (*sources, *filter(None, [arguments.labels]))}
    if own := [path for path in results if path.resolve() in inputs]:
        raise UserError(f'{own[0]}: would be replaced by a result, but is read; choose another name')
    for path in named:
        if not path.resolve().parent.is_dir():
            raise UserError(f'{path}: its folder does not exist; create it, or choose another folder')
    if not arguments.overwrite:
        refuse_existing(results)


def _read_tables(arguments: argparse.Namespace, sources: Sequence[Path], run: TrainedRun | None,
                 fps: Fraction | None) -> Tables | None:
    """Read the table of labels before the recordings are read, which takes time for videos."""
    if arguments.labels is None:
        return None
    rates = {feature_rate_of(source, run, fps) for source in sources}
    rate = None if arguments.unit == FRAMES or len(rates) > 1 else rates.pop()
    with option('--labels'):
        if arguments.unit == SECONDS and rate is None:
            raise UserError(f'{arguments.labels}: times are in seconds, but the recordings have no known common frame '
                            'rate; give --fps')
        return read_tables(arguments.labels, [source.stem for source in sources], arguments.reference, rate)


def _read_given(arguments: argparse.Namespace, recordings: Sequence[AlignedRecording], tables: Tables | None,
                background: Sequence[str]) -> tuple[Segments, str | None]:
    """Return the given labels, name -> segments, and their task; nothing if no labels are given."""
    if arguments.labels is None:
        return {}, None
    with option('--labels'):
        return read_labels(arguments.labels, {one.name: one.num_frames for one in recordings}, tables, background)


def _only_task(run: TrainedRun | None) -> str | None:
    return run.tasks[0] if run and len(run.tasks) == 1 else None


def _write(alignment: Alignment, reference: AlignedRecording, labels: Sequence[str | None] | None,
           given: Sequence[Action] | None, out: Path, background: Sequence[str]) -> None:
    """Write the CSV and the picture of an aligned recording, and print a line."""
    recording, matches = alignment.recording, alignment.matches
    table, picture = (out / f'{recording.name}.{ending}' for ending in ('csv', 'png'))
    ribbons = {} if labels is None else {'carried over': alignment.labels}
    agreeing = ''
    if labels is not None and given is not None:
        ribbons['given'] = frame_labels(given, recording.frames)
        agreeing = f', {agreement(alignment.labels, ribbons["given"]):.1%} of its given labels'
    write_matches(table, alignment, reference)
    draw_alignment(DrawnAlignment(reference.name, recording.name, (reference.embedding, recording.embedding), matches,
                                  labels, ribbons, background), picture)
    say(f'{recording.name}: {matches.matched.mean():.1%} of {len(matches.frames)} frames matched, confidence '
        f'{matches.confidence.mean():.2f}{agreeing} -> {table}, {picture}')


def _annotated(reference: AlignedRecording, alignments: Sequence[Alignment],
               given: Segments) -> dict[str, tuple[Sequence[Action], int]]:
    """Return name -> segments and length; labels that were given are kept."""
    segments = {reference.name: (given[reference.name], reference.num_frames)}
    for alignment in alignments:
        one = alignment.recording
        own = given.get(one.name) or label_segments(alignment.labels, one.frames, one.num_frames)
        segments[one.name] = own, one.num_frames
    return segments

"""Write the matches of a recording as CSV, and align recordings to a reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment.labels import CarriedLabels, Labels, carry_labels
from alignment.matching import UNMATCHED, FrameMatches, match_frames
from alignment.recordings import AlignedRecording
from utils.files import write_csv

COLUMNS = ('frame', 'time_s', 'reference_frame', 'reference_time_s', 'confidence', 'step', 'step_probability')
DIGITS = 4  # decimals of times and confidences


@dataclass(frozen=True)
class Alignment:
    """A recording aligned to the reference.

    Attributes:
        recording: the recording.
        matches: matches of its used frames.
        carried: labels carried over to its used frames; None if the reference is not annotated.
    """

    recording: AlignedRecording
    matches: FrameMatches
    carried: CarriedLabels | None

    @property
    def labels(self) -> Labels | None:
        """The labels that were carried over."""
        return self.carried.labels if self.carried else None


def align_recording(recording: AlignedRecording, reference: AlignedRecording, labels: Labels | None) -> Alignment:
    """Match a recording to the reference, and carry over the labels of the reference's used frames, if given."""
    matches = match_frames(recording.embedding, reference.embedding)
    return Alignment(recording, matches, None if labels is None else carry_labels(matches, labels))


def match_rows(alignment: Alignment, reference: AlignedRecording) -> list[Sequence]:
    """Return the rows of the CSV, one for each used frame; frames are those of the features."""
    rows, recording, matches = [], alignment.recording, alignment.matches
    steps = list(zip(*alignment.carried, strict=True)) if alignment.carried else [(None, None)] * len(matches.frames)
    for position, (match, confidence) in enumerate(zip(matches.frames.tolist(), matches.confidence.tolist(),
                                                       strict=True)):
        theirs = (None, None) if match == UNMATCHED else (reference.frames[match], _round(reference.seconds(match)))
        step, probability = steps[position]
        rows.append((recording.frames[position], _round(recording.seconds(position)), *theirs, _round(confidence),
                     step, _round(probability)))
    return rows


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)


def write_matches(path: Path, alignment: Alignment, reference: AlignedRecording) -> None:
    """Write the matches of a recording as CSV, atomically."""
    write_csv(path, COLUMNS, match_rows(alignment, reference), line_end='\n')

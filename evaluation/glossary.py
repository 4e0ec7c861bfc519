"""What the columns of the tables are, in a line each, and which way is better."""

from collections.abc import Sequence
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a column holds.

    Attributes:
        better: 'higher' or 'lower'; '' where neither is, as of a count or of something to compare with.
        text: one line.
    """

    better: str
    text: str

    @property
    def arrow(self) -> str:
        """The direction of better values as an arrow after a hard space; nothing where there is none."""
        return {'higher': '\N{NO-BREAK SPACE}↑', 'lower': '\N{NO-BREAK SPACE}↓'}.get(self.better, '')


COLUMNS = {
    'accuracy_10': Meaning('higher', 'share of test frames whose step a linear classifier names, having seen 10 % of '
                                     'the labelled recordings'),
    'accuracy_50': Meaning('higher', 'the same, having seen 50 %'),
    'accuracy_100': Meaning('higher', 'the same, having seen all'),
    'accuracy_majority': Meaning('', 'the same for always answering the most frequent label: to be beaten'),
    'r2': Meaning('higher', 'how well a linear regression reads the progress of the recording off a single frame: '
                            '1 is exact, 0 is no better than the mean'),
    'kendalls_tau': Meaning('higher', 'whether nearest neighbours in another recording keep the order of time: 1 where '
                                      'time runs alike, 0 by chance'),
    'kendalls_tau_wild': Meaning('higher', 'whether they keep the order of the true alignment, also where steps come '
                                           'in another order: 1 is exact, 0 chance'),
    'enclosed_area_error': Meaning('lower', 'distance from the nearest neighbour to where the frame belongs, as a '
                                            'share of the recording: 0 is exact, about 1/3 chance'),
    'ogpe': Meaning('lower', 'error of the progress of the whole recording, told from the path along the embedding'),
    'CoV': Meaning('lower', 'spread of the path lengths of training recordings, as a share of their mean'),
    'num_recordings': Meaning('', 'test recordings that have an action'),
    'num_actions': Meaning('', 'actions in test recordings'),
    'mae': Meaning('lower', "mean absolute error of the head's progress within actions: 0 is exact, 0.25 is what "
                            'always answering 0.5 scores'),
    'mae_short': Meaning('lower', 'the same for actions of up to 5 frames'),
    'mae_medium': Meaning('lower', 'the same for actions of 6 to 20 frames'),
    'mae_long': Meaning('lower', 'the same for longer actions'),
    'spearman': Meaning('higher', 'rank correlation of predicted with true progress within an action: 1 is the right '
                                  'order, 0 none'),
    'monotonicity': Meaning('higher', 'share of steps from frame to frame at which the progress does not fall'),
    'first_frame_error': Meaning('lower', "error at an action's first frame"),
    'last_frame_error': Meaning('lower', "error at an action's last frame"),
    'baseline_constant': Meaning('', 'error of always answering 0.5'),
    'baseline_average_index': Meaning('', 'error of the mean progress that training actions have at their i-th frame'),
    'baseline_average_index_per_step': Meaning('', 'the same over training actions of the same step; told the step'),
    'baseline_paced_per_step': Meaning('', 'that, with time scaled by the pace of the recording so far; told the step'),
    'baseline_cumulative_distance': Meaning('', 'error of the path along the embedding since the action began'),
    'skill': Meaning('higher', 'share of the error of the best baseline that the head saves, among those that are '
                               'not told the step. 1 is exact, 0 no better, below 0 worse'),
}


def meaning_of(column: str) -> Meaning:
    """Return what a column is; nothing, without a direction, of one that is not listed, as of a metric just added."""
    return COLUMNS.get(column, Meaning('', ''))


def best_places(values: Sequence[float], better: str) -> set[int]:
    """Return where the best values stand; none where no direction is better, or all values that there are agree."""
    present = {value for value in values if value == value}  # NaN differs from itself
    if not better or len(present) < 2:
        return set()
    best = max(present) if better == 'higher' else min(present)
    return {place for place, value in enumerate(values) if value == best}

"""Which recordings take no part in training, and why, as far as the data tell."""

from collections.abc import Mapping

from datasets.json_dataset import RecordingsByTask
from utils.tensorops import list_actions


def explain_unused(config: Mapping, recordings: RecordingsByTask,
                   parts: Mapping[str, RecordingsByTask]) -> dict[str, list[str]]:
    """Say which recordings take no part, or not in all, of a training run.

    Args:
        config: a CONFIG.
        recordings: what ``load_dataset`` returned.
        parts: what ``split_recordings`` returned.

    Returns:
        Why -> their handles, for the reasons that there are.
    """
    progress = config.PROGRESS_LOSS
    shortest = progress.min_segment_len if progress.sampling == 'segment' else 1
    in_split = {recording.handle for part in parts.values() for members in part.values() for recording in members}
    silent = {recording.handle for members in parts['train'].values() for recording in members if not any(
        action.length >= shortest
        for action in list_actions(recording.times, recording.num_frames, config.BACKGROUND_LABELS))}
    alone = {recording.handle for members in parts['train'].values() for recording in members
             if min(len(members), config.BATCH_SIZE) == 1}
    idle = alone & silent if progress.enabled else alone
    reasons = {
        'never used, left out with their task: its annotation lists cannot be matched to its handles':
            recordings.left_out,
        'never used, in no part of the split': [
            recording.handle for members in recordings.values() for recording in members
            if recording.handle not in in_split],
        'never used, nothing to be aligned with' + ' and no action' * progress.enabled: sorted(idle),
        f'without an action of {shortest} frames or more, aligned but without part in the progress loss':
            sorted(silent - idle) if progress.enabled else [],
    }
    return {reason: handles for reason, handles in reasons.items() if handles}

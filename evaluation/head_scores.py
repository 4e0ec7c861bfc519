"""Scores of a progress head on a task's test recordings: progress within given actions, and the head's other tables."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from evaluation.baselines import ProgressBaselines, mean_action_distance
from evaluation.embedded_task import EmbeddedTask, groups_of
from evaluation.head_tables import HeadScorer, HeadTables, TaskPart, Training
from evaluation.progress_metrics import (
    PROGRESS_TABLE,
    ActionCurves,
    LengthErrors,
    StepErrors,
    action_progress_row,
    recording_row,
)
from evaluation.progress_picture import DrawnRecording
from evaluation.running_means import RunningMeans
from evaluation.sampling import MAX_RECORDINGS, sampled_recordings
from models.action_progress import predict_actions
from recordings.json_dataset import Recording
from utils.tensorops import action_progress


class HeadScores:
    """Scores of a head on the test recordings of a task, which are added chunk by chunk and not kept.

    Args:
        model: model with a progress head, in eval mode.
        task: name of the task.
        training: its training recordings; at least one action.
        sample: those of them whose embeddings are in memory.
        device: device of the model.

    Attributes:
        steps: errors by label.
        lengths: errors by length of the action.
    """

    def __init__(self, model: nn.Module, task: str, training: Sequence[Recording], sample: EmbeddedTask,
                 device: torch.device) -> None:
        self._model, self._task, self._device = model, task, device
        # Baselines that read annotations alone are fitted to more recordings than those that read embeddings.
        # If they are sampled, then from recordings with actions: a sample without any could not be fitted to.
        pool = training if len(training) <= MAX_RECORDINGS else [one for one in training if one.actions]
        annotated = [pool[index] for index in sampled_recordings([one.num_frames for one in pool], 0)]
        actions = [recording.actions for recording in annotated]
        self._baselines = ProgressBaselines(actions, mean_action_distance(sample.actions, sample.embeddings),
                                            groups_of(annotated))
        self._head = HeadScorer(model.progress_head, Training(
            actions, [recording.num_frames for recording in annotated], self._baselines.survival,
            self._part(sample, None)), device)
        self._progress, self._groups = RunningMeans(), defaultdict[str, RunningMeans](RunningMeans)
        self.steps, self.lengths = StepErrors(), LengthErrors()

    def add(self, test: EmbeddedTask, groups: Sequence[str] | None) -> list[DrawnRecording]:
        """Score test recordings.

        Args:
            test: some test recordings of the task.
            groups: who performs each of them; None if this is unknown for all recordings of the task.

        Returns:
            What a picture shows of each recording.
        """
        curves = [self._curves(test, index) for index in range(len(test.recordings))]
        for index, of_recording in enumerate(curves):
            row = recording_row(of_recording)
            for means in (self._progress, *([self._groups[groups[index]]] if groups else [])):
                means.add(row)
            self.steps.add(of_recording)
            self.lengths.add(of_recording)
        answers = self._head.add(self._part(test, groups))
        return [DrawnRecording(recording.handle, actions, theirs, len(embedding), answer)
                for recording, actions, theirs, embedding, answer
                in zip(test.recordings, test.actions, curves, test.embeddings, answers, strict=True)]

    def tables(self) -> HeadTables:
        """Return the rows of the task, of ``action_progress.csv``, too."""
        found = self._head.tables()
        by_group = {group: action_progress_row(self._groups[group]) for group in sorted(self._groups)}
        return HeadTables({PROGRESS_TABLE: action_progress_row(self._progress), **found.rows},
                          {PROGRESS_TABLE: by_group, **found.by_group} if by_group else {},
                          found.tenths, found.missing)

    def _part(self, embedded: EmbeddedTask, groups: Sequence[str] | None) -> TaskPart:
        return TaskPart(self._task, [recording.handle for recording in embedded.recordings], embedded.embeddings,
                        embedded.actions, groups)

    def _curves(self, test: EmbeddedTask, index: int) -> list[ActionCurves]:
        """Predict the progress of a test recording's actions with the head and with every baseline."""
        embedding, actions = test.embeddings[index], test.actions[index]
        # The head gets the true starts, and contexts that tell it about completed actions.
        heads = predict_actions(self._model, embedding.to(self._device), actions, self._task)
        return [ActionCurves(action.name, action.length, action_progress(action, len(embedding)).numpy(),
                             {'head': head.numpy(), **others})
                for action, head, others in zip(actions, heads, self._baselines.predict(actions, embedding),
                                                strict=True)]

"""The interface of progress heads: the methods that training, evaluation, and prediction call."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.heads.estimates import FrameEstimates
from utils.errors import UserError
from utils.tensorops import Action, SampledSegment

ALL_SAMPLINGS = ('segment', 'prefix', 'dense')
ActionsByTask = Mapping[str, Sequence[Sequence[Action]]]  # task -> actions of each of its recordings
Penalty = Callable[[Tensor, Tensor], Tensor]  # (prediction, target) of equal shape -> (), the mean over entries


class EmbeddedRecording(NamedTuple):
    """A recording embedded by the current encoder.

    Attributes:
        task: task that the recording belongs to.
        handle: name of the recording.
        embeddings: (T, D), without gradient.
        actions: its actions in order of time, without background; their frames index the rows of ``embeddings``.
        group: who performs it, for leaving groups out; None if unknown.
    """

    task: str
    handle: str
    embeddings: Tensor
    actions: list[Action]
    group: str | None = None


class ProgressHeadBase(nn.Module):
    """Turns the embeddings of an action so far into its progress, in [0, 1].

    A new head implements :meth:`forward`, :meth:`forward_dense` and :meth:`step`, overrides other methods as needed,
    and is added to ``HEADS`` in ``configs/choices.py``. Anything that it learns outside of its parameters must be a
    buffer, so that the checkpoint stores it.

    Args:
        input_dim: D, the dimension of the embeddings.
        normalize_embeddings: apply LayerNorm without parameters to the embeddings first. Under alignment losses, the
            scale of the embeddings grows until it saturates the gates.

    Attributes:
        OPTIONS: settings of PROGRESS_LOSS that the constructor takes, under the same names.
        SAMPLINGS: values of PROGRESS_LOSS.sampling that the head supports.
        NEEDS_ACTIONS: True if the head cannot be built unless the training recordings contain an action.
        fits_embeddings: True if the head implements :meth:`fit` (set automatically); the training loop embeds the
            training recordings for it only if this is True.
        calibrates: the same of :meth:`calibrate`.
        offers_filter: True if the head infers boundaries and implements :meth:`filter` and :meth:`filter_step`.
        offers_intervals: True if the head predicts intervals and implements :meth:`forward_intervals`.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    SAMPLINGS: ClassVar[tuple[str, ...]] = ALL_SAMPLINGS
    NEEDS_ACTIONS: ClassVar[bool] = False
    fits_embeddings = False
    calibrates = False
    offers_filter = False
    offers_intervals = False

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        # Set here, because nothing would say that a method of the head is never called.
        cls.fits_embeddings = cls.fit is not ProgressHeadBase.fit
        cls.calibrates = cls.calibrate is not ProgressHeadBase.calibrate

    def __init__(self, input_dim: int, *, normalize_embeddings: bool = True) -> None:
        super().__init__()
        self.input_dim, self.normalize_embeddings = input_dim, normalize_embeddings

    # --- settings ---

    @classmethod
    def fill_in(cls, settings: dict[str, object], training: ActionsByTask) -> None:
        """Fill in settings of the head that depend on the annotations, in place. The base class changes nothing.

        Args:
            settings: PROGRESS_LOSS of the run.
            training: actions of the training recordings.

        Raises:
            UserError: the head cannot learn from these recordings.
        """

    # --- learning ---

    def loss(self, segments: Sequence[SampledSegment], penalty: Penalty = F.l1_loss) -> dict[str, Tensor]:
        """Return the loss of the predicted progress against the true progress.

        Args:
            segments: at least one segment; all targets have the same number of axes.
            penalty: error of predictions against targets.

        Returns:
            Name -> term (); the progress loss is their sum. The base class returns 'progress': the mean over segments
            (of the mean over frames, if every frame has a target).
        """
        inputs = [segment.embeddings for segment in segments]
        # Targets () are progress at the last frame, from sampling 'segment' and 'prefix'; targets (n_i,) are from
        # 'dense'.
        if segments[0].target.ndim == 0:
            last = self(inputs)
            if last.shape != (len(inputs),):
                raise UserError(f'the progress head {type(self).__name__}: forward returned the shape '
                                f'{tuple(last.shape)} for {len(inputs)} segments, expected ({len(inputs)},), a number '
                                'per segment; fix the head')
            # (B,) against (B,)
            return {'progress': penalty(last, torch.stack([segment.target for segment in segments]))}
        predictions = self.forward_dense(inputs, [segment.context for segment in segments])
        self.check_dense(predictions, inputs)
        # The mean of means: a long action has many frames, but it counts as one segment.
        return {'progress': torch.stack([penalty(predicted, segment.target) for predicted, segment
                                         in zip(predictions, segments, strict=True)]).mean()}

    def check_dense(self, predictions: Sequence[Tensor], segments: Sequence[Tensor]) -> None:
        """Check that :meth:`forward_dense` returned a number per frame of each segment (n_i, D).

        Raises:
            UserError: it did not. A single number would be broadcast, and a wrong head would train and be scored.
        """
        found = [tuple(one.shape) for one in predictions]
        if (expected := [(len(segment),) for segment in segments]) != found:
            one, other = next(((one, other) for one, other in zip(found, expected, strict=False) if one != other),
                              (f'of {len(found)} tensors', f'{len(expected)} tensors'))
            raise UserError(f'the progress head {type(self).__name__}: forward_dense returned the shape {one}, '
                            f'expected {other}, a number per frame of each segment; fix the head')

    def fit(self, recordings: Sequence[EmbeddedRecording]) -> None:
        """Fit the head to the training recordings in closed form, in place; called before each validation.

        The base class does nothing.
        """

    def calibrate(self, recordings: Sequence[EmbeddedRecording], penalty: Penalty = F.l1_loss) -> None:
        """Calibrate the head on recordings that it was not trained on, in place. The base class does nothing.

        Args:
            recordings: recordings held out from training and from :meth:`fit`.
            penalty: error that the run is trained on.
        """

    def chosen(self) -> dict[str, float]:
        """Return the weights that the head chose by itself, such as the weight of each source of evidence.

        Training logs them after each epoch, the checkpoint stores them, and evaluation shows them. The base class
        returns an empty dictionary.
        """
        return {}

    # --- tasks and labels known to the head ---

    @property
    def tasks(self) -> list[str] | None:
        """Tasks that the head knows, sorted; None if it does not distinguish tasks."""
        return None

    def labels(self, task: str | None) -> list[str]:
        """Return the labels that the head knows of a task, or of all tasks for None. The base class knows no labels."""
        return []

    def check_task(self, task: str | None) -> str | None:
        """Check the task of a recording, None if the task is unknown.

        Returns:
            Text of a warning for the user; None if there is nothing to warn about.

        Raises:
            UserError: the head requires a task.
        """
        return None

    def check_label(self, task: str | None, label: str | None) -> str | None:
        """Check the label of an action, None if the action is unlabeled.

        Returns:
            Text of a warning for the user; None if there is nothing to warn about.

        Raises:
            UserError: the head requires a label.
        """
        return None

    # --- actions whose start is given ---

    def context(self, task: str | None, actions: Sequence[Action], action: Action) -> object:
        """Return the head's input besides embeddings: what is known about an action at its start.

        The base class returns None.

        Args:
            task: task of the recording; None if unknown.
            actions: actions of the recording. Only actions completed before ``action`` starts affect the result.
            action: an element of ``actions``; its end does not affect the result.
        """
        return None

    def contexts(self, task: str | None, actions: Sequence[Action]) -> list:
        """Return the :meth:`context` of each action of a recording."""
        return [self.context(task, actions, action) for action in actions]

    def forward(self, segments: Tensor | Sequence[Tensor], contexts: Sequence | None = None, *,
                lengths: Tensor | None = None) -> Tensor:
        """Predict progress at the last frame.

        Args:
            segments: a segment (n, D), a list of segments (n_i, D), or with ``lengths`` a padded batch (B, n, D).
            contexts: from :meth:`contexts`, one per segment; None if nothing is known.
            lengths: (B,), frames of each segment of a padded batch; padding does not affect the result.

        Returns:
            () for a single segment, otherwise (B,), in [0, 1].

        Raises:
            ValueError: a shape is wrong, or a segment has no frames.
        """
        raise NotImplementedError

    def forward_dense(self, segments: Tensor | Sequence[Tensor],
                      contexts: Sequence | None = None) -> Tensor | list[Tensor]:
        """Predict progress at every frame from the frames up to it.

        Args:
            segments: a segment (n, D) or a list of segments.
            contexts: from :meth:`contexts`, one per segment; None if nothing is known.

        Returns:
            (n,) in [0, 1]; element t equals ``forward(segment[:t + 1])``. For a list of segments, a list of tensors.

        Raises:
            ValueError: a shape is wrong, or a segment has no frames.
        """
        raise NotImplementedError

    def step(self, embedding: Tensor, state: object = None, context: object = None) -> tuple[Tensor, object]:
        """Predict progress one frame at a time, at constant cost.

        Args:
            embedding: (D,), the next frame.
            state: state returned by the previous call; None at the first frame.
            context: from :meth:`context`, the same at every frame of the action.

        Returns:
            Progress () at the frame, and the state for the next call.

        Raises:
            ValueError: the shape is wrong.
        """
        raise NotImplementedError

    def forward_intervals(self, segments: Sequence[Tensor], contexts: Sequence | None = None) -> list[Tensor]:
        """Predict the 5 and 95 % quantiles of progress, (n, 2), at every frame of each segment (n, D)."""
        raise NotImplementedError

    def step_interval(self, embedding: Tensor, state: object = None, context: object = None) -> tuple[Tensor, object]:
        """Predict as :meth:`step` does, with an interval; a head that offers intervals overrides this method.

        Returns:
            (3,), the progress and its 5 and 95 % quantiles (NaN in the base class), and the state for the next call.
        """
        progress, state = self.step(embedding, state, context)
        # NaN instead of the full range [0, 1]: no interval was predicted.
        unknown = torch.full_like(progress, torch.nan)
        return torch.stack([progress, unknown, unknown]), state

    # --- recordings with unknown boundaries ---

    def filter(self, embeddings: Tensor, task: str | None = None) -> FrameEstimates:
        """Infer actions and progress at every frame of a recording (T, D) from the frames up to it.

        Raises:
            UserError: the head does not infer boundaries.
        """
        raise self._no_filter()

    def filter_all(self, recordings: Sequence[Tensor], task: str | None = None) -> list[FrameEstimates]:
        """Infer as :meth:`filter` does for recordings (T_i, D) of one task; the base class loops over them."""
        return [self.filter(embeddings, task) for embeddings in recordings]

    def filter_step(self, embedding: Tensor, state: object = None,
                    task: str | None = None) -> tuple[FrameEstimates, object]:
        """Infer as :meth:`filter` does, one frame at a time, at constant cost.

        Args:
            embedding: (D,), the next frame.
            state: state returned by the previous call; None at the first frame.
            task: task of the recording, the same at every frame.

        Returns:
            Estimates for T = 1 frame, and the state for the next call.

        Raises:
            UserError: the head does not infer boundaries.
        """
        raise self._no_filter()

    def recording_step(self, task: str | None = None) -> nn.Module | None:
        """Return :meth:`filter_step` as a module of tensors alone, for export; None if the head does not offer it.

        The module is a function of an embedding (D,) and states that returns outputs and states. It has the attributes
        and methods of :class:`models.heads.filter.recording_step.RecordingStep`. The base class returns None.

        Args:
            task: task of the recordings; None to infer it.
        """
        return None

    def _no_filter(self) -> UserError:
        return UserError(f'the progress head of this run ({type(self).__name__}) does not infer where actions start '
                         'and end; give the boundaries of the actions')

    # --- shapes ---

    def _normalize(self, embeddings: Tensor) -> Tensor:
        # Over the last axis only: each frame by itself, hence causal.
        return F.layer_norm(embeddings, embeddings.shape[-1:]) if self.normalize_embeddings else embeddings

    def _check_frame(self, embedding: Tensor) -> None:
        if embedding.shape != (self.input_dim,):
            raise ValueError(f'embedding has shape {tuple(embedding.shape)}, expected ({self.input_dim},)')

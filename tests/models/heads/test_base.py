"""What a head has without doing anything for it."""
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from configs.choices import HEADS
from models.action_progress import predict_actions
from models.heads.base import ProgressHeadBase
from utils.addresses import resolve
from utils.errors import UserError
from utils.tensorops import Action, SampledSegment


class Counter(ProgressHeadBase):
    """The smallest head: the number of frames so far, over ten."""

    def forward(self, segments, contexts=None, *, lengths=None):
        return torch.stack([torch.tensor(len(segment) / 10) for segment in segments])

    def forward_dense(self, segments, contexts=None):
        return [torch.arange(1, len(segment) + 1) / 10 for segment in segments]


@pytest.mark.parametrize(('penalty', 'last', 'dense'), [(F.l1_loss, 0.25, 0.175), (F.mse_loss, 0.065, 0.0325)])
def test_the_loss_is_the_mean_error_at_the_last_frame_or_at_every_frame(penalty, last, dense):
    frames, target = torch.zeros(4, 3), torch.tensor
    ends = [SampledSegment(frames[:3], target(0.6)), SampledSegment(frames, target(0.6))]
    whole = [SampledSegment(frames[:1], target([0.3])), SampledSegment(frames[:2], target([0.2, 0.4]))]
    for segments, expected in ((ends, last), (whole, dense)):
        loss = Counter(3).loss(segments, penalty)
        assert set(loss) == {'progress'} and loss['progress'].item() == pytest.approx(expected)


def test_the_defaults_learn_know_and_check_nothing():
    head = Counter(3)
    assert head.fit([]) is head.calibrate([]) is None
    assert head.tasks is None and head.labels('tea') == [] and head.contexts('tea', [Action('cut', 0, 3)]) == [None]
    assert head.check_task(None) is head.check_label('tea', None) is None
    assert not (head.offers_filter or head.fits_embeddings or head.calibrates)


def test_a_head_that_implements_fit_is_fitted_and_so_are_its_subclasses():
    class Fitted(Counter):
        def fit(self, recordings):
            """Learn nothing."""

    class Calibrated(Fitted):
        def calibrate(self, recordings, penalty=F.l1_loss):
            """Learn nothing."""

    assert [(head.fits_embeddings, head.calibrates) for head in (Counter, Fitted, Calibrated)] == [
        (False, False), (True, False), (True, True)]


def test_a_prediction_of_another_shape_than_the_frames_is_refused():
    class Last(Counter):
        def forward_dense(self, segments, contexts=None):
            return [torch.tensor(0.5) for _ in segments]

    dense, whole = SampledSegment(torch.zeros(2, 3), torch.tensor([0.5, 1.0])), torch.tensor(0.5)
    with pytest.raises(UserError, match=r'head Last: forward_dense returned the shape \(\), expected \(2,\), a number'):
        Last(3).loss([dense])
    with pytest.raises(UserError, match='forward_dense returned the shape of 1 tensors, expected 2 tensors'):
        Last(3).check_dense([torch.zeros(2)], [torch.zeros(2, 3)] * 2)
    Last.forward = Last.forward_dense = lambda self, segments, contexts=None: torch.zeros(len(segments), 1)
    with pytest.raises(UserError, match=r'head Last: forward returned the shape \(2, 1\) for 2 segments, expected'):
        Last(3).loss([SampledSegment(torch.zeros(2, 3), whole)] * 2)
    # Where the head is scored, too: training by the last frame alone never calls forward_dense.
    with pytest.raises(UserError, match=r'forward_dense returned the shape \(1,\), expected \(2,\)'):
        predict_actions(SimpleNamespace(progress_head=Last(3)), torch.zeros(4, 3), [Action('cut', 1, 2)], 'tea')


@pytest.mark.parametrize('call', [lambda head: head.filter(torch.zeros(4, 3)),
                                  lambda head: head.filter_step(torch.zeros(3))])
def test_a_head_without_a_filter_says_so(call):
    with pytest.raises(UserError, match=r'\(Counter\) does not infer where actions start and end; give the boundaries'):
        call(Counter(3))


@pytest.mark.parametrize('name', HEADS)
def test_options_are_arguments_and_settings_of_the_same_names(config, name):
    kind = resolve(HEADS[name].cls, name)
    settings = {option: config.PROGRESS_LOSS[option] for option in kind.OPTIONS}
    head = kind(6, **{**settings, **({'steps': [('tea', 'cut')]} if 'steps' in settings else {})})
    assert head.input_dim == 6 and set(kind.SAMPLINGS) <= {'segment', 'prefix', 'dense'}

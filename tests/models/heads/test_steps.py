"""The head that recognises the step: by hand, against a loop over its equations, and that it is causal."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.heads.base import EmbeddedRecording
from models.heads.recurrent import ProgressHead
from models.heads.step_durations import ActionContext
from models.heads.steps import CONTENT_WEIGHTS, SMALLEST_PROGRESS, StepProgressHead
from utils.tensorops import Action, action_progress

WIDTH, HIDDEN = 6, 5
STEPS = [('pie', 'bake'), ('tea', 'mix'), ('tea', 'pour')]
RECORDINGS = {'tea': [[Action('pour', 0, 4), Action('mix', 5, 24)], [Action('pour', 2, 9), Action('mix', 17, 39)]],
              'pie': [[Action('bake', 0, 59)]]}
KNOWN = [ActionContext('tea', 0.4, 'mix'), ActionContext('pie', -0.2, 'bake'), ActionContext('tea', 0.0, 'whisk'),
         ActionContext()]
CORRECTED = pytest.mark.parametrize('corrected', [True, False])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def new_head(**changes):
    """A head as training begins with it, but without dropping anything."""
    head = StepProgressHead(WIDTH, HIDDEN, **{'steps': STEPS, 'projection_dim': 4, **changes})
    head.durations.fit(RECORDINGS)
    return head.eval()


def trained_head(**changes):
    """A head whose correction is not zero any more."""
    head = new_head(**changes)
    for weight in head.fc[-2].parameters():
        torch.nn.init.normal_(weight)
    return head


def segments(*lengths, dtype=torch.float32):
    return [torch.randn(length, WIDTH, dtype=dtype) for length in lengths]


def padded(parts, value):
    longest = max(map(len, parts))
    return torch.stack([F.pad(part, (0, 0, 0, longest - len(part)), value=value) for part in parts])


def test_layers():
    shapes = {name: tuple(value.shape) for name, value in StepProgressHead(steps=STEPS).state_dict().items()}
    assert shapes == {
        'projection.weight': (24, 256), 'projection.bias': (24,), 'gru.weight_ih_l0': (192, 25),
        'gru.weight_hh_l0': (192, 64), 'gru.bias_ih_l0': (192,), 'gru.bias_hh_l0': (192,), 'fc.0.weight': (32, 64),
        'fc.0.bias': (32,), 'fc.2.weight': (1, 32), 'fc.2.bias': (1,), 'step_logits.weight': (3, 64),
        'step_logits.bias': (3,), 'durations.curves': (3, 256), 'durations.log_means': (3,),
        'durations.shrinkage': (3,)}


@pytest.mark.parametrize(('corrected', 'condition', 'context', 'expected'), [
    (False, False, ActionContext('tea'), 0.75 * 0.2 + 0.25 * 0.6),
    (True, False, ActionContext('tea'), 2 * 0.3 / (2 * 0.3 + 0.7)),  # the correction doubles the odds
    (False, False, ActionContext('pie'), 0.9), (False, False, ActionContext(), (0.9 + 3 * 0.2 + 0.6) / 5),
    (False, False, ActionContext('tea', 0.0, 'pour'), 0.3), (False, True, ActionContext('tea', 0.0, 'pour'), 0.6),
    (True, True, ActionContext('tea', 0.0, 'pour'), 2 * 0.6 / (2 * 0.6 + 0.4)),
    (False, True, ActionContext('tea', 0.0, 'whisk'), 0.3)])
def test_progress_by_hand(corrected, condition, context, expected):
    head = new_head(content_correction=corrected, condition_on_step=condition)
    with torch.no_grad():
        head.durations.curves.copy_(torch.tensor([[0.9], [0.2], [0.6]]).expand(-1, 256))
        head.step_logits.weight.zero_()
        head.step_logits.bias.copy_(torch.tensor([0, math.log(3), 0]))
        head.fc[-2].bias.fill_(math.log(2))
    progress = head.forward_dense(segments(3), [context])[0]
    assert progress.tolist() == pytest.approx([expected] * 3)


def naive_progress(head, segment, context):
    """The equations of the docstring, frame by frame, with those of Cho et al., 2014, for the GRU."""
    gru, hidden, progress = head.gru, torch.zeros(HIDDEN, dtype=segment.dtype), []
    frames = [(frame - frame.mean()) / (frame.var(correction=0) + 1e-5).sqrt() for frame in segment]
    grid = np.linspace(math.log(0.05), math.log(1e5), 256)
    for count, frame in enumerate(frames, start=1):
        log_elapsed = math.log(count) - context.log_pace
        projected = head.projection.weight @ torch.cat([frame, frame - frames[0]]) + head.projection.bias
        from_input = gru.weight_ih_l0 @ torch.cat([projected, projected.new_tensor([log_elapsed])]) + gru.bias_ih_l0
        reset_in, update_in, new_in = from_input.chunk(3)
        reset_hidden, update_hidden, new_hidden = (gru.weight_hh_l0 @ hidden + gru.bias_hh_l0).chunk(3)
        reset, update = torch.sigmoid(reset_in + reset_hidden), torch.sigmoid(update_in + update_hidden)
        hidden = (1 - update) * torch.tanh(new_in + reset * new_hidden) + update * hidden
        chances = (head.step_logits.weight @ hidden + head.step_logits.bias).exp()
        allowed = chances.new_tensor([context.task in (None, task) for task, _ in STEPS])
        posterior = chances * allowed / (chances * allowed).sum()
        curves = [float(np.interp(log_elapsed, grid, curve)) for curve in head.durations.curves.double().numpy()]
        expected = sum(chance * curve for chance, curve in zip(posterior, curves, strict=True))
        correction = head.fc[2].weight @ F.relu(head.fc[0].weight @ hidden + head.fc[0].bias) + head.fc[2].bias
        odds = expected / (1 - expected) * correction.exp()
        progress.append((odds / (1 + odds))[0] if head.content_correction else expected)
    return torch.stack(progress)


@CORRECTED
@pytest.mark.parametrize('context', KNOWN)
def test_progress_matches_a_loop(corrected, context):
    head, (segment,) = trained_head(content_correction=corrected).double(), segments(9, dtype=torch.float64)
    torch.testing.assert_close(head.forward_dense(segment, [context]), naive_progress(head, segment, context))


@CORRECTED
def test_dense_progress_is_that_of_every_prefix(corrected):
    head = trained_head(content_correction=corrected)
    for segment, context in zip(segments(20, 8, 3, 1), KNOWN, strict=True):
        dense = head.forward_dense(segment, [context])
        prefixes = torch.stack([head(segment[:t + 1], [context]) for t in range(len(segment))])
        assert dense.shape == (len(segment),) and ((dense > 0) & (dense < 1)).all()
        torch.testing.assert_close(dense, prefixes, rtol=0, atol=1e-5)


@pytest.mark.parametrize('condition', [True, False])
@pytest.mark.parametrize('context', [*KNOWN, None])
def test_step_by_step_equals_every_prefix_at_constant_cost(context, condition):
    head, (segment,) = trained_head(condition_on_step=condition), segments(15)
    dense = head.forward_dense(segment, context and [context])
    state, shapes = None, set()
    for count, (frame, expected) in enumerate(zip(segment, dense, strict=True), start=1):
        progress, state = head.step(frame, state, context)
        shapes.add((tuple(state.hidden.shape), tuple(state.first.shape)))
        assert progress.shape == () and state.elapsed == count
        torch.testing.assert_close(progress, expected, rtol=0, atol=1e-5)
    assert shapes == {((1, 1, HIDDEN), (WIDTH,))}


@pytest.mark.parametrize('weight', [0, 0.3, 1])
def test_a_content_head_is_blended_in(weight):
    head, parts = trained_head(content_head=True), segments(9, 4)
    assert head.content_weight == 0  # until it is calibrated
    head.content_weight.fill_(weight)
    experts, _ = head.forward_experts(parts, KNOWN[:2])
    for blended, expert, part in zip(head.forward_dense(parts, KNOWN[:2]), experts, parts, strict=True):
        by_steps, by_content = expert.unbind(-1)
        torch.testing.assert_close(by_content, head.content.forward_dense(part))
        torch.testing.assert_close(blended, (1 - weight) * by_steps + weight * by_content)
    torch.testing.assert_close(head(parts, KNOWN[:2]), torch.stack([row[-1] for row in
                                                                    head.forward_dense(parts, KNOWN[:2])]))
    state, expected = None, head.forward_dense(parts[0], KNOWN[:1])
    for frame, value in zip(parts[0], expected, strict=True):
        progress, state = head.step(frame, state, KNOWN[0])
        torch.testing.assert_close(progress, value, rtol=0, atol=1e-5)
    assert state.content is not None


@pytest.mark.parametrize('penalty', [F.l1_loss, F.mse_loss])
def test_calibration_takes_the_content_weight_of_the_lowest_error_over_all_actions(penalty):
    head = trained_head(content_head=True).train()
    assert head.calibrates and not trained_head().calibrates
    torch.nn.init.normal_(head.content.fc[-2].weight, std=3)
    recordings = [EmbeddedRecording('tea', f'rec{index}', torch.randn(45, WIDTH), actions)
                  for index, actions in enumerate([*RECORDINGS['tea'], []])]
    head.calibrate(recordings, penalty)
    chosen = float(head.content_weight)
    assert head.training
    head.eval()

    def error(weight):
        head.content_weight.fill_(weight)
        return sum(penalty(head.forward_dense(embeddings[action.start:action.end + 1],
                                              [head.context(task, actions, action)]),
                           action_progress(action, len(embeddings)).float()).item()
                   for task, _, embeddings, actions, _ in recordings for action in actions)

    errors = [error(weight) for weight in CONTENT_WEIGHTS]
    assert chosen == pytest.approx(CONTENT_WEIGHTS[errors.index(min(errors))]) and len(set(errors)) == len(errors)
    head.content_weight.fill_(0.5)
    head.calibrate(recordings[2:], penalty)  # no action, no change
    assert head.content_weight == 0.5
    head.blend = lambda expert, weight: expert[..., 0]
    head.calibrate(recordings, penalty)  # the smallest of equal ones
    assert head.content_weight == 0


def test_a_state_can_be_stepped_from_twice():
    head, (segment,) = trained_head(), segments(3)
    _, state = head.step(segment[0])
    kept = state.hidden.clone(), state.first.clone(), state.elapsed
    first, second = head.step(segment[1], state)[0], head.step(segment[1], state)[0]
    assert torch.equal(first, second)
    assert torch.equal(state.hidden, kept[0]) and torch.equal(state.first, kept[1]) and state.elapsed == kept[2]


def test_the_future_changes_nothing():
    head, (segment,) = trained_head(), segments(12)
    changed = segment.clone()
    changed[8:] = torch.randn(4, WIDTH)
    (before,), (posterior,) = head.forward_steps([segment], KNOWN[:1])
    (after,), (other,) = head.forward_steps([changed], KNOWN[:1])
    torch.testing.assert_close(after[:8], before[:8], rtol=0, atol=0)
    torch.testing.assert_close(other[:8], posterior[:8], rtol=0, atol=0)
    assert (before[8:] != after[8:]).all()


def test_a_list_and_a_padded_batch_equal_one_by_one():
    head, parts = trained_head(), segments(9, 1, 4, 6)
    alone = [head.forward_dense(part, [context]) for part, context in zip(parts, KNOWN, strict=True)]
    last = torch.stack([rows[-1] for rows in alone])
    together, posteriors = head.forward_steps(parts, KNOWN)
    for found in (together, head.forward_dense(parts, KNOWN)):
        for rows, expected in zip(found, alone, strict=True):
            torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-6)
    assert [tuple(posterior.shape) for posterior in posteriors] == [(9, 3), (1, 3), (4, 3), (6, 3)]
    torch.testing.assert_close(head(parts, KNOWN), last, rtol=1e-5, atol=1e-6)
    batch = padded(parts, 3.0)
    torch.testing.assert_close(head(batch, KNOWN, lengths=torch.tensor([9, 1, 4, 6])), last, rtol=1e-5, atol=1e-6)


def test_without_contexts_nothing_is_known():
    head, parts = trained_head(condition_on_step=True), segments(4, 7)
    nothing = [ActionContext()] * 2
    assert torch.equal(head(parts), head(parts, nothing))
    for found, expected in zip(head.forward_dense(parts), head.forward_dense(parts, nothing), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('value', [7., float('inf'), float('nan')])
def test_padding_reaches_neither_value_nor_gradient(value):
    head, parts = trained_head(), segments(5, 2)

    def run(filler):
        batch = padded(parts, filler).requires_grad_()
        progress = head(batch, KNOWN[:2], lengths=torch.tensor([5, 2]))
        return progress, torch.autograd.grad(progress.sum(), [batch, *head.parameters()])

    (clean, clean_gradients), (progress, gradients) = run(0.), run(value)
    torch.testing.assert_close(progress, clean, rtol=0, atol=0)
    torch.testing.assert_close(gradients, clean_gradients, rtol=0, atol=0)
    assert gradients[0][1, 2:].eq(0).all() and gradients[0][1, :2].ne(0).any()


@pytest.mark.parametrize('contexts', [[], KNOWN[:1], KNOWN[:3]])
def test_there_is_one_context_for_each_segment(contexts):
    head, parts = new_head(), segments(4, 2)
    for call in (head, head.forward_dense, head.forward_steps):
        with pytest.raises(ValueError, match=f'{len(contexts)} contexts beside 2 segments, expected one each'):
            call(parts, contexts)


def test_wrong_segments_are_named():
    head = new_head()
    for wrong in (torch.zeros(0, WIDTH), torch.zeros(4, WIDTH + 1), torch.zeros(WIDTH)):
        for call in (head, head.forward_dense):
            with pytest.raises(ValueError, match=r'segment 0 has shape .* expected \(n, 6\) with n >= 1'):
                call(wrong)
    with pytest.raises(ValueError, match='embedding has shape'):
        head.step(torch.zeros(2, WIDTH))
    with pytest.raises(ValueError, match='lengths run from 0 to 4, expected 1 to 4'):
        head(torch.zeros(2, 4, WIDTH), lengths=torch.tensor([4, 0]))
    with pytest.raises(ValueError, match='segments is empty'):
        head([])


def curves_at(head, length, context):
    return head.durations.progress(torch.arange(1, length + 1).log() - context.log_pace)


@CORRECTED
def test_the_head_starts_as_a_counter_of_the_recognised_step(corrected):
    head, parts = new_head(content_correction=corrected), segments(70, 1, 30, 8)  # past the longest action, too
    progress, log_posteriors = head.forward_steps(parts, KNOWN)
    for rows, log_posterior, context in zip(progress, log_posteriors, KNOWN, strict=True):
        expected = (log_posterior.exp() * curves_at(head, len(rows), context)).sum(dim=1)
        smallest = SMALLEST_PROGRESS if corrected else 0
        torch.testing.assert_close(rows, expected.clamp(smallest, 1 - smallest), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(log_posterior.exp().sum(dim=1), torch.ones(len(rows)))


@pytest.mark.parametrize(('context', 'row'), [(KNOWN[0], 1), (KNOWN[1], 0), (ActionContext('tea', 0.0, 'pour'), 2)])
def test_given_the_step_the_head_starts_as_its_counter(context, row):
    head, (segment,) = new_head(condition_on_step=True, content_correction=False), segments(40)
    expected = curves_at(head, 40, context)[:, row]
    torch.testing.assert_close(head.forward_dense(segment, [context]), expected)
    corrected = new_head(condition_on_step=True).forward_dense(segment, [context])
    torch.testing.assert_close(corrected, expected.clamp(SMALLEST_PROGRESS, 1 - SMALLEST_PROGRESS))


def test_the_step_is_used_only_where_it_is_asked_for():
    (segment,), label = segments(10), ActionContext('tea', 0.4, 'pour')
    blind, told = trained_head(), trained_head(condition_on_step=True)
    told.load_state_dict(blind.state_dict())
    unlabelled = blind.forward_dense(segment, [label._replace(step=None)])
    assert torch.equal(blind.forward_dense(segment, [label]), unlabelled)
    assert (told.forward_dense(segment, [label]) != unlabelled).all()
    for unknown in (None, 'whisk'):
        assert torch.equal(told.forward_dense(segment, [label._replace(step=unknown)]), unlabelled)


@pytest.mark.parametrize('task', ['tea', 'pie', None])
def test_steps_of_other_tasks_have_no_chance(task):
    _, (log_posterior,) = trained_head().forward_steps(segments(6), [ActionContext(task)])
    own = torch.tensor([task in (None, of_task) for of_task, _ in STEPS])
    assert (log_posterior[:, own] > -20).all() and (log_posterior[:, ~own] < -1000).all()


def test_time_runs_at_the_recordings_pace():
    head = new_head(condition_on_step=True, content_correction=False)
    segment, = segments(20)
    normal, slow = (head.forward_dense(segment, [ActionContext('tea', pace, 'mix')]) for pace in (0.0, math.log(2)))
    torch.testing.assert_close(slow[1::2], normal[:10])
    assert (slow < normal).all()


def test_contexts_are_those_of_the_durations():
    head, actions = new_head(), [Action('pour', 0, 29), Action('mix', 30, 45)]
    first, second = head.contexts('tea', actions)
    assert (first, second) == (ActionContext('tea', 0.0, 'pour'), head.durations.context('tea', actions, actions[1]))
    assert second.log_pace > 0 and head.contexts('tea', []) == []
    assert ProgressHead(WIDTH).contexts('tea', actions) == [None, None]


@CORRECTED
@pytest.mark.parametrize('condition', [True, False])
def test_gradient_reaches_frames_and_weights(corrected, condition):
    head, parts = trained_head(content_correction=corrected, condition_on_step=condition), segments(6, 4, 3, 5)
    for part in parts:
        part.requires_grad_()
    progress, log_posteriors = head.forward_steps(parts, KNOWN)
    loss = sum((rows - 1).abs().sum() for rows in progress)
    (loss + sum(log_posterior[:, 1].sum() for log_posterior in log_posteriors[:1])).backward()
    # Pie has one step only: where nothing corrects its curve, the frames have no say in it.
    read = parts if corrected else [parts[0], parts[2], parts[3]]
    assert all(part.grad.abs().amax(dim=1).gt(0).all() for part in read)
    for name, weight in head.named_parameters():
        used = corrected or not name.startswith('fc')
        assert (weight.grad is not None and weight.grad.abs().max() > 0) == used, name


def test_gradients_match_finite_differences():
    head, (segment,) = trained_head().double(), segments(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda frames: head.forward_dense(frames, KNOWN[:1]), segment.requires_grad_())


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_the_embeddings_dtype_is_kept(dtype):
    head, (segment,) = trained_head().to(dtype), segments(5, dtype=dtype)
    assert head([segment]).dtype == head.forward_dense(segment).dtype == head.step(segment[0])[0].dtype == dtype


def test_double_precision_is_double_throughout():
    head, (segment,) = trained_head().double(), segments(30, dtype=torch.float64)
    dense, state = head.forward_dense(segment, KNOWN[:1]), None
    for frame, expected in zip(segment, dense, strict=True):
        progress, state = head.step(frame, state, KNOWN[0])
        torch.testing.assert_close(progress, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('normalize', [True, False])
def test_autocast_to_half_precision_stays_finite(normalize):
    head, encoder = trained_head(normalize_embeddings=normalize), torch.nn.Linear(WIDTH, WIDTH)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings = encoder(torch.randn(100, WIDTH))  # long enough for progress to round to 1 in half precision
        (progress,), (log_posterior,) = head.forward_steps([embeddings], KNOWN[:1])
        progress = torch.cat([progress, head.step(embeddings[0])[0].view(1)])
    assert progress.isfinite().all() and log_posterior.isfinite().all()
    (progress.sum() + log_posterior[:, 1].sum()).backward()
    assert all(weight.grad.isfinite().all() for weight in [*head.parameters(), *encoder.parameters()])


def test_dropout_in_training_alone():
    segment, = segments(20)
    head = trained_head(dropout=0.5)
    assert torch.equal(head.forward_dense(segment), head.forward_dense(segment))
    head.train()
    assert not torch.equal(head.forward_dense(segment), head.forward_dense(segment))
    dropped = {}  # the embeddings that are projected, and the states that are read out
    for layer in (head.projection, head.step_logits, head.fc[0]):
        layer.register_forward_pre_hook(lambda module, inputs: dropped.update({module: inputs[0].eq(0)[0, 1:]}))
    head.forward_dense(segment)
    assert all(0.2 < zeros.float().mean() < 0.8 for zeros in dropped.values()) and len(dropped) == 3
    kept = trained_head(dropout=0.0)
    evaluated = kept.forward_dense(segment)
    assert torch.equal(kept.train().forward_dense(segment), evaluated)


def test_normalisation_makes_the_scale_irrelevant():
    segment, = segments(8)
    head = trained_head()
    torch.testing.assert_close(head(1000 * segment + 3), head(segment), rtol=0, atol=1e-4)
    raw = trained_head(normalize_embeddings=False)
    assert (raw(1000 * segment + 3) - raw(segment)).abs() > 1e-3


def test_a_batch_is_one_call_of_the_gru():
    head, calls = new_head(), []
    head.gru.register_forward_hook(lambda *_: calls.append(1))
    head.forward_steps(segments(3, 8, 2))
    assert len(calls) == 1

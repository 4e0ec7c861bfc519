"""The filter with boundaries unknown: stream and batch, causality, storage, prior."""

import copy
import math

import numpy as np
import pytest
import torch

from evaluation.segmentation_metrics import edit_score, label_runs
from models.heads.base import EmbeddedRecording
from models.heads.filter.annotated import Rated, annotate
from models.heads.filter.decision import decide_all
from models.heads.filter.label_sensor import likelihood_table
from models.heads.filter.phase_grid import PACES, PHASES, RATES, STAYING, PhaseGrid
from models.heads.filter.recent import REACH, SLOW, RecentFeatures, SlowAverages
from models.heads.filter.records import FilterOutput, FilterState, Posterior
from models.heads.filter.remaining import Remaining
from models.heads.filter.unsegmented import LEVELS, UnsegmentedFilter, phase_quantiles
from models.heads.filter.unsegmented_fit import fit_filter
from models.heads.filter.unsegmented_intervals import calibrate_progress, calibrate_remaining
from utils.tensorops import Action

DIM = 6
LABELS = ('a', 'b', 'c')
TRAINING = range(6)  # three people


def make_recording(seed, labels=LABELS, noise=0.5, gap=4):
    """A synthetic recording with background between its actions."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(len(LABELS), DIM, generator=torch.Generator().manual_seed(99)) * 2
    parts, actions, t = [], [], 0
    for label in labels:
        length = int(torch.randint(8, 20, (), generator=generator))
        drift = torch.linspace(0, 1, length).unsqueeze(1)
        parts += [torch.zeros(gap, DIM), centers[LABELS.index(label)] + drift]
        actions.append(Action(label, t + gap, t + gap + length - 1))
        t += gap + length
    embeddings = torch.cat(parts)
    embeddings += noise * torch.randn(embeddings.shape, generator=generator)
    return EmbeddedRecording('task', f'r{seed}', embeddings, actions, f'p{seed // 2}')


@pytest.fixture(scope='module')
def model():
    return fit_filter([make_recording(seed) for seed in TRAINING], LABELS)


def stream(model, embeddings):
    state, outputs = None, []
    for row in embeddings.split(1):
        output, state = model.filter_step(row, state)
        outputs.append(output)
    return FilterOutput(*(torch.cat(column) for column in zip(*outputs, strict=True)))


def assert_same(one, other):
    for name, a, b in zip(FilterOutput._fields, one, other, strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f'{name}: {text}')
        else:
            assert torch.equal(a, b), name


@pytest.mark.parametrize('batch', [1, 2])
def test_stream_equals_batch(model, batch):
    recordings = [make_recording(seed).embeddings[:45] for seed in range(20, 20 + batch)]
    state, outputs = None, []
    for frames in torch.stack(recordings, dim=1):  # (N, D)
        output, state = model.filter_step(frames, state)
        outputs.append(output)
    for row, expected in enumerate(model.filter(recordings)):
        mine = (torch.stack([item[row] for item in column]) for column in zip(*outputs, strict=True))
        assert_same(FilterOutput(*mine), expected)


@pytest.mark.parametrize('gap', [0, 4])
def test_compiled_step_equals_that_of_tensors(gap):
    """Of two recordings in parallel, with and without background: all outputs, and the state after each frame."""
    model = fit_filter([make_recording(seed, gap=gap) for seed in range(4)], LABELS)
    model.rest.blend.fill_(0.5)
    recordings = [make_recording(seed, gap=gap).embeddings[:30] for seed in (60, 61)]
    state, slow_state, steps = None, model.start(torch.stack([item[0] for item in recordings])), set()
    for frames in torch.stack(recordings, dim=1):  # (N, D)
        output, state = model.filter_step(frames, state)
        expected, slow_state = model.step_of_tensors(frames, slow_state)
        assert_same(output, expected)
        for name, mine, theirs in zip(FilterState._fields, state, slow_state, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5, rtol=1e-5, err_msg=name)
        steps |= set(output.step.tolist())
    assert model.has_background == (gap > 0) and len(steps) > 1


def test_the_compiled_step_follows_the_tensors(model):
    """A copy, a moved module, and a module that loads other weights take steps with their own tensors."""
    embeddings = make_recording(22).embeddings
    stream(model, embeddings)
    changed = copy.deepcopy(model)
    changed.weights.mul_(3)
    changed.rule.zero_()
    assert_same(stream(changed, embeddings), changed.filter([embeddings])[0])
    changed.load_state_dict(model.state_dict())
    assert_same(stream(changed, embeddings), model.filter([embeddings])[0])
    assert stream(changed.double(), embeddings.double()).progress.dtype == torch.double


def test_later_frames_change_nothing(model):
    embeddings = make_recording(30).embeddings
    other = embeddings.clone()
    other[20:] = 100.0
    first, second = model.filter([embeddings])[0], model.filter([other])[0]
    assert_same(FilterOutput(*(item[:20] for item in first)), FilterOutput(*(item[:20] for item in second)))


def test_finds_the_steps(model):
    errors = []
    for seed in range(40, 50):
        _, _, embeddings, actions, _ = make_recording(seed)
        output = model.filter([embeddings])[0]
        truth = annotate(embeddings, actions, model.labels, '')
        within = truth.label < model.num_labels
        found, true = (np.array([*LABELS, 'background'])[labels.numpy()] for labels in (output.step, truth.label))
        assert (found == true).mean() > 0.8 and edit_score(label_runs(found), label_runs(true)) == 100
        errors.append((output.progress[within, 1] - truth.progress[within]).abs().mean())
    assert torch.stack(errors).mean() < 0.13


def test_outputs_are_in_range(model):
    output = model.filter([make_recording(50).embeddings])[0]
    for interval in (output.progress, output.overall):
        assert bool((interval >= 0).all() and (interval <= 1).all() and (interval.diff(dim=-1) >= -1e-6).all())
    assert bool((output.overall_remaining.diff(dim=-1) >= -1e-4).all())
    assert bool((output.remaining >= 0).all())
    torch.testing.assert_close(output.step_probability.clamp(0, 1), output.step_probability)


def test_state_dict_restores_the_filter(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / 'filter.pt')
    other = UnsegmentedFilter(model.labels, DIM, model.has_background)
    other.load_state_dict(torch.load(tmp_path / 'filter.pt', weights_only=True))
    embeddings = make_recording(60).embeddings
    assert_same(other.filter([embeddings])[0], model.filter([embeddings])[0])


def test_fit_is_deterministic(model):
    other = fit_filter([make_recording(seed) for seed in TRAINING], LABELS)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_unknown_is_flagged(model):
    embeddings = make_recording(70).embeddings
    strange = embeddings.clone()
    strange[15:] = strange[15:] + 50 * torch.tensor([1.0, -1, 1, -1, 1, -1])
    assert model.filter([strange])[0].unknown[16:].float().mean() > 0.9
    assert model.filter([embeddings])[0].unknown.float().mean() < 0.2


@pytest.mark.parametrize('value', [1e38, math.nan])
def test_what_follows_a_frame_that_is_not_finite_is_not_finite(model, value):
    embeddings = make_recording(71).embeddings.clone()
    embeddings[10, 0] = value
    for one in (model.filter([embeddings])[0], stream(model, embeddings)):
        finite = torch.isfinite(one.progress).all(1)
        assert finite.tolist() == [True] * 10 + [False] * (len(embeddings) - 10)


def test_long_silence_stays_finite(model):
    output = model.filter([torch.zeros(1000, DIM)])[0]
    assert all(bool(torch.isfinite(item.float()).all()) for item in output)


def test_an_endless_action_is_complete():
    model = fit_filter([make_recording(seed, ('a',), gap=0) for seed in range(3)], ('a',), choose=False)
    output = model.filter([make_recording(80, ('a',), gap=0).embeddings[-1:].expand(300, -1)])[0]
    assert output.progress[-1, 1] > 0.9 and bool((output.progress.diff(dim=-1) >= 0).all())
    assert bool((output.step == 0).all())


@pytest.mark.parametrize('labels', [('a',), ('a', 'b')])
@pytest.mark.parametrize('count', [1, 2, 3])
def test_few_recordings_and_labels(labels, count):
    model = fit_filter([make_recording(seed, labels, gap=0) for seed in range(count)], labels)
    assert not model.has_background
    output = model.filter([make_recording(80, labels, gap=0).embeddings])[0]
    assert bool(torch.isfinite(output.progress).all())


def test_defaults_stay_if_one_recording_has_all_actions():
    items = [EmbeddedRecording('t', str(number), torch.randn(30, 4, generator=torch.Generator().manual_seed(number)),
                               [Action('a', 3, 9), Action('b', 10, 20)] if number == 0 else []) for number in range(3)]
    model, plain = (fit_filter(items, ['a', 'b'], choose=choose) for choose in (True, False))
    for name, value in model.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_background_may_be_in_a_single_recording():
    """The fold that leaves it out knows that there is background, but has seen none."""
    model = fit_filter([make_recording(seed, gap=4 * (seed == 1)) for seed in range(4)], LABELS)
    assert model.has_background
    for name, value in model.state_dict().items():
        assert torch.isfinite(value).all(), name
    grid = PhaseGrid(2, has_background=True)
    grid.fit([[(0, 8), (1, 12)]], [''])
    # Durations of background that was never seen are around those of the actions, 8 and 12 frames.
    assert ((grid.log_frames[2:].mean(1).exp() > 8) & (grid.log_frames[2:].mean(1).exp() < 12)).all()


def test_unseen_order_is_survived(model):
    _, _, embeddings, actions, _ = make_recording(90)
    a, b, c = ([*range(action.start - 4, action.end + 1)] for action in actions)
    output = model.filter([embeddings[c + a + b]])[0]
    assert (output.step[8:len(c)] == 2).float().mean() > 0.7


def test_a_segment_lasts_as_long_as_its_duration_says():
    grid = PhaseGrid(2, False)
    grid.log_frames.copy_(torch.log(torch.arange(4.0, 4 + RATES)).expand(2, -1))
    grid.transition.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    grid.initial.copy_(torch.tensor([1.0, 0.0]))
    grid.derive()
    mass, history = grid.start(1)
    inside = []
    for _ in range(3 + RATES + 1):
        mass, history, *_ = grid.advance(mass, history)
        inside.append(mass[0, :RATES].sum(1))
    inside = torch.stack(inside) * RATES  # (T, V), fraction of each duration that is still in the first label
    assert torch.allclose(inside[:3], torch.ones(3, RATES), atol=1e-3)
    expected = torch.arange(4.0, 4 + RATES)
    assert bool(((inside[:8].sum(0)[:4] - expected[:4]).abs() < 0.8).all())


def naive_advance(grid, mass, shrinkage, ratio, done):
    """A frame in loops: {(kind, rate, node): probability}, the pace's sums, and the times that each label was done."""
    k, frames = grid.num_labels, grid.log_frames.exp().clamp(min=1).tolist()
    after, moved = {}, [[math.modf(PHASES / length) for length in row] for row in frames]
    ended = {}
    # Each segment moves by B / L nodes: part of it to one node, part to the next; past the last node it has ended.
    for (kind, rate, node), probability in mass.items():
        part, whole = moved[kind][rate]
        for target, share in ((node + int(whole), 1 - part), (node + int(whole) + 1, part)):
            if target <= PHASES:
                after[kind, rate, target] = after.get((kind, rate, target), 0.0) + share * probability
            else:
                ended[kind, rate] = ended.get((kind, rate), 0.0) + share * probability
    for (kind, rate), probability in ended.items():
        after[kind, rate, PHASES] = after.get((kind, rate, PHASES), 0.0) + STAYING * probability
        if kind < k:  # background is not an action: it tells no pace
            shrinkage += probability
            ratio += probability * (grid.log_frames[kind, rate] - grid.log_frames[kind].mean()).item()
            done[kind] += probability
    pace = min(max(ratio / shrinkage, PACES[0].item()), PACES[-1].item())
    again = [1 + min(times, 1.0) * grid.again[label].item() for label, times in enumerate(done)]
    again += [1.0] * (grid.num_kinds - k)  # background
    entry = grid.entry.view(len(PACES), grid.num_kinds, RATES)
    for (kind, _), probability in ended.items():
        row = [factor * follows for factor, follows in zip(again, grid.transition[kind].tolist(), strict=True)]
        ends = 1 - grid.transition[kind].sum().item()
        for following, follows in enumerate(row):
            for new in range(RATES):
                begins = np.interp(pace, PACES.numpy(), entry[:, following, new].numpy())
                part, whole = moved[following][new]
                for target, share in ((int(whole), 1 - part), (int(whole) + 1, part)):
                    if target <= PHASES:
                        entered = probability * follows / (sum(row) + ends) * begins * share
                        after[following, new, target] = after.get((following, new, target), 0.0) + entered
    return after, shrinkage, ratio, done


@pytest.mark.parametrize('has_background', [False, True])
def test_a_frame_advances_the_posterior_like_a_loop_over_its_states(has_background):
    generator = torch.Generator().manual_seed(5)
    grid = PhaseGrid(2, has_background)
    kinds = grid.num_kinds
    grid.transition.copy_(0.9 * torch.rand(kinds, kinds, generator=generator).softmax(1))
    grid.log_frames.copy_(torch.linspace(0.5, 2.5, RATES) + 0.3 * torch.rand(kinds, 1, generator=generator))
    grid.entry.copy_(torch.rand(len(PACES), kinds, RATES, generator=generator).softmax(2).flatten(1))
    grid.initial.copy_(torch.full((kinds,), 1 / kinds))
    grid.again[:2] = torch.tensor([-0.5, -0.8])
    grid.shrinkage.fill_(0.7)
    grid.derive()
    mass, history = grid.start(1)
    naive = {(kind, rate, 0): mass[0, kind * RATES + rate, 0].item() for kind in range(kinds) for rate in range(RATES)}
    state = naive, 0.7, 0.0, [0.0, 0.0]
    for _ in range(12):
        mass, history, *_ = grid.advance(mass, history)
        state = naive_advance(grid, *state)
    expected = torch.zeros(kinds, RATES, PHASES + 1)
    for place, probability in state[0].items():
        expected[place] = probability
    torch.testing.assert_close(mass.view_as(expected), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize('again', [0.0, -0.9])
def test_mass_is_kept_if_no_recording_ends(again):
    grid = PhaseGrid(3, True)
    grid.transition.fill_(1 / grid.num_kinds)
    grid.log_frames.copy_(torch.linspace(0.5, 3, RATES))
    grid.again[:3] = again
    grid.derive()
    mass, history = grid.start(2)
    for _ in range(50):
        mass, history, *_ = grid.advance(mass, history)
    assert bool((mass.sum((1, 2)) - 1).abs().lt(50 * STAYING).all())


def test_what_follows_depends_on_what_was_done():
    grid = PhaseGrid(2, False)
    grid.transition.copy_(torch.tensor([[0.5, 0.3], [0.4, 0.4]]))  # both end with probability 0.2
    grid.again[:2] = torch.tensor([-0.5, -0.8])
    grid.log_frames.fill_(0.0)  # one frame per segment
    grid.initial.copy_(torch.tensor([1.0, 0.0]))
    grid.derive()
    mass, history = grid.start(1)
    for _ in range(2):
        mass, history, *_ = grid.advance(mass, history)
    # Label 0 was done once: 0.5 becomes 0.25, and all is divided by 0.25 + 0.3 + 0.2.
    torch.testing.assert_close(mass.view(2, RATES, -1).sum((1, 2)), torch.tensor([0.25, 0.3]) / 0.75, atol=1e-3, rtol=0)
    mass, history, *_, repetition = grid.advance(mass, history)
    done = torch.tensor([1.0, 0.3 / 0.75])  # times, at most once, in expectation
    torch.testing.assert_close(repetition[0, :2], grid.again[:2] * done, atol=1e-3, rtol=0)


def test_the_surprise_of_a_label_is_bounded():
    grid = PhaseGrid(2, True)
    # Kinds: two labels, background after each, background before the first.
    grid.transition.copy_(torch.tensor([[0.0, 0.3, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0], [0.1, 0.9, 0.0, 0.0, 0.0],
                                        [0.4, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]]))
    grid.initial.copy_(torch.tensor([0.2, 0.0, 0.0, 0.0, 0.8]))
    grid.derive()
    # After label 0: 0.5 0.1 = 0.05, 0.3 + 0.5 0.9 = 0.75; after label 1: 0.4, 0; at the start: 0.2 + 0.8 0.5, 0.8 0.5.
    expected = torch.tensor([[0.135, 0.61, 0.61], [0.4, 0.135, 0.61], [0.6, 0.4, 0.61]])
    torch.testing.assert_close(grid.surprise.neg().exp(), expected)


def test_a_step_that_was_done_is_not_the_next_step():
    # After c usually comes a, but not if a was the first step.
    orders = [('b', 'c', 'a'), ('b', 'c', 'a'), ('a', 'b', 'c')]
    model = fit_filter([make_recording(seed, orders[seed % 3]) for seed in range(6)], LABELS, choose=False)
    for order, following in zip(orders[1:], (LABELS.index('a'), len(LABELS)), strict=True):  # the last one is the end
        recording = make_recording(90, order)
        action = next(action for action in recording.actions if action.name == 'c')
        output = model.filter([recording.embeddings])[0]
        assert bool((output.next_step[action.start + 2:action.end] == following).all())


def show(rows, rule, surprise=None, evidence=None):
    probability = torch.tensor([rows])
    surprise = torch.zeros(3, 3) if surprise is None else surprise
    evidence = torch.zeros_like(probability) if evidence is None else torch.tensor([evidence])
    return decide_all(probability, evidence, surprise, torch.tensor([rule]))[0][0].tolist()


def test_without_a_rule_the_most_probable_step_is_shown():
    assert show([[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6]], (0.0, 0.0, 0.0)) == [0, 1, 2]


def test_a_surprising_step_needs_more_evidence():
    surprise = torch.tensor([[0.0, 2.0, 0.0], [0.1, 0.0, 0.0], [0.5, 0.5, 0.0]])
    rows = [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.1, 0.9, 0.0], [0.55, 0.45, 0.0]]
    assert show(rows, (1.0, 0.0, 0.0), surprise) == [0, 0, 1, 0]


def test_background_has_a_handicap():
    rows = [[0.6, 0.0, 0.4], [0.4, 0.0, 0.6], [0.2, 0.0, 0.8], [0.4, 0.0, 0.6]]
    assert show(rows, (0.0, 0.0, 0.0)) == [0, 2, 2, 2]
    assert show(rows, (0.0, 1.0, 0.0)) == [0, 0, 2, 0]


@pytest.mark.parametrize('evidence, reading, expected', [
    # 0.6 against 0.3 exp(2 reading): equal at a reading of ln(2) / 2 = 0.347
    ([0.0, 2.0, 0.0, 0.0, 0.0], 0.3, 0), ([0.0, 2.0, 0.0, 0.0, 0.0], 0.4, 1),
    # 0.6 against 0.06 + 0.04 exp(4 reading): equal at 0.651
    ([0.0, 0.0, 0.0, 4.0, 0.0], 0.6, 0), ([0.0, 0.0, 0.0, 4.0, 0.0], 0.7, 2),
    ([0.0, 2.0], 0.4, 1), ([-9.0, -9.0], 0.5, 0)])  # without background, which is then never shown
def test_a_reading_counts_the_current_frame_again(evidence, reading, expected):
    row = [0.6, 0.3, 0.06, 0.04, 0.0][:len(evidence)]
    assert show([row], (0.0, 0.0, reading), evidence=[evidence]) == [expected]


def test_the_likelihood_of_a_kind_of_background_is_mixed_with_that_of_all_background():
    counts = torch.tensor([100, 200, 299, 29, 367])  # two labels; background after each, and before the first
    table = likelihood_table(counts, 2)
    frequency = (counts + 1) / 1000
    posterior = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.3])
    own, everything = posterior / frequency, 0.7 / frequency[2:].sum()
    # The kind with 29 frames is like all background.
    expected = [own[0], own[1], 0.3 * own[2] + 0.7 * everything, everything, 0.3 * own[4] + 0.7 * everything]
    torch.testing.assert_close(posterior @ table, torch.stack(expected))
    torch.testing.assert_close(likelihood_table(counts[:2], 2), torch.diag(302 / (counts[:2] + 1)))


def test_phase_quantiles_of_one_node():
    phases = torch.zeros(PHASES + 1)
    phases[10] = 0.3
    low, median, high = phase_quantiles(phases, torch.tensor([0.05, 0.5, 0.95])).tolist()
    assert median == pytest.approx(10 / PHASES) and high - low == pytest.approx(0.9 / PHASES)


def test_recent_features_match_a_loop():
    features = RecentFeatures(3)
    x = torch.randn(1, 40, 3)
    described, recent = features(x), features.start(x[:, 0])
    padded = torch.cat([x[0, :1].expand(REACH, -1), x[0]])
    for t in range(40):
        one, recent = features.step(x[:, t], recent)
        torch.testing.assert_close(one[0], described[0, t], atol=1e-5, rtol=1e-5)
        window = padded[t + REACH - 14:t + REACH + 1]
        torch.testing.assert_close(described[0, t, -3:], window.std(0, correction=0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(described[0, t, 12:15] + x[0, t], window.mean(0), atol=1e-5, rtol=1e-4)


def test_slow_averages_are_means_at_first_and_then_forget_exponentially():
    x = torch.randn(130, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    averages = SlowAverages(2).double()
    found = averages(x)
    for number, constant in enumerate(SLOW):
        slow, mean = found[:, 2 * number:2 * number + 2], x[0]
        for t in range(130):
            count = t + 1
            mean = x[:count].mean(0) if count <= constant else mean + (x[t] - mean) / constant
            torch.testing.assert_close(slow[t], mean)
    assert torch.equal(averages(x[:100]), found[:100])


def test_annotate():
    item = annotate(torch.zeros(10, 2), [Action('b', 2, 4), Action('a', 5, 7)], ['a', 'b'], 'p')
    assert item.label.tolist() == [2, 2, 1, 1, 1, 0, 0, 0, 2, 2]
    assert item.segments == [(4, 2), (1, 3), (0, 3), (2, 2)]
    assert item.progress[2:5].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    torch.testing.assert_close(item.phase[2:8], item.progress[2:8] - 1 / 6)


def test_margins_widen_an_interval_that_is_too_narrow():
    recordings = [annotate(torch.zeros(20, 2), [Action('a', 0, 19)], ['a'], str(group)) for group in range(5)]
    phases = torch.zeros(20, PHASES + 1)
    # All mass at a tenth more than the truth, in one node, so that all quantiles are at most half a node apart.
    phases[torch.arange(20), ((recordings[0].progress + 0.1) * PHASES).round().long().clamp(max=PHASES)] = 1
    posterior = Posterior(*[phases] * len(Posterior._fields))
    margin = calibrate_progress(recordings, [posterior] * 5)
    low, middle, high = margin.tolist()
    assert (middle, high) == (0, 0) and -0.14 < low < -0.06
    ends = phase_quantiles(phases, torch.tensor(LEVELS)) + margin
    inside = (ends[:, 0] <= recordings[0].progress) & (recordings[0].progress <= ends[:, 2])
    assert inside.float().mean() >= 0.85


def test_the_estimate_of_what_remains_is_the_median_of_left_out_recordings():
    left = torch.arange(20.0, 0.0, -1.0).unsqueeze(1)  # (T, 1), frames from the current one on
    # Twice as long as the truth, with a std of the log of 1.
    moments = torch.cat([2 * left, (2 * left).square() * math.e], dim=1)
    posterior = Posterior(moments, moments, moments, moments, moments)
    rated = [Rated(annotate(torch.zeros(20, 2), [Action('a', 0, 19)], ['a'], str(group)),
                   UnsegmentedFilter(['a'], 2, False), None) for group in range(3)]
    rest = Remaining(PhaseGrid(1, False))  # its counter expects the end at once
    calibrate_remaining(rest, rated, [posterior] * 3)
    assert rest.blend == 1 and rest.spread.tolist() == pytest.approx([-math.log(2)] * 3)
    found, std = rest(moments, 21 - left)
    torch.testing.assert_close(found, (left - 1).expand(-1, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(20, 1))

"""Heads that know everything, nothing, or the time alone score as they should in every table of a head."""

import numpy as np
import pytest
import torch
from torch import nn

from evaluation.head_tables import HeadScorer, TaskPart, Training
from evaluation.phase_metrics import frame_labels
from evaluation.survival import SurvivalBaseline
from models.heads.estimates import FrameEstimates
from recordings.background import BACKGROUND
from utils.tensorops import Action

LABELS = ['pour', 'stir', 'serve']
LABEL, PROGRESS, REMAINING, ELAPSED, LENGTH = range(5)  # what the columns of an embedding hold


def recording(rng):
    """Actions in an order of their own with background in between, and embeddings that tell everything."""
    actions, start = [], int(rng.integers(0, 4))
    for label in rng.permutation(LABELS):
        frames = int(rng.integers(8, 40))
        actions.append(Action(str(label), start, start + frames - 1))
        start += frames + int(rng.integers(0, 5))
    embedding = np.zeros((start, 5 + len(LABELS)))
    embedding[:, LABEL], embedding[:, ELAPSED], embedding[:, LENGTH] = -1, np.arange(1, start + 1), start
    for action in actions:
        inside, frames = slice(action.start, action.end + 1), np.arange(1, action.length + 1)
        embedding[inside, LABEL] = LABELS.index(action.name)
        embedding[inside, PROGRESS], embedding[inside, REMAINING] = frames / action.length, action.length - frames
        embedding[inside, 5 + LABELS.index(action.name)] = 1
    return torch.tensor(embedding, dtype=torch.float32), actions


def part(seed, recordings=6):
    rng = np.random.default_rng(seed)
    embeddings, actions = zip(*(recording(rng) for _ in range(recordings)), strict=True)
    return TaskPart('tea', [f'r{index}' for index in range(recordings)], embeddings, actions)


TRAIN, TEST = part(0), part(1)


class Head(nn.Module):
    """What every fake head does alike."""

    offers_filter = offers_intervals = True

    def filter_all(self, recordings, task):
        return [self.filter(embeddings, task) for embeddings in recordings]

    def contexts(self, task, actions):
        assert task == 'tea'
        return [action.name for action in actions]

    def forward_dense(self, segments, contexts):
        assert len(segments) == len(contexts)
        return [self.within(segment) for segment in segments]


class Oracle(Head):
    def within(self, segment):
        return segment[:, PROGRESS]

    def forward_intervals(self, segments, contexts):
        return [torch.stack([segment[:, PROGRESS]] * 2, dim=1) for segment in segments]

    def filter(self, embeddings, task):
        steps = [LABELS[int(index)] if index >= 0 else BACKGROUND for index in embeddings[:, LABEL]]
        progress, remaining = embeddings[:, PROGRESS], embeddings[:, REMAINING]
        overall = embeddings[:, ELAPSED] / embeddings[:, LENGTH]
        return FrameEstimates(steps, progress, progress, progress, remaining, remaining, remaining, overall, overall,
                              overall, embeddings[:, LENGTH] - embeddings[:, ELAPSED])


class Constant(Head):
    """Always the same step, half done, within the whole range."""

    def within(self, segment):
        return torch.full((len(segment),), 0.5)

    def forward_intervals(self, segments, contexts):
        return [torch.tensor([[0.0, 1.0]]).expand(len(segment), 2) for segment in segments]

    def filter(self, embeddings, task):
        half = torch.full((len(embeddings),), 0.5)
        return FrameEstimates(['pour'] * len(embeddings), half, half * 0, half * 2, overall=half, overall_low=half,
                              overall_high=half)


class Random(Head):
    offers_intervals = False

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def within(self, segment):
        return torch.rand(len(segment), generator=self.generator)

    def filter(self, embeddings, task):
        steps = torch.randint(3, (len(embeddings),), generator=self.generator)
        return FrameEstimates([LABELS[index] for index in steps], self.within(embeddings),
                              overall_remaining=len(embeddings) * self.within(embeddings))


class Counter(Head):
    """Counts frames from the start of what it is given."""

    offers_filter = offers_intervals = False

    def within(self, segment):
        frames = torch.arange(1.0, len(segment) + 1)
        return frames / (frames + 10)


def tables(head, train=TRAIN, test=TEST, *, chunks=1):
    """What the head scores on the test recordings, which come in so many chunks."""
    lengths = [len(embedding) for embedding in train.embeddings]
    survival = SurvivalBaseline(train.actions, train.groups)
    scorer = HeadScorer(head, Training(train.actions, lengths, survival, train), torch.device('cpu'))
    for indices in np.array_split(np.arange(len(test.handles)), chunks):
        scorer.add(TaskPart(test.task, *([values[index] for index in indices] for values in (
            test.handles, test.embeddings, test.actions)), test.groups and [test.groups[index] for index in indices]))
    return scorer.tables()


def test_an_oracle_is_perfect_in_every_table():
    found = tables(Oracle())
    assert found.missing == {} and list(found.rows) == ['contrast', 'unsegmented', 'overall', 'intervals']
    row = found.rows['unsegmented']
    exact = {'mae': 0, 'frame_accuracy': 1, 'edit': 100, 'f1_10': 100, 'f1_25': 100, 'f1_50': 100, 'delay_median': 0,
             'delay_p90': 0, 'action_frame_accuracy': 1}
    assert {name: row[name] for name in exact} == pytest.approx(exact, abs=1e-6) and row['num_recordings'] == 6
    assert row['baseline_constant'] == pytest.approx(0.25, abs=0.01)
    assert 0 < row['baseline_counter_given_boundaries'] < 0.25 and row['baseline_probe_frame_accuracy'] > 0.85
    overall = found.rows['overall']
    assert (overall['mae'], overall['remaining_mae']) == pytest.approx((0, 0), abs=1e-6)
    assert overall['baseline_counter'] > 0.02 and overall['baseline_counter_remaining'] > 0.02
    intervals = found.rows['intervals']
    for kind in ('progress', 'end', 'unsegmented', 'unsegmented_end', 'overall'):
        assert intervals[f'{kind}_coverage'] == 1 and intervals[f'{kind}_width'] == pytest.approx(0, abs=1e-4)
    assert intervals['baseline_survival_progress_coverage'] > 0.7 and intervals['baseline_survival_end_width'] > 0.3
    contrast = found.rows['contrast']
    same = {'final': 1, 'final_half_speed': 1, 'final_double_speed': 1, 'final_frozen': 1, 'freeze_change': 0,
            'reversed_spearman': -1, 'num_actions': 18}
    assert contrast == pytest.approx(same)


def test_a_constant_head_scores_what_the_constant_does():
    found = tables(Constant())
    row = found.rows['unsegmented']
    assert row['mae'] == row['baseline_constant']
    # It recognizes one step of three, which it names all the time: at once, or never.
    assert row['action_frame_accuracy'] < 0.6 and row['edit'] == pytest.approx(100 / 3) and row['f1_50'] < 34
    assert row['delay_median'] > 5
    assert found.rows['overall']['mae'] == pytest.approx(0.25, abs=0.01)
    assert 'remaining_mae' not in found.rows['overall']
    intervals = found.rows['intervals']
    assert (intervals['progress_coverage'], intervals['progress_width']) == (1, 1)
    assert intervals['overall_coverage'] < 0.05 and intervals['overall_width'] == 0
    assert 'unsegmented_end_coverage' not in intervals
    contrast = found.rows['contrast']
    assert [contrast[name] for name in ('final', 'freeze_change', 'reversed_spearman')] == [0.5, 0, 0]


def test_a_random_head_has_no_skill_anywhere():
    found = tables(Random())
    row = found.rows['unsegmented']
    assert row['mae'] == pytest.approx(1 / 3, abs=0.05) and row['mae'] > row['baseline_constant']
    assert row['action_frame_accuracy'] == pytest.approx(1 / 3, abs=0.08) and row['edit'] < 15 and row['f1_50'] == 0
    assert row['delay_median'] <= 2, 'a step named at random is soon named'
    assert found.rows['overall']['remaining_mae'] > found.rows['overall']['baseline_counter_remaining']
    assert abs(found.rows['contrast']['reversed_spearman']) < 0.2
    assert list(found.missing) == ['intervals'] and found.tenths == []


def test_a_counter_moves_while_frozen_and_does_not_notice_time_running_backwards():
    found = tables(Counter())
    contrast = found.rows['contrast']
    assert contrast['reversed_spearman'] == pytest.approx(1) and contrast['freeze_change'] > 0.1
    assert contrast['final_double_speed'] < contrast['final'] < contrast['final_half_speed']
    assert set(found.missing) == {'unsegmented', 'overall', 'intervals'} and list(found.rows) == ['contrast']


def test_altered_training_annotations_move_every_baseline_but_the_constant():
    def baselines(train):
        rows = tables(Oracle(), train).rows
        return {f'{table}.{name}': value for table, row in rows.items() for name, value in row.items()
                if name.startswith('baseline_')}

    # Every action of the other annotation starts a third later; half of the recordings are cut short.
    actions = [[Action(action.name, action.start + action.length // 3, action.end) for action in recording]
               for recording in TRAIN.actions]
    embeddings = [embedding[:actions[index][0].end + 2] if index % 2 else embedding
                  for index, embedding in enumerate(TRAIN.embeddings)]
    actions = [[action for action in recording if action.end < len(embedding)]
               for recording, embedding in zip(actions, embeddings, strict=True)]
    before, after = baselines(TRAIN), baselines(TaskPart('tea', TRAIN.handles, embeddings, actions))
    still = {name for name in before if before[name] == after[name]}
    # What the probe recognizes may agree by chance in its segments, not in its frames.
    assert still <= {'unsegmented.baseline_constant', *(f'unsegmented.baseline_probe_{name}' for name in (
        'edit', 'f1_10', 'f1_25', 'f1_50', 'delay_median'))}


def test_other_test_recordings_move_nothing_of_a_recording():
    """The row of one recording is the same, whatever else is tested with it and however that is annotated."""
    one = TaskPart('tea', TEST.handles[:1], TEST.embeddings[:1], TEST.actions[:1])
    alone = tables(Oracle(), test=one).rows
    others = part(2)
    fewer = TaskPart('tea', others.handles, others.embeddings, [actions[:1] for actions in others.actions])
    for other in (others, fewer):
        rows = []
        for handles in ([*one.handles], [*one.handles, *other.handles]):
            joined = TaskPart('tea', handles, [*one.embeddings, *other.embeddings][:len(handles)],
                              [*one.actions, *other.actions][:len(handles)])
            rows.append(tables(Oracle(), test=joined).rows)
        assert rows[0] == alone and rows[1] != alone


@pytest.mark.parametrize('head', [Oracle, Constant, Counter])
def test_chunks_of_test_recordings_change_nothing(head):
    people = ['ann', 'bob', 'ann', 'cem', 'bob', 'ann']
    test = TaskPart('tea', TEST.handles, TEST.embeddings, TEST.actions, people)
    whole, parts = tables(head(), test=test), tables(head(), test=test, chunks=4)
    assert parts == whole and len(whole.by_group['contrast']) == 3
    # A group scores what its recordings score alone.
    bob = TaskPart('tea', *(list(values[1::3]) for values in (TEST.handles, TEST.embeddings, TEST.actions)))
    alone = tables(head(), test=bob).rows
    for name, rows in whole.by_group.items():
        assert rows['bob'] == pytest.approx(alone[name], nan_ok=True)


def test_frames_outside_of_the_true_actions_do_not_count_for_the_error():
    class Elsewhere(Oracle):
        def filter(self, embeddings, task):
            estimates = super().filter(embeddings, task)
            outside = embeddings[:, LABEL] < 0
            return estimates._replace(progress=torch.where(outside, 1.0, estimates.progress))

    assert tables(Elsewhere()).rows['unsegmented']['mae'] == pytest.approx(0, abs=1e-6)


def test_no_answer_counts_as_progress_zero():
    class Silent(Oracle):
        def filter(self, embeddings, task):
            estimates = super().filter(embeddings, task)
            return estimates._replace(progress=estimates.progress * torch.nan)

    true = np.mean([np.concatenate([np.arange(1, a.length + 1) / a.length for a in actions]).mean()
                    for actions in TEST.actions])
    assert tables(Silent()).rows['unsegmented']['mae'] == pytest.approx(true)


def test_the_labels_of_the_fixture_are_those_of_its_actions():
    for embedding, actions in zip(TEST.embeddings, TEST.actions, strict=True):
        labels = frame_labels(actions, len(embedding))
        assert [LABELS.index(label) if label != BACKGROUND else -1 for label in labels] == embedding[:, LABEL].tolist()

import math

import pytest
import torch
import torch.nn.functional as F

from models.heads.recurrent import ProgressHead

WIDTH = 6
POOLINGS = pytest.mark.parametrize('use_gru', [True, False])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def head_of(use_gru=True, **changes):
    return ProgressHead(WIDTH, 5, use_gru, **changes)


def segments(*lengths, dtype=torch.float32):
    return [torch.randn(length, WIDTH, dtype=dtype) for length in lengths]


def padded(parts, value):
    longest = max(map(len, parts))
    return torch.stack([F.pad(part, (0, 0, 0, longest - len(part)), value=value) for part in parts])


def test_the_gru_head_has_the_layers_of_the_plan():
    shapes = {name: tuple(value.shape) for name, value in ProgressHead().state_dict().items()}
    assert shapes == {'gru.weight_ih_l0': (192, 128), 'gru.weight_hh_l0': (192, 64), 'gru.bias_ih_l0': (192,),
                      'gru.bias_hh_l0': (192,), 'fc.0.weight': (32, 64), 'fc.0.bias': (32,), 'fc.2.weight': (1, 32),
                      'fc.2.bias': (1,)}


def test_the_pooling_head_has_the_layers_of_the_plan():
    shapes = {name: tuple(value.shape) for name, value in ProgressHead(use_gru=False).state_dict().items()}
    assert shapes == {'fc.0.weight': (64, 128), 'fc.0.bias': (64,), 'fc.2.weight': (32, 64), 'fc.2.bias': (32,),
                      'fc.4.weight': (1, 32), 'fc.4.bias': (1,)}


def layer_norm(frame):
    mean = sum(frame) / len(frame)
    variance = sum((value - mean) ** 2 for value in frame) / len(frame)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in frame]


def naive_gru(gru, frames):
    """The equations of Cho et al., 2014, as torch orders them: reset, update, new."""
    hidden = torch.zeros(gru.hidden_size, dtype=frames.dtype)
    for frame in frames:
        from_input = (gru.weight_ih_l0 @ frame + gru.bias_ih_l0).chunk(3)
        from_hidden = (gru.weight_hh_l0 @ hidden + gru.bias_hh_l0).chunk(3)
        reset, update = (torch.sigmoid(from_input[gate] + from_hidden[gate]) for gate in (0, 1))
        new = torch.tanh(from_input[2] + reset * from_hidden[2])
        hidden = (1 - update) * new + update * hidden
    return hidden


@POOLINGS
@pytest.mark.parametrize('normalize', [True, False])
def test_forward_matches_a_naive_loop(use_gru, normalize):
    head = head_of(use_gru, normalize_embeddings=normalize).double()
    segment, = segments(7, dtype=torch.float64)
    frames = segment
    if normalize:
        frames = torch.tensor([layer_norm(frame.tolist()) for frame in segment], dtype=torch.float64)
    hidden = naive_gru(head.gru, frames) if use_gru else sum(frames) / len(frames)
    for layer in list(head.fc)[:-1:2]:
        last, hidden = layer.weight @ hidden + layer.bias, None
        hidden = last.clamp(min=0)
    torch.testing.assert_close(head(segment), torch.sigmoid(last)[0])


@POOLINGS
def test_a_list_and_a_padded_batch_equal_one_by_one(use_gru):
    head = head_of(use_gru)
    parts = segments(9, 1, 4)
    alone = torch.stack([head(part) for part in parts])
    assert head(parts[1]).shape == () and alone.shape == (3,)
    assert ((alone > 0) & (alone < 1)).all()
    torch.testing.assert_close(head(parts), alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(padded(parts, 3.), lengths=torch.tensor([9, 1, 4])), alone, rtol=1e-5, atol=1e-6)


@POOLINGS
@pytest.mark.parametrize('value', [7., 1e30, float('inf'), float('nan')])
def test_padding_reaches_neither_value_nor_gradient(use_gru, value):
    head, parts = head_of(use_gru), segments(5, 2)

    def run(filler):
        batch = padded(parts, filler).requires_grad_()
        progress = head(batch, lengths=torch.tensor([5, 2]))
        return progress, torch.autograd.grad(progress.sum(), [batch, *head.parameters()])

    (clean, clean_gradients), (progress, gradients) = run(0.), run(value)
    torch.testing.assert_close(progress, clean, rtol=0, atol=0)
    torch.testing.assert_close(gradients, clean_gradients, rtol=0, atol=0)
    assert gradients[0][1, 2:].eq(0).all() and gradients[0][1, :2].ne(0).any()


@POOLINGS
def test_dense_progress_is_that_of_every_prefix(use_gru):
    head, (segment,) = head_of(use_gru), segments(20)
    dense = head.forward_dense(segment)
    assert dense.shape == (20,)
    torch.testing.assert_close(dense, torch.stack([head(segment[:t + 1]) for t in range(20)]), rtol=0, atol=1e-5)


@POOLINGS
def test_dense_progress_is_causal(use_gru):
    head, (segment,) = head_of(use_gru), segments(12)
    changed = segment.clone()
    changed[8:] = torch.randn(4, WIDTH)
    before, after = head.forward_dense(segment), head.forward_dense(changed)
    torch.testing.assert_close(before[:8], after[:8], rtol=0, atol=0)
    assert (before[8:] != after[8:]).all()


@POOLINGS
def test_dense_progress_of_a_list(use_gru):
    head, parts = head_of(use_gru), segments(6, 1, 9)
    together = head.forward_dense(parts)
    assert [len(row) for row in together] == [6, 1, 9]
    for row, part in zip(together, parts, strict=True):
        torch.testing.assert_close(row, head.forward_dense(part), rtol=1e-5, atol=1e-6)


def test_a_batch_is_one_call_of_the_gru(monkeypatch):
    head, calls = head_of(), []
    head.gru.register_forward_hook(lambda *_: calls.append(1))
    head(segments(3, 8, 2))
    head.forward_dense(segments(3, 8, 2))
    assert len(calls) == 2


@POOLINGS
def test_step_by_step_equals_every_prefix(use_gru):
    head, (segment,) = head_of(use_gru), segments(15)
    state, shapes = None, set()
    for t, frame in enumerate(segment):
        progress, state = head.step(frame, state)
        shapes.add(tuple(state.shape))
        assert progress.shape == ()
        torch.testing.assert_close(progress, head(segment[:t + 1]), rtol=0, atol=1e-5)
    assert len(shapes) == 1  # the cost of a step does not grow


@POOLINGS
def test_a_state_can_be_stepped_from_twice(use_gru):
    head, (segment,) = head_of(use_gru), segments(3)
    _, state = head.step(segment[0])
    kept = state.clone()
    first, second = head.step(segment[1], state)[0], head.step(segment[1], state)[0]
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(state, kept, rtol=0, atol=0)


@POOLINGS
def test_normalisation_makes_the_scale_irrelevant(use_gru):
    segment, = segments(8)
    head = head_of(use_gru)
    torch.testing.assert_close(head(1000 * segment + 3), head(segment), rtol=0, atol=1e-4)
    raw = head_of(use_gru, normalize_embeddings=False)
    assert (raw(1000 * segment + 3) - raw(segment)).abs() > 1e-3


def test_the_gru_reads_the_order_and_pooling_does_not():
    segment, = segments(8)
    gru, pooling = head_of(True), head_of(False)
    assert (gru(segment) - gru(segment.flip(0))).abs() > 1e-4
    torch.testing.assert_close(pooling(segment), pooling(segment.flip(0)))


@POOLINGS
def test_gradient_reaches_frames_and_weights(use_gru):
    head, (segment,) = head_of(use_gru), segments(4)
    segment.requires_grad_()
    (head(segment) - 1).abs().backward()
    assert segment.grad.abs().amax(dim=1).gt(0).all()
    assert all(weight.grad.abs().max() > 0 for weight in head.parameters())


@POOLINGS
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_the_embeddings_dtype_is_kept(use_gru, dtype):
    head, parts = head_of(use_gru).to(dtype), segments(5, 3, dtype=dtype)
    assert head(parts).dtype == head.forward_dense(parts[0]).dtype == head.step(parts[0][0])[0].dtype == dtype


@POOLINGS
@pytest.mark.parametrize('normalize', [True, False])
def test_autocast_to_half_precision_stays_finite(use_gru, normalize):
    head, encoder = head_of(use_gru, normalize_embeddings=normalize), torch.nn.Linear(WIDTH, WIDTH)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings = encoder(100 * torch.randn(30, WIDTH))
        assert embeddings.dtype == torch.bfloat16
        progress = torch.cat([head.forward_dense(embeddings), head([embeddings, embeddings[:3]]),
                              head.step(embeddings[0])[0].view(1)])
    assert progress.isfinite().all()
    progress.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in [*head.parameters(), *encoder.parameters()])


def test_means_over_long_segments_survive_half_precision():
    head = head_of(False, normalize_embeddings=False).bfloat16()
    segment = torch.zeros(1200, WIDTH, dtype=torch.bfloat16)
    segment[:300] = 8  # sums and counts in half precision would stop growing at 256 steps
    expected = head(torch.full((1, WIDTH), 2, dtype=torch.bfloat16))
    torch.testing.assert_close(head(segment), expected, rtol=0, atol=0)
    state = None
    for frame in segment:
        progress, state = head.step(frame, state)
    torch.testing.assert_close(progress, expected, rtol=0, atol=0)


@pytest.mark.parametrize('wrong', [torch.zeros(0, WIDTH), torch.zeros(4, WIDTH + 1), torch.zeros(WIDTH),
                                   torch.zeros(2, 4, WIDTH)])
def test_wrong_segments_are_named(wrong):
    head = head_of()
    for call in (head, head.forward_dense):
        with pytest.raises(ValueError, match=r'segment 0 has shape .* expected \(n, 6\) with n >= 1'):
            call(wrong)
    with pytest.raises(ValueError, match='segment 1 has shape'):
        head([torch.zeros(2, WIDTH), wrong])
    with pytest.raises(ValueError, match='embedding has shape'):
        head.step(torch.zeros(2, WIDTH))


def test_an_empty_list_is_refused():
    head = head_of()
    for call in (head, head.forward_dense):
        with pytest.raises(ValueError, match='segments is empty'):
            call([])


@pytest.mark.parametrize('batch, lengths, message', [
    (torch.zeros(2, 4, WIDTH), [4, 0], 'lengths run from 0 to 4, expected 1 to 4'),
    (torch.zeros(2, 4, WIDTH), [5, 1], 'lengths run from 1 to 5, expected 1 to 4'),
    (torch.zeros(2, 4, WIDTH), [4], 'next to 1 lengths'),
    (torch.zeros(4, WIDTH), [4], 'expected .B, n, 6.'),
    ([torch.zeros(4, WIDTH)], [4], 'list next to lengths'),
])
def test_wrong_padded_batches_are_named(batch, lengths, message):
    with pytest.raises(ValueError, match=message):
        head_of()(batch, lengths=torch.tensor(lengths))

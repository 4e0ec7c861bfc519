"""The encoder's step with explicit state against the stream of the model."""

import pytest
import torch

from models.streaming import EmbeddingStream
from tests.prediction.conftest import WIDTH, untrained
from tools.onnx_graph import EncoderStep


@pytest.mark.parametrize('options', [('--naive',), ('--identity', '--standardize_features'),
                                     ('--tstack', '--set', 'CAUSAL=true'),
                                     ('--resnet50', '--set', 'BASEARCH.Resnet50_ARCH.temporal_depth=3')])
def test_it_gives_the_embeddings_of_the_stream_from_zeros(options):
    model = untrained(*options).model
    if model.standardizer is not None:
        model.standardizer.fit([5 + 3 * torch.randn(30, WIDTH)])
    frames = torch.randn(12, *(WIDTH, 4, 4)[:len(model.base_model.input_axes) - 1])
    step = EncoderStep(model, frames[0]).eval()
    stream, state = EmbeddingStream(model), step.start()
    assert len(state) == len(step.states) and all((value == 0).all() for value in state)
    for frame in frames:
        embedding, *after = step(frame, *state)
        assert torch.allclose(embedding, stream.push(frame)[0], atol=1e-5)
        assert [value.shape for value in after] == [value.shape for value in state]
        state = after
    assert model.progress_head is not None  # the step took a copy


def test_a_model_that_needs_whole_recordings_is_refused():
    model = untrained('--naive').model
    model.legacy_attention_layout = True
    with pytest.raises(ValueError, match='depends on all of its recording'):
        EncoderStep(model, torch.zeros(WIDTH))

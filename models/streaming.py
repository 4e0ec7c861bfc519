"""Compute a model's embeddings one frame at a time."""

import numpy as np
import torch
from torch import Tensor

from models.model_multiprong import ProgressModel


class EmbeddingStream:
    """Embeddings of one recording, computed frame by frame at constant cost per frame.

    The embedding of a frame is available ``model.lookahead`` frames later: the first ``lookahead`` calls of
    :meth:`push` return an empty list, and :meth:`finish` returns the remaining embeddings. Together they equal
    ``model([video])['outputs'][0]``.

    Args:
        model: model in eval mode.

    Raises:
        ValueError: the encoder has no stream, or the model does not embed each frame independently.
    """

    @torch.no_grad()
    def __init__(self, model: ProgressModel) -> None:
        self._model, self._encoder = model, model.base_model.stream()
        # An identity encoder with a head that is fitted in closed form has buffers only.
        weight = next((value for value in model.state_dict().values() if value.is_floating_point()), torch.zeros(()))
        self._device, self._dtype = weight.device, weight.dtype
        # Raise at once, not at the first frame, if the model does not embed each frame independently.
        model.refine(weight.new_zeros(1, model.base_model.output_dimensions))

    def push(self, frame: np.ndarray | Tensor) -> list[Tensor]:
        """Return the embedding (E,) that the next frame, (D,) or (C, H, W), completes: a list of at most one."""
        frames = torch.as_tensor(frame).to(self._device, self._dtype).unsqueeze(0)  # (1, D) or (1, C, H, W)
        return self._refine(self._encoder.push(self._model.standardize(frames)))

    def finish(self) -> list[Tensor]:
        """Return the embeddings (E,) that were waiting for frames after the end of the recording."""
        return self._refine(self._encoder.finish())

    def _refine(self, encoded: Tensor | None) -> list[Tensor]:
        # The encoder returns nothing while it waits for the frames that it looks ahead to.
        if encoded is None or not len(encoded):
            return []
        return list(self._model.refine(encoded))  # (m, E) -> m x (E,)

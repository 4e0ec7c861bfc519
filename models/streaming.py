"""Embeddings of a model one frame at a time."""

import numpy as np
import torch
from torch import Tensor

from models.model_multiprong import ProgressModel


class EmbeddingStream:
    """A model's embeddings of one recording, frame by frame, at constant cost.

    The embedding of a frame is there ``model.lookahead`` frames later: pushed one by one, the first ``lookahead`` calls
    return nothing, and :meth:`finish` returns the rest. Together they equal ``model([video])['outputs'][0]``.

    Args:
        model: in eval mode.

    Raises:
        ValueError: the model has an encoder without a stream, or frames that do not stand by themselves.
    """

    @torch.no_grad()
    def __init__(self, model: ProgressModel) -> None:
        self._model, self._encoder = model, model.base_model.stream()
        # An identity encoder with a head that is fitted in closed form has buffers only.
        weight = next((value for value in model.state_dict().values() if value.is_floating_point()), torch.zeros(()))
        self._device, self._dtype = weight.device, weight.dtype
        model.refine(weight.new_zeros(1, model.base_model.output_dimensions))  # a model that cannot says so at once

    def push(self, frame: np.ndarray | Tensor) -> list[Tensor]:
        """Return the embeddings (E,) that the next frame, (D,) or (C, H, W), makes known: one or none."""
        return self._refine(self._encoder.push(torch.as_tensor(frame).to(self._device, self._dtype).unsqueeze(0)))

    def finish(self) -> list[Tensor]:
        """Return the embeddings (E,) that were waiting for frames after the recording's last one."""
        return self._refine(self._encoder.finish())

    def _refine(self, encoded: Tensor | None) -> list[Tensor]:
        if encoded is None or not len(encoded):
            return []
        return list(self._model.refine(encoded))

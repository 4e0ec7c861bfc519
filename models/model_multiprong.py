"""Models over a shared encoder: the multi-head cross-task network, and a single encoder with the same outputs."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from models.encoders.base import DROP_LAYERS, Encoder
from models.encoders.layers import DropNetwork, initialize_, linear_stack, require_positive, split_like
from models.heads.base import ProgressHeadBase
from models.heads.recurrent import ProgressHead
from models.standardizer import FeatureStandardizer

__all__ = ['HeadModel', 'MultiProngAttDropoutModel', 'ProgressHead', 'SingleEncoderModel']

ATTENTION_LAYERS = (512, 1024, 512, 512)
HEAD_LAYERS = (512, 128, 256)
HEAD_PREFIX = 'progress_head.'  # the names of the progress head's parameters and buffers begin with it


class HeadModel(nn.Module):
    """One head of the multi-head network: (T, E) -> (T, E), frame by frame.

    Args:
        embedding_dim: E.
        output_gain: ratio of the root mean square of a new head's outputs to that of its inputs.
    """

    def __init__(self, embedding_dim: int, output_gain: float = 1.0) -> None:
        super().__init__()
        self.fc_layers = nn.Sequential(*linear_stack([embedding_dim, *HEAD_LAYERS, embedding_dim], nn.ReLU))
        initialize_(self.fc_layers, output_gain)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the head's embeddings (T, E)."""
        return self.fc_layers(embeddings)


class ProgressModel(nn.Module):
    """Base class of both models: encoder, optional drop network, optional progress head, and their outputs.

    Args:
        base_model_class: class of the encoder.
        base_model_params: arguments of the encoder.
        output_dimensionality: E.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.
        use_progress_head: True to have the plan's progress head.
        progress_head_hidden_dim: size of its hidden state.
        progress_head_use_gru: True for a GRU, False for mean pooling.
        make_progress_head: function E -> progress head, used instead of the plan's. It is called where the plan's head
            would be created, so a seed gives the other parts the same initial weights either way.

    Raises:
        ValueError: the encoder's output dimension is not E.
    """

    dropout: DropNetwork  # exists if dropping
    progress_head: ProgressHeadBase  # exists if use_progress_head

    def __init__(self, base_model_class: type[Encoder], base_model_params: dict, output_dimensionality: int, *,
                 dropping: bool = False, drop_layers: Sequence[int] = DROP_LAYERS, use_progress_head: bool = False,
                 progress_head_hidden_dim: int = 64, progress_head_use_gru: bool = True,
                 make_progress_head: Callable[[int], ProgressHeadBase] | None = None) -> None:
        super().__init__()
        self.base_model = base_model_class(**base_model_params)
        if self.base_model.output_dimensions != output_dimensionality:
            raise ValueError(f'the encoder gives {self.base_model.output_dimensions} dimensions, expected '
                             f'output_dimensionality {output_dimensionality}')
        self.dropping = dropping
        if dropping:
            self.dropout = DropNetwork(output_dimensionality, drop_layers)
        if make_progress_head is None and use_progress_head:
            make_progress_head = partial(ProgressHead, hidden_dim=progress_head_hidden_dim,
                                         use_gru=progress_head_use_gru)
        self.use_progress_head = make_progress_head is not None
        if make_progress_head is not None:
            self.progress_head = make_progress_head(output_dimensionality)
        self.standardizer: FeatureStandardizer | None = None  # set by build_model

    def standardize(self, video: Tensor) -> Tensor:
        """Return a recording (T, D) as the encoder reads it: standardized if the model has a standardizer."""
        return video if self.standardizer is None else self.standardizer(video)

    def encode(self, videos: Sequence) -> list[Tensor]:
        """Return the encoder's outputs (T_i, E) of recordings."""
        return self.base_model([self.standardize(video) for video in videos])['outputs']

    @property
    def lookahead(self) -> int:
        """Number of frames after the current frame that its embedding depends on."""
        return self.base_model.lookahead

    def refine(self, encoded: Tensor) -> Tensor:
        """Return the embeddings (T, E) from the encoder's outputs (T, E): here the same."""
        return encoded

    def _with_extras(self, result: dict) -> dict:
        """Add drop vectors (computed from 'outputs') and the progress head to a result."""
        if self.dropping:
            # From the final embeddings: GTCC takes products of drop vectors with these.
            result['dropouts'] = self.dropout(result['outputs'])
        if self.use_progress_head:
            result['progress_head'] = self.progress_head
        return result


class SingleEncoderModel(ProgressModel):
    """Single encoder with the outputs of the multi-head network except the attentions; arguments: ProgressModel's."""

    def forward(self, videos: Sequence) -> dict:
        """Embed videos: 'outputs' [(T_i, E)], 'dropouts' [(E + 1,)] if dropping, 'progress_head' if there is one."""
        return self._with_extras({'outputs': self.encode(videos)})


class MultiProngAttDropoutModel(ProgressModel):
    """Multi-head cross-task network: heads over a shared encoder, mixed per frame by attention.

    Args:
        num_heads: H >= 1.
        attn_layers: sizes of the attention network's hidden layers.
        legacy_attention_layout: True if the attention reads each frame mixed with other frames of its recording, as in
            the published code; only for models that were trained that way.

    The other arguments are those of :class:`ProgressModel`.

    Raises:
        ValueError: ``num_heads`` is below 1, or the encoder's output dimension is not E.

    Reference:
        Donahue & Elhamifar, CVPR 2024.
    """

    def __init__(self, base_model_class: type[Encoder], base_model_params: dict, output_dimensionality: int,
                 num_heads: int, dropping: bool = False, attn_layers: Sequence[int] = ATTENTION_LAYERS,
                 drop_layers: Sequence[int] = DROP_LAYERS, use_progress_head: bool = False,
                 progress_head_hidden_dim: int = 64, progress_head_use_gru: bool = True, *,
                 make_progress_head: Callable[[int], ProgressHeadBase] | None = None,
                 legacy_attention_layout: bool = False) -> None:
        super().__init__(base_model_class, base_model_params, output_dimensionality, dropping=dropping,
                         drop_layers=drop_layers, use_progress_head=use_progress_head,
                         progress_head_hidden_dim=progress_head_hidden_dim,
                         progress_head_use_gru=progress_head_use_gru, make_progress_head=make_progress_head)
        require_positive(num_heads=num_heads)
        self.legacy_attention_layout = legacy_attention_layout
        # A new attention is nearly uniform, and the mean of H independent heads is sqrt(H) times shorter than one of
        # them. Without the gain, the embeddings of 16 heads would start at a quarter of the norm of a single encoder.
        self.head_models = nn.ModuleList(HeadModel(output_dimensionality, math.sqrt(num_heads))
                                         for _ in range(num_heads))
        # H outputs of E dimensions in, one weight per head out; the softmax over the last axis makes them sum to 1.
        self.attention_layer = nn.Sequential(
            *linear_stack([num_heads * output_dimensionality, *attn_layers, num_heads], nn.Tanh), nn.Softmax(dim=-1))

    def forward(self, videos: Sequence) -> dict:
        """Embed videos; heads and attention process all frames of the batch in one call.

        Args:
            videos: recordings, (T_i, D) or (T_i, C, H, W).

        Returns:
            'outputs' [(T_i, E)], 'attentions' [(T_i, H)], 'dropouts' [(E + 1,)] if dropping, 'progress_head' if there
            is one.
        """
        embeddings = self.encode(videos)  # [(T_i, E)]
        # Frames of all recordings in a row, (sum of T_i, E): one call per layer instead of one per recording.
        mixed, attention = self._mix(torch.cat(embeddings), [len(embedding) for embedding in embeddings])
        return self._with_extras({'outputs': split_like(mixed, embeddings),
                                  'attentions': split_like(attention, embeddings)})

    def refine(self, encoded: Tensor) -> Tensor:
        """Return the embeddings (T, E) from the encoder's outputs (T, E), each frame independently.

        Raises:
            ValueError: the model has the published attention layout, in which frames are not independent.
        """
        if self.legacy_attention_layout:
            raise ValueError('legacy_attention_layout is True: a frame depends on all of its recording, expected False')
        return self._mix(encoded, [len(encoded)])[0]

    def _mix(self, shared: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the mixed embeddings (frames, E) and the attention (frames, H) of concatenated recordings."""
        # Stack on dim 1: flattening then concatenates one frame's heads and never mixes frames.
        heads = torch.stack([head(shared) for head in self.head_models], dim=1)  # (frames, H, E)
        attention = self.attention_layer(self._attended(heads, lengths))  # (frames, H)
        mixed = (attention.unsqueeze(-1) * heads).sum(dim=1)  # (frames, H, 1) * (frames, H, E) -> (frames, E)
        return mixed, attention

    def _attended(self, heads: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the attention's input (frames, H * E) from the heads' outputs (frames, H, E)."""
        if not self.legacy_attention_layout:
            return heads.flatten(1)  # (frames, H * E)
        # The published code views a recording's (H, T, E) as (T, H * E): row t holds frames around H t, modulo T.
        return torch.cat([part.transpose(0, 1).reshape(len(part), -1) for part in heads.split(list(lengths))])

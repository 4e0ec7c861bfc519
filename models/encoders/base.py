"""Base class of encoders: recordings -> one embedding per frame, for whole recordings or as a stream."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from models.encoders.layers import DropNetwork, require_positive

DROP_LAYERS = (256, 1024, 512, 256)


class EncoderStream:
    """Stream over the frames of one recording; keeps only the past frames that later embeddings depend on.

    The concatenated outputs of :meth:`push` and :meth:`finish` equal the embeddings of the whole recording.
    """

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (m, E) that the next frames (n, ...) determine."""
        raise NotImplementedError

    def finish(self) -> Tensor | None:
        """Return the embeddings (m, E) that only the end of the recording determines; None if there are no such."""
        return None

    def state(self) -> tuple[Tensor, ...]:
        """Return what is kept between frames, after at least one frame; zeros of the same shapes begin a recording.

        Raises:
            ValueError: the stream does not offer its state.
        """
        raise ValueError(f'a {type(self).__name__} does not offer its state')

    def resume(self, state: tuple[Tensor, ...]) -> None:
        """Continue from a state that :meth:`state` returned, or from zeros."""
        raise ValueError(f'a {type(self).__name__} does not offer its state')


class FrameWiseStream(EncoderStream):
    """Stream of an encoder that reads each frame independently, so that no past frames are kept.

    Args:
        encode: function from frames (n, ...) to embeddings (n, E).
    """

    def __init__(self, encode: Callable[[Tensor], Tensor]) -> None:
        self._encode = encode

    def push(self, frames: Tensor) -> Tensor:
        """Return the embeddings (n, E) of the next frames (n, ...)."""
        return self._encode(frames)

    def state(self) -> tuple[Tensor, ...]:
        """Return (), as nothing is kept."""
        return ()

    def resume(self, state: tuple[Tensor, ...]) -> None:
        """Do nothing, as nothing is kept."""


class Encoder(nn.Module):
    """Base class of the encoders: outputs as a dict, and the optional drop network.

    A new encoder implements :meth:`embed` and, to run as a stream, :meth:`stream`; add it to ``ENCODERS`` in
    ``configs/choices.py``.

    Args:
        output_dimensions: E.
        input_width: D of the features or C of the frames.
        dropping: True to have a drop network.
        drop_layers: sizes of the drop network's hidden layers.

    Attributes:
        output_dimensions: E.
        lookahead: number of frames after the current frame that its embedding depends on.
        input_axes: axes of a recording, 'TD' for features or 'TCHW' for frames.
        has_causal_form: True if the constructor takes ``causal``; the other encoders never look ahead.
        keeps_features: True if embeddings are the features, so that E is D and there is nothing to train.

    Raises:
        ValueError: a size is below 1.
    """

    lookahead = 0
    input_axes: ClassVar[str] = 'TD'
    has_causal_form: ClassVar[bool] = False
    keeps_features: ClassVar[bool] = False

    def __init__(self, output_dimensions: int, input_width: int, *, dropping: bool,
                 drop_layers: Sequence[int]) -> None:
        super().__init__()
        require_positive(output_dimensions=output_dimensions, input_width=input_width)
        self.output_dimensions, self.input_width, self.dropping = output_dimensions, input_width, dropping
        if dropping:
            self.dropout = DropNetwork(output_dimensions, drop_layers)

    def embed(self, videos: Sequence) -> list[Tensor]:
        """Return the embeddings (T_i, E) of videos (T_i, ...)."""
        raise NotImplementedError

    def stream(self) -> EncoderStream:
        """Return a stream of this encoder, at the start of a recording.

        Raises:
            ValueError: the encoder needs whole recordings.
        """
        raise ValueError(f'a {type(self).__name__} has no stream, it needs whole recordings')

    def forward(self, videos: Sequence) -> dict[str, list[Tensor]]:
        """Embed videos.

        Args:
            videos: recordings of one task, (T_i, D) or (T_i, C, H, W).

        Returns:
            'outputs': [(T_i, E)], and with ``dropping`` 'dropouts': [(E + 1,)].

        Raises:
            ValueError: there is no recording, or a recording has a wrong ndim or feature dimension, or no frames.
        """
        self._check(videos)
        result = {'outputs': self.embed(videos)}
        if self.dropping:
            result['dropouts'] = self.dropout(result['outputs'])
        return result

    def _check(self, videos: Sequence) -> None:
        if len(videos) == 0:
            raise ValueError('videos is empty, expected at least one recording')
        for index, video in enumerate(videos):
            if video.ndim != len(self.input_axes) or video.shape[1] != self.input_width or len(video) == 0:
                axes = ', '.join(self.input_axes)
                raise ValueError(f'video {index} has shape {tuple(video.shape)}, expected ({axes}) with T >= 1 and '
                                 f'{self.input_axes[1]} = {self.input_width}')

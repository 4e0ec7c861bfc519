"""What the settings and the command line know of each encoder; its class is in ``models/encoders/__init__.py``."""

from typing import NamedTuple


class EncoderEntry(NamedTuple):
    """An encoder among the settings.

    Attributes:
        flags: spellings of its option.
        help: what it is, for ``--help``.
        section: its arguments, a section of CONFIG.BASEARCH.
        input_key: the argument that is filled in from the files: D of the features or C of the frames.
    """

    flags: tuple[str, ...]
    help: str
    section: str
    input_key: str = 'input_dimensions'

    @property
    def input_setting(self) -> str:
        """Dotted key of the argument that is filled in from the files."""
        return f'BASEARCH.{self.section}.{self.input_key}'


# Name, as in BASEARCH.ARCHITECTURE -> entry.
ENCODER_ENTRIES = {
    'temporal_stacking': EncoderEntry(('--tstack', '--temporal_stacking'), 'convolutions over time',
                                      'TEMPORAL_STACKING_ARCH'),
    'naive': EncoderEntry(('--naive',), 'a perceptron, frame by frame', 'NAIVE_ARCH'),
    'resnet50': EncoderEntry(('--resnet50', '--rnet50'), 'convolutions over frames (T, C, H, W)', 'Resnet50_ARCH',
                             'in_size'),
    'identity': EncoderEntry(('--identity',), 'the features themselves', 'IDENTITY_ARCH'),
}

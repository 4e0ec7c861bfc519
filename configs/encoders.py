"""The table of encoders: one entry each. Their options, settings and classes derive from it."""

from dataclasses import dataclass

from configs.setting import SIZE, SIZES, Setting


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder.

    Attributes:
        network: where its class is, 'module:name'.
        flags: spellings of its option.
        help: what it is.
        section: its section under CONFIG.BASEARCH.
        settings: the settings of the section, with names relative to it; the class takes them as keywords.
        input_key: the setting that is filled in from the files: D of the features or C of the frames.
    """

    network: str
    flags: tuple[str, ...]
    help: str
    section: str
    settings: tuple[Setting, ...]
    input_key: str = 'input_dimensions'

    @property
    def input_setting(self) -> str:
        """Dotted name of the setting that is filled in from the files."""
        return f'BASEARCH.{self.section}.{self.input_key}'


FEATURE_DIM = Setting('input_dimensions', None, SIZE, 'D, dimension of a feature; null: read from the files')
# Name, as in BASEARCH.ARCHITECTURE -> entry.
ENCODER_ENTRIES = {
    'temporal_stacking': EncoderEntry(
        'models.encoders.stacking:StackingEncoder', ('--tstack', '--temporal_stacking'), 'convolutions over time',
        'TEMPORAL_STACKING_ARCH', (
            Setting('temporal_depth', 2, SIZE, 'kernel of the first convolution, frames'),
            Setting('conv_num_channels', 256, SIZE, 'channels of the first convolution'), FEATURE_DIM)),
    'naive': EncoderEntry(
        'models.encoders.naive:NaiveEncoder', ('--naive',), 'a perceptron, frame by frame', 'NAIVE_ARCH', (
            Setting('layers', [1024, 512, 512, 256], SIZES, 'dimensions of the hidden layers'), FEATURE_DIM)),
    'resnet50': EncoderEntry(
        'models.encoders.resnet:Resnet50Encoder', ('--resnet50', '--rnet50'), 'convolutions over frames (T, C, H, W)',
        'Resnet50_ARCH', (
            Setting('temporal_depth', 2, SIZE, 'frames in a window, which ends with the current frame'),
            Setting('in_size', None, SIZE, 'C, channels of a frame; null: read from the files')), 'in_size'),
    'identity': EncoderEntry(
        'models.encoders.identity:IdentityEncoder', ('--identity',), 'the features themselves', 'IDENTITY_ARCH',
        (FEATURE_DIM,)),
}

"""The choices of a run: alignment losses, encoders, progress heads, and datasets with published settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from configs.setting import BOUNDED, FRACTION, POSITIVE, SIZE, SIZES, Setting, at_least, between, one_of


@dataclass(frozen=True)
class Loss:
    """An alignment loss.

    Attributes:
        flags: spellings of its option.
        help: short description.
        function: address 'module:name'; the function takes the embeddings, and 'dropouts', 'epoch' or 'global_step' if
            it has arguments with these names.
        section: section of CONFIG whose settings are keyword arguments of the function.
        settings: settings of the section, with names relative to it.
    """

    flags: tuple[str, ...]
    help: str
    function: str
    section: str
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder.

    Attributes:
        flags: spellings of its option.
        help: short description.
        cls: address of its class, 'module:name'.
        section: section of CONFIG.BASEARCH whose settings are keyword arguments of the class.
        settings: settings of the section, with names relative to it.
        input_key: setting that is filled in from the files: D of the features or C of the frames.
    """

    flags: tuple[str, ...]
    help: str
    cls: str
    section: str
    settings: tuple[Setting, ...]
    input_key: str = 'input_dimensions'

    @property
    def input_setting(self) -> str:
        """Dotted name of the setting that is filled in from the files."""
        return f'BASEARCH.{self.section}.{self.input_key}'


@dataclass(frozen=True)
class HeadChoice:
    """A progress head.

    Attributes:
        help: short description.
        cls: address of its class, 'module:name'.
    """

    help: str
    cls: str


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset with its own option.

    Attributes:
        flags: spellings of its option.
        presets: dotted names of settings -> values published for the dataset; they replace the defaults.
        part_of: name of the dataset that contains it, and suffix of its tasks; None if it has its own files.
    """

    flags: tuple[str, ...]
    presets: Mapping[str, object] = field(default_factory=dict)
    part_of: tuple[str, str] | None = None

    @property
    def help(self) -> str:
        """Short description if it is part of another dataset, otherwise ''."""
        return f'tasks of {self.part_of[0]} whose names end in {self.part_of[1]}' if self.part_of else ''


WINDOW = Setting('window', 0.1, POSITIVE, 'frames close in time for the contrastive term: a fraction of the recording '
                 'below 1, otherwise frames')
REDUCTION = Setting('reduction', 'mean', one_of('mean', 'sum'), "'mean': about 1 for a new network, whatever the "
                    "length; 'sum': as published")
# The keys are those of LOSS_TYPE in published configurations, hence their mixed case.
LOSSES = {
    'GTCC': Loss(
        ('--gtcc', '--GTCC'), 'cycle consistency with several modes; frames may be dropped', 'losses.gtcc:GTCC_loss',
        'GTCC_PARAMS', (
            Setting('n_components', 15, SIZE, 'K, Gaussians in a mixture'),
            # A narrow window excludes frames matched to the wrong step; it helps only if steps keep their order.
            Setting('delta', 1.0, FRACTION, 'window of the cycle back as a fraction of the sequence; a narrow one, '
                    'such as the published 0.2, suits recordings whose steps keep one order'),
            Setting('gamma', 0.95, FRACTION, 'floor of the drop weight falls as gamma^(epoch + 1); 1 drops nothing'),
            Setting('softmax_temp', 0.1, POSITIVE, 'temperature of the soft nearest neighbor'),
            Setting('alignment_variance', 0.0, at_least(0.0), 'weight of log sigma'),
            Setting('max_gmm_iters', 20, between(1, 10_000), 'iterations of expectation maximization'),
            Setting('max_comparisons', 20, between(1, 100_000), 'frames sampled per pair'), REDUCTION)),
    'tcc': Loss(
        ('--tcc', '--TCC'), 'cycle consistency', 'losses.tcc:TCC_loss', 'TCC_ORIGINAL_PARAMS', (
            Setting('softmax_temp', 0.1, POSITIVE, 'temperature of the soft nearest neighbor'),
            Setting('alignment_variance', 0.001, at_least(0.0), 'weight of log variance'), REDUCTION)),
    'LAV': Loss(
        ('--lav', '--LAV'), 'soft dynamic time warping', 'losses.lav:LAV_loss', 'LAV_PARAMS', (
            Setting('min_temp', 0.1, POSITIVE, 'smoothing of soft-DTW in squared distances'),
            Setting('cr_coefficient', 1.0, at_least(0.0), 'weight of the contrastive term'), WINDOW, REDUCTION)),
    'VAVA': Loss(
        ('--vava', '--VAVA'), 'optimal transport that keeps the order', 'losses.vava:VAVA_loss', 'VAVA_PARAMS', (
            Setting('maxIter', 20, between(2, 10_000), 'largest number of Sinkhorn iterations'),
            Setting('lambda1', 1.0, at_least(0.0), 'weight of the inverse difference moment'),
            Setting('lambda2', 0.1, POSITIVE, 'weight of the divergence from the prior'),
            Setting('gamma', 100.0, at_least(0.0), 'weight of the contrastive terms'),
            Setting('zeta', 0.5, POSITIVE, 'cost of the virtual frame, a squared distance'),
            Setting('delta', 0.6, BOUNDED, 'std of the prior in frames'), WINDOW, REDUCTION)),
}

FEATURE_DIM = Setting('input_dimensions', None, SIZE, 'D, dimension of a feature; null: read from the files')
ENCODERS = {
    'temporal_stacking': EncoderChoice(
        ('--tstack', '--temporal_stacking'), 'convolutions over time', 'models.encoders.stacking:StackingEncoder',
        'TEMPORAL_STACKING_ARCH', (
            Setting('temporal_depth', 2, SIZE, 'kernel of the first convolution, frames'),
            Setting('conv_num_channels', 256, SIZE, 'channels of the first convolution'), FEATURE_DIM)),
    'naive': EncoderChoice(
        ('--naive',), 'a perceptron, frame by frame', 'models.encoders.naive:NaiveEncoder', 'NAIVE_ARCH', (
            Setting('layers', [1024, 512, 512, 256], SIZES, 'dimensions of the hidden layers'), FEATURE_DIM)),
    'recurrent': EncoderChoice(
        ('--gru',), 'a recurrent unit over the recording so far', 'models.encoders.recurrent:RecurrentEncoder',
        'RECURRENT_ARCH', (
            Setting('hidden_dim', 128, SIZE, 'dimension of the state'), FEATURE_DIM)),
    'short_memory': EncoderChoice(
        ('--short_memory',), 'features plus convolutions over the last frames; starts as the features',
        'models.encoders.short_memory:ShortMemoryEncoder', 'SHORT_MEMORY_ARCH', (
            Setting('hidden_dim', 128, SIZE, 'channels of the convolutions'),
            Setting('layers', 3, between(1, 16), 'convolutions; n of them see 2^(n + 1) - 2 earlier frames'),
            FEATURE_DIM)),
    'resnet50': EncoderChoice(
        ('--resnet50', '--rnet50'), 'convolutions over frames (T, C, H, W)', 'models.encoders.resnet:Resnet50Encoder',
        'Resnet50_ARCH', (
            Setting('temporal_depth', 2, SIZE, 'frames in a window, which ends with the current frame'),
            Setting('in_size', None, SIZE, 'C, channels of a frame; null: read from the files')), 'in_size'),
    'identity': EncoderChoice(('--identity',), 'the features themselves', 'models.encoders.identity:IdentityEncoder',
                              'IDENTITY_ARCH', (FEATURE_DIM,)),
}

HEADS = {
    'gru': HeadChoice("the plan's head", 'models.heads.recurrent:ProgressHead'),
    'hsmm': HeadChoice('a filter over steps and durations, fitted in closed form', 'models.heads.hsmm:HSMMHead'),
}

LONG_ACTIVITY = {'GTCC_PARAMS.delta': 0.2}
# Each recording is one short action: few modes to align, half a sequence as window, no frames to drop.
SHORT_ACTION = {'GTCC_PARAMS.n_components': 5, 'GTCC_PARAMS.delta': 0.5, 'GTCC_PARAMS.gamma': 1.0}
DATASETS = {
    'egoprocel': PublishedDataset(('--egoprocel', '--ego'), LONG_ACTIVITY),
    'cmu': PublishedDataset(('--cmu',), LONG_ACTIVITY, part_of=('egoprocel', '.cmu')),
    'egtea': PublishedDataset(('--egtea',), LONG_ACTIVITY, part_of=('egoprocel', '.egtea')),
    'penn-action': PublishedDataset(('--penn_action', '--penn'), SHORT_ACTION),
    'pouring': PublishedDataset(('--pouring', '--pour'), SHORT_ACTION),
    'coin': PublishedDataset(('--coin',), SHORT_ACTION),
}

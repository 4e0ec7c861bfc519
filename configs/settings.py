"""The table of all settings. CONFIG, the command line, the checks and docs/configuration.md are derived from it.

To add a setting, add an entry; ``make docs`` then updates docs/configuration.md.
"""

from collections.abc import Iterator
from itertools import chain

from configs.choices import DATASETS, ENCODERS, HEADS, LOSSES
from configs.setting import (
    BOOL,
    BOUNDED,
    FOLDER_NAME,
    GROUP_REGEX,
    LABELS,
    LIST,
    POSITIVE,
    RUN_FOLDER,
    SEED,
    SIZE,
    SIZES,
    SPLIT,
    TEXT,
    TIME_SCALE,
    Kind,
    Option,
    Setting,
    at_least,
    between,
    one_of,
    option,
    section,
)

SWITCH, START, END = (f'PROGRESS_LOSS.lambda_curriculum.{key}' for key in ('enabled', 'start', 'end'))
WEIGHT = 'weight of the progress loss'


def _encoder_options() -> tuple[Option, ...]:
    return tuple(Option(encoder.flags, encoder.help, value=name, one_of='encoder')
                 for name, encoder in ENCODERS.items())


def _loss_switches() -> Iterator[Setting]:
    """Yield the settings LOSS_TYPE.*; the option of each loss disables the other losses."""
    for name, loss in LOSSES.items():
        # A config file may have chosen another loss, which the option must replace.
        others = {f'LOSS_TYPE.{other}': False for other in LOSSES if other != name}
        yield Setting(f'LOSS_TYPE.{name}', False, BOOL, loss.help,
                      option(*loss.flags, one_of='alignment loss', also=others))


def _dataset_options() -> tuple[Option, ...]:
    published = (Option(dataset.flags, dataset.help or f'{name}.json under $JSON_DPATH', value=name, one_of='dataset')
                 for name, dataset in DATASETS.items())
    return (*published, *option('--dataset', help='any NAME with NAME.json under $JSON_DPATH', metavar='NAME',
                                one_of='dataset'))


# Heading -> its settings, in the order of CONFIG.
TABLE: dict[str, tuple[Setting, ...]] = {
    'What is run': (
        Setting('VERSION', '1', Kind('text or a whole number', (str, int)), 'name of the run in its folder, e.g. 1',
                option('VERSION')),
        Setting('EXPERIMENTNAME', None, TEXT, 'name of the run folder; null: from VERSION, loss, dataset, message'),
        Setting('MULTITASK', True, BOOL, 'one model over all tasks of the dataset; filled in by the training program'),
        Setting('SEED', 0, SEED, 'seeds every draw; on the CPU the same seed gives the same numbers', option('--seed')),
        Setting('DEVICE', 'auto', TEXT, "'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', ...",
                option('--device'), changes_numbers=False),
        Setting('DEBUG', False, BOOL, 'verbose log', option('--debug'), changes_numbers=False),
        Setting('TENSORBOARD', True, BOOL, "curves for TensorBoard in the run's folder, besides losses.csv",
                option('--no_tensorboard', help='write no curves for TensorBoard'), changes_numbers=False),
        Setting('DETECT_ANOMALY', False, BOOL, 'end the run at the first value that is not finite, and say where; slow',
                option('--detect_anomaly'), changes_numbers=False)),
    'Data': (
        Setting('DATASET_NAME', None, FOLDER_NAME, "NAME of NAME.json; 'cmu' and 'egtea' are tasks of egoprocel",
                _dataset_options()),
        Setting('DATAFOLDER', None, TEXT, "folder of the recordings' .npy files; filled in, from $DATASET_PATH",
                changes_numbers=False),
        Setting('BACKGROUND_LABELS', ['0', 'SIL', 'background'], LABELS, 'labels of segments that are not actions'),
        Setting('TIME_SCALE', 'auto', TIME_SCALE, "'auto', 'median', or annotation frames per feature frame"),
        Setting('TRAIN_SPLIT', [0.75, 0.10, 0.15], SPLIT, 'fractions of train, val and test recordings per task'),
        Setting('GROUP_REGEX', None, GROUP_REGEX, "finds each recording's group (who performs it) in its handle: the "
                'first group; groups stay together in a split that is drawn', option('--group_regex', metavar='RE')),
        Setting('SKIP_RATE', 1, at_least(1), 'keeps every n-th feature frame; times follow'),
        Setting('MAX_FRAMES', None, at_least(2), 'most frames used of a recording, evenly spaced; null (default): all',
                option('--max_frames', metavar='N')),
        Setting('STANDARDIZE_FEATURES', False, BOOL, "features are standardized with the training recordings' mean and "
                'std, which are stored with the run', option('--standardize_features')),
        Setting('LAZY_LOAD', True, BOOL, 'false keeps features in memory once read; frames always stay in their files',
                changes_numbers=False),
        Setting('CHECK_VALUES_GB', 4.0, at_least(0.0), 'smaller datasets are checked at the start, others when read'),
        Setting('WORKERS', 0, between(0, 256), 'loader processes that read ahead; 0 reads one batch ahead in a thread',
                option('--workers'), changes_numbers=False)),
    'Network': (
        Setting('OUTPUT_DIMENSIONALITY', 128, SIZE, 'E, dimension of an embedding',
                option('-od', '--output_dimensions')),
        Setting('CAUSAL', False, BOOL, 'the StackingEncoder sees no frame ahead; the other encoders never do'),
        Setting('BASEARCH.ARCHITECTURE', None, one_of(*ENCODERS), 'encoder', _encoder_options()),
        *chain(*(section(f'BASEARCH.{encoder.section}', *encoder.settings) for encoder in ENCODERS.values())),
        *section(
            'ARCHITECTURE',
            Setting('MCN', False, BOOL, 'multi-head cross-task network', option('--mcn')),
            Setting('num_heads', None, between(1, 4096), 'heads of the network; null: one per task'),
            Setting('attn_layers', [512, 1024, 512, 512], SIZES, 'dimensions of the attention network'),
            Setting('drop_layers', [256, 1024, 512, 256], SIZES, 'dimensions of the drop network')),
        Setting('INIT_FROM', None, RUN_FOLDER, 'run whose best alignment checkpoint is the start, except for the head',
                option('--init_from', metavar='RUN')),
        Setting('FREEZE_ENCODER', False, BOOL, 'train the progress head only', option('--freeze_encoder'))),
    'Alignment loss: one of these': (
        *_loss_switches(),
        Setting('ALIGNMENT_WEIGHT', 1.0, at_least(0.0), 'weight of the alignment loss; 0: progress alone, and '
                'none of the losses is needed'),
        *chain(*(section(loss.section, *loss.settings) for loss in LOSSES.values()))),
    'Progress head': section(
        'PROGRESS_LOSS',
        Setting('enabled', False, BOOL, 'train a progress head with the alignment loss', option('--progress')),
        Setting('coefficient', 0.1, at_least(0.0), 'lambda, weight of the progress loss, without curriculum',
                option('--progress_lambda', metavar='X', one_of=WEIGHT, also={SWITCH: False})),
        Setting('loss_type', 'l1', one_of('l1', 'l2'), 'error of the predicted progress', option('--progress_loss')),
        Setting('min_segment_len', 3, at_least(1), "shortest sampled segment in frames ('segment' sampling)"),
        Setting('hidden_dim', 64, SIZE, "dimension of the head's hidden state"),
        Setting('use_gru', True, BOOL, 'GRU over the segment; false: mean pooling',
                option('--progress_pooling', help='how the head reads an action', words={'gru': True, 'mean': False})),
        Setting('lambda_curriculum.enabled', False, BOOL, 'lambda rises linearly over the epochs',
                option('--progress_curriculum', metavar=('START', 'END'), one_of=WEIGHT, takes=(START, END))),
        Setting('lambda_curriculum.start', 0.01, at_least(0.0), 'lambda in the first epoch'),
        Setting('lambda_curriculum.end', 0.5, at_least(0.0), 'lambda in the last epoch'),
        Setting('samples_per_video', 8, between(1, 10_000), 'segments drawn per recording and optimizer step'),
        Setting('sampling', 'segment', one_of('segment', 'prefix', 'dense'),
                'what the head is trained on: part of an action, its beginning, or every frame of it',
                option('--progress_sampling')),
        Setting('normalize_embeddings', True, BOOL, 'LayerNorm without parameters before the head'),
        Setting('detach_embeddings', False, BOOL, 'true: the encoder does not learn from progress'),
        Setting('head_learning_rate', None, BOUNDED, "learning rate of the head; null: the encoder's"),
        # 'hsmm' counts from an action's first frame, hence 'dense' sampling.
        Setting('head', 'gru', one_of(*HEADS), '; '.join(f'{name!r}: {head.help}' for name, head in HEADS.items())),
        Setting('steps', None, LIST, "[task, label] of each step that 'hsmm' knows; filled in from the annotations"),
        Setting('condition_on_step', False, BOOL, "give the step's label to the head 'hsmm', in evaluation, too",
                option('--condition_on_step'))),
    'Optimization': (
        Setting('BATCH_SIZE', 2, at_least(1), 'recordings of one task in a batch', option('-bs', '--batch_size')),
        Setting('LEARNING_RATE', 1e-4, BOUNDED, 'learning rate of Adam', option('-lr', '--learning_rate')),
        # Weights, losses and progress head stay float32.
        Setting('AMP', False, BOOL, 'train the network in bf16, faster on processors that support it', option('--amp')),
        Setting('NUM_EPOCHS', 50, between(1, 1_000_000), 'passes over the training recordings',
                option('-ep', '--epochs')),
        Setting('LEARNING_RATE_SCHEDULE', 'constant', one_of('constant', 'cosine'),
                "'cosine' falls to 0 along half a cosine over the epochs"),
        Setting('WEIGHT_DECAY', 0.0, at_least(0.0), 'weight decay of Adam, decoupled from the gradient (AdamW)'),
        *section(
            'AUGMENTATION',
            Setting('scale', 0.0, at_least(0.0), "std of each dimension's factor"),
            Setting('shift', 0.0, at_least(0.0), "std of each dimension's offset, in units of its std in a recording"),
            Setting('noise', 0.0, at_least(0.0), "std of every entry's noise, in the same units"),
            Setting('time_warp', 0.0, at_least(0.0), 'std of the log duration of the recording, and of each segment')),
        Setting('CLIP_GRAD_NORM', 1.0, POSITIVE, 'largest gradient norm of the encoder'),
        Setting('HEAD_CLIP_GRAD_NORM', 1.0, POSITIVE, 'largest gradient norm of the progress head'),
        Setting('MAX_SKIPPED_STEPS', 20, at_least(0), 'most optimizer steps skipped, for a loss that is not finite')),
    'Evaluation': (
        Setting('EVAL_PLOTFOLDER', 'EVAL', FOLDER_NAME, 'folder in the run folder for tables and pictures'),),
}
# Section -> common description of its settings.
SECTIONS = {'AUGMENTATION': 'augmentation of features in training, drawn for each recording and optimizer step'}

SETTINGS = {setting.name: setting for settings in TABLE.values() for setting in settings}

"""Every setting of the project with its default, unit and range. A run stores its resolved copy as config.json.

Nothing here is changed in place: ``configs.entry_config`` builds a run's configuration from a copy.
"""

from easydict import EasyDict

CONFIG = EasyDict()

############################
## What is run
CONFIG.VERSION = '1'  # name of the run in its folder; letters, digits, '.', '_' and '-'
CONFIG.EXPERIMENTNAME = None  # name of the run folder; None: put together from version, loss, dataset and message
CONFIG.MULTITASK = True  # one model over all tasks of the dataset; filled in by the program that trains
CONFIG.SEED = 0  # seeds every draw; on the CPU the same seed gives the same numbers
CONFIG.DEVICE = 'auto'  # 'auto' (a GPU where there is one), 'cpu', 'cuda', 'cuda:1', ...
CONFIG.DEBUG = False  # verbose log
CONFIG.TENSORBOARD = True  # curves for TensorBoard in the run's folder, beside losses.csv
CONFIG.DETECT_ANOMALY = False  # ends the run where a value first stops being finite, and tells where; slow

############################
## Data
CONFIG.DATASET_NAME = None  # NAME of NAME.json; 'cmu' and 'egtea' are the tasks of egoprocel with that suffix
CONFIG.DATAFOLDER = None  # folder of the recordings' .npy files; filled in, from $DATASET_PATH
CONFIG.BACKGROUND_LABELS = ['0', 'SIL', 'background']  # labels of segments that are no action
CONFIG.TIME_SCALE = 'auto'  # 'auto', 'median', or annotation frames per feature frame (> 0)
CONFIG.TRAIN_SPLIT = [0.75, 0.10, 0.15]  # shares of train, val and test recordings per task; they sum to 1
CONFIG.SKIP_RATE = 1  # keeps every n-th feature frame (>= 1), times following
CONFIG.MAX_FRAMES = None  # frames of a recording used at most, evenly chosen, times following; None: all
CONFIG.LAZY_LOAD = True  # False keeps features in memory once read; frames always stay memory-mapped
CONFIG.CHECK_VALUES_GB = 4.0  # values are checked at the start while they total less, else when first read
CONFIG.WORKERS = 0  # loader processes that read ahead; 0 reads one batch ahead in a background thread

############################
## Network
CONFIG.OUTPUT_DIMENSIONALITY = 128  # E, width of an embedding
CONFIG.CAUSAL = False  # the StackingEncoder sees no frame ahead; the other encoders never do
CONFIG.BASEARCH = EasyDict({
    'ARCHITECTURE': None,  # 'temporal_stacking', 'naive', 'resnet50' or 'identity' (the features themselves)
    'Resnet50_ARCH': {
        'temporal_depth': 2,  # frames in a window, which ends with the current frame
        'in_size': None,  # C, channels of a frame; None: read from the files
    },
    'TEMPORAL_STACKING_ARCH': {
        'temporal_depth': 2,  # kernel of the first convolution, frames
        'conv_num_channels': 256,  # channels of the first convolution
        'input_dimensions': None,  # D, width of a feature; None: read from the files
    },
    'NAIVE_ARCH': {
        'layers': [1024, 512, 512, 256],  # widths of the hidden layers
        'input_dimensions': None,  # D, width of a feature; None: read from the files
    },
    'IDENTITY_ARCH': {
        'input_dimensions': None,  # D, width of a feature and of an embedding; None: read from the files
    },
})
CONFIG.ARCHITECTURE = EasyDict({
    'MCN': False,  # multi-head cross-task network
    'num_heads': None,  # heads of the network; None: one per task
    'attn_layers': [512, 1024, 512, 512],  # widths of the attention network
    'drop_layers': [256, 1024, 512, 256],  # widths of the drop network
})

CONFIG.INIT_FROM = None  # run whose best alignment checkpoint gives the start of all but the progress head
CONFIG.FREEZE_ENCODER = False  # train the progress head alone

############################
## Alignment loss: one of these
CONFIG.LOSS_TYPE = EasyDict({
    'GTCC': False,  # cycle consistency with several modes, and frames that may be dropped
    'tcc': False,  # cycle consistency
    'LAV': False,  # soft dynamic time warping
    'VAVA': False,  # optimal transport that keeps the order
})
CONFIG.TCC_ORIGINAL_PARAMS = EasyDict({
    'softmax_temp': 0.1,  # temperature of the soft nearest neighbour, > 0
    'alignment_variance': 0.001,  # weight of log variance, >= 0
})
CONFIG.GTCC_PARAMS = EasyDict({
    'n_components': 15,  # K, Gaussians in a mixture, >= 1
    # Window of the cycle back as a share of the sequence, in (0, 1]. 0.2 was published for egoprocel, cmu and egtea,
    # and holds there. A narrow window spares a frame that finds the wrong step: on the demo dataset, where steps vary
    # in order, training with 0.2 makes the alignment no better.
    'delta': 1.0,
    'gamma': 0.95,  # floor of the drop weight falls as gamma^(epoch + 1), in (0, 1]; 1 drops nothing
    'softmax_temp': 0.1,  # temperature of the soft nearest neighbour, > 0
    'alignment_variance': 0.0,  # weight of log sigma, >= 0
    'max_gmm_iters': 20,  # expectation-maximisation steps, >= 1
    'max_comparisons': 20,  # frames sampled per pair, >= 1
})
CONFIG.LAV_PARAMS = EasyDict({
    'min_temp': 0.1,  # smoothing of soft-DTW in squared distances, > 0
    'cr_coefficient': 1.0,  # weight of the contrastive term, >= 0
})
CONFIG.VAVA_PARAMS = EasyDict({
    'maxIter': 20,  # Sinkhorn steps at most, >= 2
    'lambda1': 1.0,  # weight of the inverse difference moment, >= 0
    'lambda2': 0.1,  # weight of the divergence from the prior, > 0
    'gamma': 100.0,  # weight of the contrastive terms, >= 0
    'zeta': 0.5,  # cost of the virtual frame, a squared distance, > 0
    'delta': 0.6,  # deviation of the prior in frames, > 0
})

############################
## Progress loss
CONFIG.PROGRESS_LOSS = EasyDict({
    'enabled': False,  # train a learnable progress head beside the alignment loss
    'coefficient': 0.1,  # lambda, weight of the progress loss where the curriculum is off, >= 0
    'loss_type': 'l1',  # 'l1' or 'l2'
    'min_segment_len': 3,  # frames in a sampled segment at least ('segment' sampling), >= 1
    # 'gru': the plan's head. 'steps': recognizes the step, knows how long it lasts, and corrects by content; needs
    # 'dense' sampling, see docs/progress_head.md.
    'head': 'gru',
    'hidden_dim': 64,  # width of the head's hidden state
    'use_gru': True,  # GRU over the segment (True) or mean pooling (False)
    'lambda_curriculum': {
        'enabled': False,  # lambda rises linearly over the epochs
        'start': 0.01,  # lambda in the first epoch, >= 0
        'end': 0.5,  # lambda in the last epoch, >= 0
    },
    'samples_per_video': 8,  # segments drawn per recording and step, >= 1
    'sampling': 'segment',  # 'segment', 'prefix' (from the action's start) or 'dense' (every frame of an action)
    'normalize_embeddings': True,  # LayerNorm without parameters before the head
    'detach_embeddings': False,  # True: the encoder does not learn from progress
    'head_learning_rate': None,  # learning rate of the head; None: the encoder's
    'steps': None,  # [task, label] of every step that the head 'steps' knows; filled in from the training recordings
    # Weight of the cross-entropy of the recognised step in the progress loss, >= 0; brought 0.028 for 0.040 on the demo
    # dataset, and an area error of 0.029 for 0.113.
    'step_coefficient': 0.5,
    'projection_dim': 24,  # width of the projection that its GRU reads, >= 1
    # Share of its inputs and states that are dropped in training, in [0, 1); brought 0.028 for 0.030 on the demo
    # dataset.
    'dropout': 0.2,
    # A plain head beside it, weighed as validation recordings tell: 0 of it where content misleads on new people, all
    # of it where content tells progress. Without validation recordings there is none. Brought MAE 0.028 for 0.083 on
    # the demo dataset, 0.130 for 0.135 on cook_opti_left.
    'content_head': False,
    'content_correction': True,  # False: the duration of the recognised step alone
    'condition_on_step': False,  # the step's label is given to it, in training and in evaluation
})

############################
## Optimisation
CONFIG.BATCH_SIZE = 2  # recordings of one task in a batch, >= 1
CONFIG.LEARNING_RATE = 1e-4  # of Adam, > 0
CONFIG.AMP = False  # training computes the network in bf16; weights, losses and progress head stay float32
CONFIG.NUM_EPOCHS = 50  # passes over the training recordings, >= 1
# 'constant', or 'cosine': falls to 0 along half a cosine over the epochs; brought 0.028 for 0.034 on the demo dataset.
CONFIG.LEARNING_RATE_SCHEDULE = 'constant'
CONFIG.WEIGHT_DECAY = 0.0  # of Adam, decoupled from the gradient (AdamW), >= 0
CONFIG.AUGMENTATION = EasyDict({  # of features in training, by a draw for each recording and step
    'scale': 0.0,  # deviation of each dimension's factor, >= 0
    'shift': 0.0,  # deviation of each dimension's offset, in units of its deviation within the recording, >= 0
    'noise': 0.0,  # deviation of every entry's noise, in the same units, >= 0
    # Deviation of the log of the recording's duration, and of each segment's besides, >= 0. 0.2 brought 0.026 for 0.028
    # on the demo dataset, and cost 0.094 for 0.089 on folds of cook_opti_left.
    'time_warp': 0.0,
})
CONFIG.CLIP_GRAD_NORM = 1.0  # largest gradient norm of the encoder, > 0
CONFIG.HEAD_CLIP_GRAD_NORM = 1.0  # largest gradient norm of the progress head, > 0
CONFIG.MAX_SKIPPED_STEPS = 20  # steps with a non-finite loss or gradient before the run ends, >= 0

############################
## Evaluation
CONFIG.EVAL_PLOTFOLDER = 'EVAL'  # folder in the run folder that takes tables and pictures

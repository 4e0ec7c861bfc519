from prediction.frame_progress import FrameProgress
from prediction.live import ProgressStream, stream
from prediction.prediction import Prediction
from prediction.recording import predict
from prediction.segments import read_segments
from prediction.trackers import ActionMarker
from prediction.trained_run import TrainedRun, load_run

__all__ = ['ActionMarker', 'FrameProgress', 'Prediction', 'ProgressStream', 'TrainedRun', 'load_run', 'predict',
           'read_segments', 'stream']

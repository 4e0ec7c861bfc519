from prediction.live import ActionMarker, ProgressStream, stream
from prediction.recording import Prediction, predict
from prediction.segments import read_segments
from prediction.trained_run import TrainedRun, load_run

__all__ = ['ActionMarker', 'Prediction', 'ProgressStream', 'TrainedRun', 'load_run', 'predict', 'read_segments',
           'stream']

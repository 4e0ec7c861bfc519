"""Print the prediction at every frame, as CSV: python example.py FEATURES.npy [FRAMES_PER_SECOND].

FEATURES.npy contains the features of a recording, a row per frame. Needs the files next to it, numpy, and onnxruntime.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

COLUMNS = ('frame', 'time_s', 'step', 'step_probability', 'progress', 'progress_low', 'progress_high', 'remaining_s',
           'overall', 'overall_low', 'overall_high', 'overall_remaining_s', 'next_step', 'unknown')


class Graph:
    """One of the networks of model.json, and its state within a recording."""

    def __init__(self, path: Path, description: dict) -> None:
        import onnxruntime
        self.session, self.description = onnxruntime.InferenceSession(path), description
        self.names = [output.name for output in self.session.get_outputs()]
        self.state = {state['name']: np.zeros(state['shape'], state['dtype']) for state in description['state']}

    def step(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs at the next frame."""
        results = self.session.run(self.names, {self.description['input']['name']: frame, **self.state})
        outputs = dict(zip(self.names, results, strict=True))
        self.state = {state['name']: outputs.pop(state['next']) for state in self.description['state']}
        return outputs


def predict(folder: Path, frames: np.ndarray, fps: float | None = None) -> Iterator[list]:
    """Yield a row for each frame that the model uses, with the values of COLUMNS."""
    model = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    graphs = [Graph(folder / description['file'], description) for description in model['graphs']]
    for number in range(0, len(frames), model['skip_rate']):
        value = frames[number].astype(np.float32)
        for graph in graphs:  # the first output of an encoder is the input of the filter
            outputs = graph.step(value)
            value = next(iter(outputs.values()))
        yield make_row(model, number, outputs, fps or model['fps'])


def make_row(model: dict, number: int, outputs: dict[str, np.ndarray], fps: float | None) -> list:
    """Return the values of COLUMNS at a frame."""
    def seconds(frames: float) -> float | None:
        return frames / fps if fps else None

    step, spacing = model['steps'][outputs['step']], model['skip_rate']
    low, progress, high = outputs['progress'].tolist()
    within = [progress, low, high, seconds(outputs['remaining'].item() * spacing)]
    low, overall, high = outputs['overall'].tolist()
    return [number, seconds(number), step, outputs['step_probability'].item(),
            *([None] * len(within) if step == 'background' else within), overall, low, high,
            seconds(outputs['overall_remaining'][1].item() * spacing), model['next_steps'][outputs['next_step']],
            str(outputs['unknown'].item()).lower()]


if __name__ == '__main__':
    writer = csv.writer(sys.stdout, lineterminator='\n')
    writer.writerow(COLUMNS)
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else None
    writer.writerows(predict(Path(__file__).parent, np.load(sys.argv[1]), rate))

"""Print the prediction at every frame as CSV: python example.py FEATURES.npy [FRAMES_PER_SECOND].

FEATURES.npy contains a recording, a row of features per frame. Needs the files next to it, numpy, and onnxruntime.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Graph:
    """One of the networks of model.json, and its state within a recording."""

    def __init__(self, path: Path, description: dict) -> None:
        import onnxruntime
        self.session, self.states = onnxruntime.InferenceSession(path), description['state']
        self.held = {state['name']: np.zeros(state['shape'], state['dtype']) for state in self.states}

    def step(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs at the next frame."""
        names = [output.name for output in self.session.get_outputs()]
        outputs = dict(zip(names, self.session.run(names, {'frame': frame, **self.held}), strict=True))
        self.held = {state['name']: outputs.pop(state['next']) for state in self.states}
        return outputs


def predict(folder: Path, frames: np.ndarray, fps: float | None = None) -> Iterator[dict]:
    """Yield the prediction at each frame that the model uses; NaN is unknown, or undefined in background."""
    model = json.loads((folder / 'model.json').read_text(encoding='utf-8'))
    graphs = [Graph(folder / graph['file'], graph) for graph in model['graphs']]
    fps = fps or model['fps'] or np.nan
    for number in range(0, len(frames), model['skip_rate']):
        value, seconds = frames[number].astype(np.float32), model['skip_rate'] / fps
        for graph in graphs:
            out = graph.step(value)
            value = out.get('embedding')  # an encoder's output is the filter's input
        step, (overall_low, overall, overall_high) = model['steps'][out['step']], out['overall']
        low, progress, high, remaining = (*out['progress'], out['remaining']) if step != 'background' else [np.nan] * 4
        yield {'frame': number, 'time_s': number / fps, 'step': step, 'step_probability': out['step_probability'],
               'progress': progress, 'progress_low': low, 'progress_high': high, 'remaining_s': remaining * seconds,
               'overall': overall, 'overall_low': overall_low, 'overall_high': overall_high,
               'overall_remaining_s': out['overall_remaining'][1] * seconds,
               'next_step': model['next_steps'][out['next_step']], 'unknown': str(out['unknown']).lower()}


if __name__ == '__main__':
    for count, row in enumerate(predict(Path(__file__).parent, np.load(sys.argv[1]), *map(float, sys.argv[2:]))):
        writer = csv.DictWriter(sys.stdout, row, lineterminator='\n')
        if count == 0:
            writer.writeheader()
        writer.writerow({name: '' if cell != cell else cell for name, cell in row.items()})

"""The sensors in compiled code: weighted evidence of a frame of a stream."""

import math
from typing import NamedTuple

import numpy as np

from models.heads.filter.compiled.compile import ONE, ZERO, Floats, Integers, clear, copy, part

HALF = np.float32(0.5)


class Sensors(NamedTuple):
    """Tables of the sensors of :class:`models.heads.filter.unsegmented.UnsegmentedFilter`."""

    offset: Floats  # (D,), see :class:`RecentFeatures`
    projection: Floats  # (d, D)
    averages: Floats  # (lags + windows, frames); the frames of a window, the newest last
    lags: int
    rates: Floats  # (C,), of the slow averages
    linear: Floats  # (dims + short dims + S, F)
    linear_bias: Floats
    projected: Floats  # (cosines + S + labels bins + K short bins, C + dims + short dims)
    projected_bias: Floats
    dims: int  # of the projection that cells and slow averages see
    bins: int
    cosines: Floats  # (S, cosines), weights of the classifier
    likelihood: Floats  # (S, S), see :class:`LogisticKinds`
    label_of: Integers  # (S,)
    between: Floats  # (bins + short bins, nodes)
    log_bins: Floats  # (bins + short bins,)
    weights: Floats  # (4,)
    lowest_label: np.float32
    lowest_cell: np.float32
    lowest_phase: np.float32


@part
def reduce(sensors: Sensors, embedding: Floats, reduced: Floats) -> None:
    """Fill the reduced embedding (d,) of an embedding (D,); see :meth:`RecentFeatures.reduce`."""
    for row in range(len(reduced)):
        total = ZERO
        for column in range(len(embedding)):
            total += sensors.projection[row, column] * (embedding[column] - sensors.offset[column])
        reduced[row] = total


@part
def _describe(window: Floats, sensors: Sensors, features: Floats) -> None:
    """Fill the features (F,) of the last of the frames (frames, d); see :meth:`RecentFeatures.describe`."""
    frames, dims = window.shape
    newest, lags = window[frames - 1], sensors.lags
    clear(features)
    copy(newest, features[:dims])
    rows = len(sensors.averages)
    for row in range(rows):
        mean = features[(1 + row) * dims:(2 + row) * dims]
        for age in range(frames):
            weight = sensors.averages[row, age]
            if weight != ZERO:
                for column in range(dims):
                    mean[column] += weight * (window[age, column] - newest[column])
        if row >= lags:
            first = (1 + rows + row - lags) * dims
            std = features[first:first + dims]
            for age in range(frames):
                weight = sensors.averages[row, age]
                if weight != ZERO:
                    for column in range(dims):
                        change = window[age, column] - newest[column]
                        std[column] += weight * change * change
            for column in range(dims):
                std[column] = math.sqrt(max(std[column] - mean[column] * mean[column], ZERO))


@part
def _multiply(matrix: Floats, vector: Floats, bias: Floats, product: Floats) -> None:
    for row in range(len(matrix)):
        total = bias[row]
        for column in range(len(vector)):
            total += matrix[row, column] * vector[column]
        product[row] = total


@part
def _log_softmax(values: Floats) -> None:
    """Replace values by their log softmax."""
    largest, total = values[0], ZERO
    for value in values:
        largest = max(largest, value)
    for value in values:
        total += math.exp(value - largest)
    offset = np.float32(largest + math.log(total))
    for index in range(len(values)):
        values[index] -= offset


@part
def _classify(scores: Floats, angles: Floats, sensors: Sensors, logistic: Floats) -> None:
    """Fill the log likelihood of the kinds; see :class:`models.heads.filter.label_sensor.LogisticKinds`."""
    for index in range(len(angles)):
        angles[index] = math.cos(angles[index])
    _multiply(sensors.cosines, angles, scores, logistic)
    _log_softmax(logistic)
    for kind in range(len(scores)):
        scores[kind] = math.exp(logistic[kind])  # not needed any more
    for kind in range(len(scores)):
        total = ZERO
        for other in range(len(scores)):
            total += scores[other] * sensors.likelihood[other, kind]
        logistic[kind] = max(np.float32(math.log(total)), sensors.lowest_label)


@part
def _read_cells(density: Floats, sensors: Sensors, by_label: Floats) -> None:
    """Replace the log density of a frame in cells by that of the bins of each label, and fill that of the labels.

    See :func:`models.heads.filter.cells.split_density`.
    """
    for label in range(len(by_label)):
        bins = density[label * sensors.bins:(label + 1) * sensors.bins]
        before = bins[0]
        _log_softmax(bins)
        by_label[label] = before - bins[0]
    _log_softmax(by_label)
    for label in range(len(by_label)):
        by_label[label] = max(by_label[label], sensors.lowest_cell)


@part
def _phases_at_nodes(density: Floats, short: Floats, sensors: Sensors, phase: Floats) -> None:
    """Fill the weighted evidence of phases at the nodes, (K, nodes); see :meth:`UnsegmentedFilter.combine`."""
    bins, short_bins = sensors.bins, len(sensors.log_bins) - sensors.bins
    for label in range(len(phase)):
        clear(phase[label])
        _log_softmax(short[label * short_bins:(label + 1) * short_bins])
        for index in range(bins + short_bins):
            evidence = (density[label * bins + index] if index < bins else
                        short[label * short_bins + index - bins])
            evidence = max(evidence + sensors.log_bins[index], sensors.lowest_phase)
            evidence *= sensors.weights[2 if index < bins else 3]
            if evidence != ZERO:
                for node in range(phase.shape[1]):
                    phase[label, node] += evidence * sensors.between[index, node]


@part
def sense(sensors: Sensors, window: Floats, elapsed: np.float32, context: Floats, label: Floats, phase: Floats,
          logistic: Floats) -> np.float32:
    """Fill the evidence of a frame, and return half the squared distance to the nearest cell.

    See :meth:`UnsegmentedFilter.sense` and :meth:`UnsegmentedFilter.combine`.

    Args:
        sensors: tables.
        window: (frames, d), the recent reduced frames, the current one last.
        elapsed: frames so far, the current one included.
        context: (C,), slow averages before the frame, which become those after it.
        label: (S,), to fill: weighted evidence of kinds.
        phase: (K, nodes), to fill: weighted evidence of phases.
        logistic: (S,), to fill: unweighted evidence of the classifier.
    """
    size, dims, slow = len(label), sensors.dims, len(context)
    features, linear = np.empty(sensors.linear.shape[1], np.float32), np.empty(len(sensors.linear), np.float32)
    inputs, outputs = np.empty(sensors.projected.shape[1], np.float32), np.empty(len(sensors.projected), np.float32)
    _describe(window, sensors, features)
    _multiply(sensors.linear, features, sensors.linear_bias, linear)
    both = len(linear) - size
    for column in range(slow):
        rate = max(sensors.rates[column], ONE / elapsed)
        context[column] += rate * (linear[column % dims] - context[column])
    copy(context, inputs[:slow])
    copy(linear[:both], inputs[slow:])
    _multiply(sensors.projected, inputs, sensors.projected_bias, outputs)
    cosines, known = sensors.cosines.shape[1], len(phase)
    short = outputs[len(outputs) - known * (len(sensors.log_bins) - sensors.bins):]
    density = outputs[cosines + size:len(outputs) - len(short)]
    nearest, square = density[0], ZERO
    for value in density:
        nearest = max(nearest, value)
    for column in range(dims):
        square += linear[column] * linear[column]
    scores = linear[both:]
    for kind in range(size):
        scores[kind] += outputs[cosines + kind]
    _classify(scores, outputs[:cosines], sensors, logistic)
    by_label = np.empty(len(density) // sensors.bins, np.float32)
    _read_cells(density, sensors, by_label)
    for kind in range(size):
        label[kind] = sensors.weights[0] * logistic[kind] + sensors.weights[1] * by_label[sensors.label_of[kind]]
    _phases_at_nodes(density, short, sensors, phase)
    return HALF * square - nearest

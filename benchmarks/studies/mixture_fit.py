"""Measure the quality of the batched mixture fit: python -m benchmarks.studies.mixture_fit.

It compares batched expectation maximization with one L-BFGS fit per row, on many distributions over frame indices, by
the symmetric Kullback-Leibler divergence between a distribution and its mixture.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.measure import describe_command, describe_machine, format_table, positive
from benchmarks.speed.slow_definitions import fit_by_lbfgs
from losses.gaussian_mixture import GaussianMixture, component_densities, fit_gaussian_mixture
from utils.command_line import OneLineParser, run_command

COMPONENTS, STEPS = 15, 20
SHORTEST, LONGEST = 20, 2000
LEAST_MASS = 1e-10  # of an index; an index without mass would make a divergence infinite
GOOD = 0.02  # a divergence up to this value is good even if that of L-BFGS is smaller


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return run_command(lambda: compare_fits(parse_arguments(argv), argv))


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = OneLineParser(prog='python -m benchmarks.studies.mixture_fit', description='Quality of the mixture fit.')
    parser.add_argument('--rows', type=positive, default=1000, help='number of distributions')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=positive, default=2, help='default 2')
    return parser.parse_args(argv)


def compare_fits(arguments: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Fit all distributions with both methods and print a table."""
    torch.set_num_threads(arguments.threads)
    print(f'{describe_command("benchmarks.studies.mixture_fit", argv)}\n\n{describe_machine(arguments.threads)}.\n\n'
          f'{arguments.rows} distributions over {SHORTEST} to {LONGEST} indices, {COMPONENTS} components, {STEPS} '
          'steps; KL is symmetric, "as good" as L-BFGS.\n', flush=True)
    rng = np.random.default_rng(arguments.seed)
    kinds = list(KINDS) * -(-arguments.rows // len(KINDS))
    rows = [(kind, draw(kind, rng)) for kind in kinds[:arguments.rows]]
    results = [(kind, *compare(alpha)) for kind, alpha in rows]
    shown = [summarize(kind, [values for name, *values in results if kind in (name, 'all')])
             for kind in (*KINDS, 'all')]
    print(format_table(shown))


def flat(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return nearly uniform weights."""
    return np.exp(rng.uniform(0, 0.5) * rng.standard_normal(len(index)))


def peaked(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return weights with one mode, whose std is between one frame and a fifth of the sequence."""
    std = np.exp(rng.uniform(0, np.log(len(index) / 5)))
    return np.exp(-((index - rng.uniform(0, len(index) - 1)) / std) ** 2 / 2)


def several_modes(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return weights with two to six modes of different std and height."""
    return sum(rng.uniform(0.2, 1) * peaked(index, rng) for _ in range(rng.integers(2, 7)))


def soft_assignment(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the weights of a soft nearest neighbor on a smooth random walk, which resembles embeddings of a video."""
    path = rng.standard_normal((len(index), 8)).cumsum(0) / np.sqrt(len(index))
    distances = np.linalg.norm(path - path[rng.integers(len(index))] - 0.05 * rng.standard_normal(8), axis=1)
    return np.exp((distances.min() - distances) / 0.1)


KINDS = {kind.__name__.replace('_', ' '): kind for kind in (flat, peaked, several_modes, soft_assignment)}


def draw(kind: str, rng: np.random.Generator) -> Tensor:
    """Sample a distribution of a kind, (1, N), with a log-uniform length."""
    length = round(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST))))
    weights = KINDS[kind](np.arange(length), rng)
    return torch.from_numpy(weights / weights.sum()).unsqueeze(0)


def compare(alpha: Tensor) -> tuple[float, float, float, float]:
    """Fit a distribution, (1, N), with both methods; return divergences (ours, L-BFGS) and seconds (ours, L-BFGS)."""
    started = time.perf_counter()
    ours = fit_gaussian_mixture(alpha, COMPONENTS, STEPS)
    between = time.perf_counter()
    weights, means, stds = fit_by_lbfgs(alpha[0], COMPONENTS)
    theirs = GaussianMixture(weights.unsqueeze(0), means.unsqueeze(0), stds.square().unsqueeze(0))
    done = time.perf_counter()
    return divergence(alpha, ours), divergence(alpha, theirs), between - started, done - between


def divergence(alpha: Tensor, mixture: GaussianMixture) -> float:
    """Return the symmetric Kullback-Leibler divergence, KL(a || b) + KL(b || a), of a distribution and a mixture."""
    fitted = (mixture.weights.unsqueeze(1) @ component_densities(mixture, alpha.shape[1])).squeeze(1)
    alpha, fitted = ((values.clamp(min=LEAST_MASS) / values.clamp(min=LEAST_MASS).sum()) for values in (alpha, fitted))
    return float(((alpha - fitted) * (alpha.log() - fitted.log())).sum())


def summarize(kind: str, results: Sequence[tuple[float, float, float, float]]) -> dict[str, object]:
    """Return a row of the table."""
    ours, theirs, our_seconds, their_seconds = np.array(results).T
    good = ours <= np.maximum(theirs, GOOD)
    return {'kind': kind, 'rows': len(ours), 'mean KL': f'{ours.mean():.4f}', 'mean KL, L-BFGS': f'{theirs.mean():.4f}',
            'median KL': f'{np.median(ours):.4f}', 'median KL, L-BFGS': f'{np.median(theirs):.4f}',
            'as good or below 0.02': f'{good.mean():.1%}', 'ms / row': f'{our_seconds.mean() * 1e3:.2f}',
            'ms / row, L-BFGS': f'{their_seconds.mean() * 1e3:.1f}'}


if __name__ == '__main__':
    sys.exit(main())

"""Aggregate scores of runs over seeds, with intervals from the stratified bootstrap.

Interquartile mean, median, mean, probability of improvement and performance profile follow Agarwal et al. (Deep
Reinforcement Learning at the Edge of the Statistical Precipice, 2021). A resample is represented by how often it
contains each run, so that no score is copied.

Shapes: R runs of all tasks, task after task, K points of a curve, T thresholds, N resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int32]


class Interval(NamedTuple):
    """An estimate and its central 95 % interval over resamples.

    Attributes:
        value, low, high: [*].
    """

    value: Array
    low: Array
    high: Array


def resamples(tasks: Sequence[int], n: int, generator: np.random.Generator) -> Counts:
    """Draw bootstrap resamples, stratified by task.

    Arguments:
        tasks: number of runs of each task; they sum to R.
        n: number of resamples.
        generator: source of random numbers.

    Returns:
        Counts of each run in each resample, [R, n].
    """
    drawn = [generator.multinomial(runs, np.full(runs, 1 / runs), size=n) for runs in tasks]
    return np.concatenate(drawn, 1).T.astype(np.int32, order="C")


def mean(scores: Array, counts: Counts) -> Interval:
    """Compute the mean over runs: scores [R, *] -> [*]."""
    return _trimmed(scores, counts, 0)


def iqm(scores: Array, counts: Counts) -> Interval:
    """Compute the interquartile mean, without the lowest and the highest quarter of all runs: [R, *] -> [*]."""
    return _trimmed(scores, counts, len(scores) // 4)


def median(scores: Array, counts: Counts) -> Interval:
    """Compute the median over all runs: [R, *] -> [*]. (rliable computes the median of the tasks' means.)"""
    return _trimmed(scores, counts, (len(scores) - 1) // 2)


def profile(scores: Array, thresholds: Array, counts: Counts) -> Interval:
    """Compute the performance profile, the share of runs above each threshold: [R], [T] -> [T]."""
    return _trimmed((scores[:, None] > thresholds).astype(np.float64), counts, 0)


def improvement(
    x: Array, y: Array, x_counts: Counts, y_counts: Counts, x_tasks: Sequence[int], y_tasks: Sequence[int]
) -> Interval:
    """Compute the probability of improvement of x over y, P(x > y) + P(x = y) / 2, averaged over tasks.

    Arguments:
        x, y: scores of runs, [R] and [R'].
        x_counts, y_counts: counts of the runs in each resample, [R, N] and [R', N].
        x_tasks, y_tasks: number of runs of each task, the same tasks in the same order.

    Raises:
        ValueError: different numbers of tasks.
    """
    if len(x_tasks) != len(y_tasks):
        raise ValueError(
            f"got {len(x_tasks)} and {len(y_tasks)} tasks, wanted the same ones: compare on what both have"
        )
    value, drawn = 0.0, np.zeros(x_counts.shape[1])
    ends = zip(np.cumsum(x_tasks), np.cumsum(y_tasks), x_tasks, y_tasks, strict=True)
    for x_end, y_end, m, n in ends:
        a, b = slice(x_end - m, x_end), slice(y_end - n, y_end)
        wins = (x[a, None] > y[None, b]) + (x[a, None] == y[None, b]) / 2
        value += wins.mean()
        drawn += ((wins.T @ x_counts[a]) * y_counts[b]).sum(0) / (m * n)
    return _interval(np.asarray(value / len(x_tasks)), drawn / len(x_tasks))


def _trimmed(scores: Array, counts: Counts, cut: int) -> Interval:
    """Compute the mean without the `cut` lowest and the `cut` highest runs, separately at every point of a curve."""
    runs, flat = len(scores), scores.reshape(len(scores), -1)
    ordered = np.sort(flat, 0)
    value = ordered[cut : runs - cut].mean(0)
    drawn = np.empty((flat.shape[1], counts.shape[1]))
    if cut == 0:
        return _interval(value.reshape(scores.shape[1:]), (flat.T @ counts / runs).reshape(*scores.shape[1:], -1))
    for point, order in enumerate(np.argsort(flat, 0).T):
        # Cumulative counts in the order of scores, clipped to the runs that remain; the sum of scores is by parts.
        below = counts[order]
        for row in range(1, runs):  # several times as fast as cumsum(0)
            below[row] += below[row - 1]
        np.clip(below, cut, runs - cut, out=below)
        x = ordered[:, point]
        total = x[-1] * (runs - cut) - x[0] * cut - np.diff(x) @ below[:-1]
        drawn[point] = total / (runs - 2 * cut)
    return _interval(value.reshape(scores.shape[1:]), drawn.reshape(*scores.shape[1:], -1))


def _interval(value: Array, drawn: Array) -> Interval:
    """Return an estimate [*] with the interval of its resampled values [*, N]."""
    return Interval(value, *np.percentile(drawn, [2.5, 97.5], axis=-1))

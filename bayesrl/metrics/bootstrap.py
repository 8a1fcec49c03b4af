"""What runs over seeds say together: interquartile mean, median, mean, probability of improvement, performance profile,
each with an interval from the stratified bootstrap.

Agarwal et al. (Deep Reinforcement Learning at the Edge of the Statistical Precipice, 2021). Shapes: R runs, of all
tasks one after the other, K points of a curve, T thresholds, N resamples. A resample is how often it holds each run,
counts [R, N], so that no score is copied.
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
    """n bootstrap resamples, each of as many runs of every task as there are: -> counts [R, n].

    Arguments:
        tasks: runs of each task, which are the strata; they sum to R.
    """
    drawn = [generator.multinomial(runs, np.full(runs, 1 / runs), size=n) for runs in tasks]
    return np.concatenate(drawn, 1).T.astype(np.int32, order="C")


def mean(scores: Array, counts: Counts) -> Interval:
    """Over runs, scores [R, *] -> [*]."""
    return _trimmed(scores, counts, 0)


def iqm(scores: Array, counts: Counts) -> Interval:
    """Interquartile mean: without the least and the greatest quarter of all runs, [R, *] -> [*]."""
    return _trimmed(scores, counts, len(scores) // 4)


def median(scores: Array, counts: Counts) -> Interval:
    """Of all runs, [R, *] -> [*]. (rliable's median is of the tasks' means.)"""
    return _trimmed(scores, counts, (len(scores) - 1) // 2)


def profile(scores: Array, thresholds: Array, counts: Counts) -> Interval:
    """Performance profile: the share of runs above each threshold, [R], [T] -> [T]."""
    return _trimmed((scores[:, None] > thresholds).astype(np.float64), counts, 0)


def improvement(
    x: Array, y: Array, x_counts: Counts, y_counts: Counts, x_tasks: Sequence[int], y_tasks: Sequence[int]
) -> Interval:
    """P(a run of x scores above one of y) + P(equal) / 2, averaged over tasks: [R], [R'] -> 0-d.

    Arguments:
        x_tasks, y_tasks: runs of each task, the same tasks in the same order.

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
    """Mean without the `cut` least and the `cut` greatest runs, those of every point of a curve by themselves."""
    runs, flat = len(scores), scores.reshape(len(scores), -1)
    ordered = np.sort(flat, 0)
    value = ordered[cut : runs - cut].mean(0)
    drawn = np.empty((flat.shape[1], counts.shape[1]))
    if cut == 0:
        return _interval(value.reshape(scores.shape[1:]), (flat.T @ counts / runs).reshape(*scores.shape[1:], -1))
    for point, order in enumerate(np.argsort(flat, 0).T):
        # Runs up to each place in the order, less what is cut; the weighted sum of scores is by parts.
        below = counts[order]
        for row in range(1, runs):  # several times as fast as cumsum(0)
            below[row] += below[row - 1]
        np.clip(below, cut, runs - cut, out=below)
        x = ordered[:, point]
        total = x[-1] * (runs - cut) - x[0] * cut - np.diff(x) @ below[:-1]
        drawn[point] = total / (runs - 2 * cut)
    return _interval(value.reshape(scores.shape[1:]), drawn.reshape(*scores.shape[1:], -1))


def _interval(value: Array, drawn: Array) -> Interval:
    """Of an estimate [*] and resampled ones [*, N]."""
    return Interval(value, *np.percentile(drawn, [2.5, 97.5], axis=-1))

"""The wheel bandit (Riquelme, Tucker & Snoek, Deep Bayesian Bandits Showdown, 2018).

Contexts are uniform in the unit disc. The expected reward is 1 for arms 0 to 3 and 1.2 for arm 4, except that the arm
of x's quadrant has 50 where |x| >= delta; the noise is N(0, 0.01^2). The rim, where |x| >= delta, is 1 - delta^2 of the
disc: the closer delta is to 1, the more exploration is needed.

Shapes: E environments, A = 5 arms.
"""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from numpy import ndarray
from numpy.random import Generator

from bayesrl.envs.tasks.bandits import Bandit, BanditVector, Problem

MEANS = (1.0, 1.0, 1.0, 1.0, 1.2)
RIM_MEAN, NOISE = 50.0, 0.01


class WheelProblem(Problem):
    """The wheel problem; by the signs of x, the best arm at the rim is 0 (+, +), 1 (+, -), 2 (-, +) or 3 (-, -)."""

    def __init__(self, delta: float) -> None:
        if not 0 <= delta <= 1:
            raise ValueError(f"got delta={delta}, wanted a radius from 0 to 1; 0.5, 0.7, 0.9, 0.95 and 0.99 are usual")
        super().__init__(Box(-1, 1, (2,), np.float32), len(MEANS))
        self.delta = delta

    def contexts(self, rng: Generator, count: int) -> ndarray:
        radius, turn = rng.random((2, count))
        angle = 2 * np.pi * turn
        return (np.sqrt(radius) * (np.cos(angle), np.sin(angle))).T.astype(np.float32)

    def means(self, context: ndarray) -> ndarray:
        out = np.tile(MEANS, (len(context), 1))
        rim = np.hypot(*context.T.astype(np.float64)) >= self.delta
        quadrant = 2 * (context[:, 0] <= 0) + (context[:, 1] <= 0)
        out[rim, quadrant[rim]] = RIM_MEAN
        return out

    def rewards(self, mean: ndarray, rng: Generator) -> ndarray:
        return mean + NOISE * rng.standard_normal(len(mean))


class Wheel(Bandit):
    """A wheel bandit, whose episodes are one step.

    Arguments:
        delta: radius from 0 to 1 beyond which the arm of the quadrant has an expected reward of 50.
    """

    def __init__(self, delta: float = 0.95) -> None:
        super().__init__(WheelProblem(delta))


class WheelVector(BanditVector):
    """E wheel bandits in one array; the arguments are those of Wheel."""

    def __init__(self, num_envs: int = 1, delta: float = 0.95) -> None:
        super().__init__(num_envs, WheelProblem(delta))

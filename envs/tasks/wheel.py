"""The wheel bandit: four arms pay dearly in four slivers at the rim, and a fifth a little more everywhere else.

(Riquelme, Tucker & Snoek, Deep Bayesian Bandits Showdown, 2018.) Contexts are uniform in the unit disc. Arms 0 to 3 pay
1 and arm 4 pays 1.2 in expectation, but where |x| >= delta the arm of x's quadrant pays 50; the noise is N(0, 0.01^2).
The slivers are 1 - delta^2 of the disc: the nearer delta to 1, the more must be explored.

Shapes: E environments, A = 5 arms.
"""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box
from numpy import ndarray
from numpy.random import Generator

from bayesrl.envs.tasks.bandits import Bandit, BanditVector, Problem

MEANS = (1.0, 1.0, 1.0, 1.0, 1.2)
RIM, NOISE = 50.0, 0.01


class Rim(Problem):
    """Contexts in the disc; which arm pays at the rim is 0 (+, +), 1 (+, -), 2 (-, +), 3 (-, -) by the signs of x."""

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
        out[rim, quadrant[rim]] = RIM
        return out

    def pay(self, mean: ndarray, rng: Generator) -> ndarray:
        return mean + NOISE * rng.standard_normal(len(mean))


class Wheel(Bandit):
    """A wheel bandit, whose episodes are one step.

    Arguments:
        delta: the radius from which the quadrants' arms pay 50.
    """

    def __init__(self, delta: float = 0.95) -> None:
        super().__init__(Rim(delta))


class WheelVector(BanditVector):
    """E wheels in one array; arguments as Wheel's."""

    def __init__(self, num_envs: int = 1, delta: float = 0.95) -> None:
        super().__init__(num_envs, Rim(delta))

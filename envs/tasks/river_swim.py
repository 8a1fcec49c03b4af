"""RiverSwim: a small, certain reward downstream, and a large one upstream (Strehl & Littman, 2008).

Probabilities and rewards are those of Osband et al., (More) Efficient Reinforcement Learning via Posterior Sampling,
2013.

Shapes: S states, A = 2 actions (0 left, with the current; 1 right, against it).
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from numpy import ndarray

LEFT, RIGHT = 0, 1


def river(size: int) -> tuple[ndarray, ndarray]:
    """Return P [S, A, S], the probability of each next state, and R [S, A], the reward."""
    if size < 3:
        raise ValueError(f"got size={size}, wanted at least 3 states; 6 is the usual RiverSwim")
    flow, reward = np.zeros((size, 2, size)), np.zeros((size, 2))
    for s in range(size):
        flow[s, LEFT, max(s - 1, 0)] = 1
    for s in range(1, size - 1):
        flow[s, RIGHT, s - 1 : s + 2] = 0.05, 0.6, 0.35
    flow[0, RIGHT, :2] = 0.4, 0.6
    flow[-1, RIGHT, -2:] = 0.4, 0.6
    reward[0, LEFT], reward[-1, RIGHT] = 0.005, 1
    return flow, reward


class RiverSwim(gym.Env):
    """One swimmer, who starts at the first state; episodes are never terminated.

    `bayesrl/RiverSwim-v0` truncates them after 120 steps, which are 20 for each of the six states.

    Arguments:
        size: number of states, S.

    Attributes:
        P: probability of each next state, [S, A, S].
        R: reward, [S, A].
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, size: int = 6) -> None:
        self.P, self.R = river(size)
        self.observation_space, self.action_space = Discrete(size), Discrete(2)
        self.state = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.state = 0
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        if not self.action_space.contains(action):
            raise ValueError(f"got action {action!r}, wanted 0 (left) or 1 (right); sample it from action_space")
        reward = float(self.R[self.state, action])
        self.state = int(self.np_random.choice(len(self.P), p=self.P[self.state, action]))
        return self.state, reward, False, False, {}

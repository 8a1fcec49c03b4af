"""Memory: a cue at the first step, N blank steps, and a query for the cue.

This is the memory-length task of bsuite (Osband et al., Behaviour Suite for Reinforcement Learning, 2020). At the
query, the reward is +1 for the action that matches the cue and -1 for the other; all other rewards are 0. The
observation at the query does not contain the cue, so that a policy of the current observation has mean return 0, and
one that remembers the cue has 1.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy import ndarray


class Memory(gym.Env):
    """One memory task; an episode is terminated after N + 2 steps and never truncated.

    Observations are (cue, fraction of the steps that remain, query), [3] float32: the cue is +1 or -1 at the first step
    and 0 later; the query is 1 at the last step and 0 before. Action 1 matches the cue +1, action 0 the cue -1.

    Arguments:
        length: number of blank steps, N.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, length: int = 20) -> None:
        if length < 0:
            raise ValueError(f"got length={length}, wanted 0 or more blank steps; 20 is the usual Memory")
        self.last = length + 1
        self.observation_space = Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
        self.action_space = Discrete(2)
        self.t, self.cue = self.last + 1, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.cue = 0, int(self.np_random.integers(2))
        return self._observation(), {}

    def step(self, action: int) -> tuple[ndarray, float, bool, bool, dict]:
        if not self.action_space.contains(action):
            raise ValueError(f"got action {action!r}, wanted 0 (cue -1) or 1 (cue +1); sample it from action_space")
        if self.t > self.last:
            raise ValueError("got a step outside an episode, wanted reset first; call reset() after terminated")
        query = self.t == self.last
        reward = (1.0 if action == self.cue else -1.0) if query else 0.0
        self.t += 1
        return self._observation(), reward, query, False, {}

    def _observation(self) -> ndarray:
        """Return the observation of step t, which is all zeros after the query."""
        cue = 2 * self.cue - 1 if self.t == 0 else 0
        return np.array([cue, max(1 - self.t / self.last, 0), self.t == self.last], dtype=np.float32)

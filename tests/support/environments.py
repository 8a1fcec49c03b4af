"""VectorEnvAdapter whose every number is known, and those that misbehave."""

import os
import signal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv

from bayesrl.training.vector_env import VectorEnvAdapter


class Counting(gym.Env):
    """Shows 0, 1, 2, ...; reward is the count; ends after `length` steps; actions are 5 and 6."""

    def __init__(self, length=2, truncates=False, bad=None, mask=False):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (1,), np.float32), Discrete(2, start=5)
        self.length, self.truncates, self.bad, self.mask = length, truncates, bad, mask
        self.taken = []

    def _out(self):
        value = np.nan if self.t == self.bad else self.t
        return np.array([value], np.float32), {"action_mask": np.array([True, self.t % 2 == 0])} if self.mask else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._out()

    def step(self, action):
        assert action in self.action_space
        self.taken.append(int(action))
        self.t += 1
        obs, info = self._out()
        end = self.t == self.length
        return obs, float(self.t), end and not self.truncates, end and self.truncates, info


class Numbered(gym.Env):
    """Shows 1, 2, 3, ... over all episodes, which end in either way with probability 0.15 a step."""

    observation_space = gym.spaces.Box(0, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    shown = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._next(), {}

    def step(self, action):
        ended, cut = self.np_random.random(2) < 0.15
        return self._next(), float(self.shown), bool(ended), bool(cut), {}

    def _next(self):
        self.shown += 1
        return np.array([self.shown], np.float32)


class Plain(gym.Env):
    """Episodes of nine steps, each paying 1; subclasses misbehave after 150 steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        return self.observe(), self.pay(), self.t == 9, False, {}

    def observe(self):
        return np.zeros(2, np.float32)

    def pay(self):
        return 1.0


class BlindEnv(Plain):
    def observe(self):
        return np.full(2, np.nan if self.steps > 150 else 0, np.float32)


class RichEnv(Plain):
    def pay(self):
        return np.inf if self.steps > 150 else 1.0


class RaisingEnv(Plain):
    def pay(self):
        return 1.0 if self.steps <= 150 else {}["100% broken"]


class DyingEnv(Plain):
    def pay(self):
        if self.steps > 150:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0


def started(mode, *envs, discount=0.5):
    vector = SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)
    out = VectorEnvAdapter(vector, discount)
    out.reset(seed=0)
    return out

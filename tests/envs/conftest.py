"""A module as a user writes it."""

import sys

import gymnasium as gym
import pytest

MODULE = """
import time
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete

class Clock(gym.Env):
    def __init__(self, horizon=3, pause=0.0, fail_at=None):
        self.observation_space, self.action_space = Discrete(100), Discrete(2)
        self.horizon, self.pause, self.fail_at = horizon, pause, fail_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        if self.pause:
            time.sleep(self.pause)
        if self.t == self.fail_at:
            raise ArithmeticError("%s broke" % "the clock")
        return self.t, 1.0, self.t == self.horizon, False, {}

class Hangs(Clock):
    def step(self, action):
        time.sleep(1e6 if self.t == 1 else 0)
        return super().step(action)

class Leaves(Clock):
    def __init__(self, place):
        super().__init__()
        self.place = place

    def close(self):
        open(self.place, "w").close()

class Late(Clock):
    def __init__(self, gives):
        super().__init__(horizon=9)
        self.observation_space, self.gives = gym.spaces.Box(-9, 9, (2,)), gives

    def reset(self, **given):
        super().reset(**given)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        t, *rest = super().step(action)
        return eval(self.gives) if t == 2 else (np.full(2, t, np.float32), *rest)

class Misfit(Clock):
    def reset(self, *, seed=None, options=None):
        return "zero", {}

def needs_swig():
    raise gym.error.DependencyNotInstalled('Box2D is missing, `pip install "gymnasium[box2d]"`')

def needs_other():
    raise gym.error.DependencyNotInstalled('run `pip install "gymnasium[jax]"`')

def needs_rom():
    raise gym.error.DependencyNotInstalled('the rom of Pong')

def no_env():
    return 3

def picky(level):
    raise ValueError("no level 9")

gym.register("test/Clock-v0", entry_point=Clock, max_episode_steps=2)
"""


@pytest.fixture
def clocks(tmp_path, monkeypatch):
    """A user's module that registers `test/Clock-v0`."""
    (tmp_path / "clocks.py").write_text(MODULE)
    (tmp_path / "broken_clocks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    gym.registry.pop("test/Clock-v0", None)
    sys.modules.pop("clocks", None)

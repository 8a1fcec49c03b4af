"""A restored environment goes on bit for bit, later resets and all."""

import os
import random
import signal
from collections import deque

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv

from bayesrl.envs import load_state, make, save_state

CASES = [
    ("CartPole-v1", "native", 1, {}),
    ("CartPole-v1", "native", 3, {}),
    ("CartPole-v1", "sync", 1, {}),
    ("CartPole-v1", "sync", 3, {}),
    ("CartPole-v1", "sync", 2, {"max_episode_steps": 7}),
    ("MountainCar-v0", "sync", 2, {"max_episode_steps": 50}),
    ("Acrobot-v1", "sync", 2, {"max_episode_steps": 50}),
    ("FrozenLake-v1", "sync", 3, {}),
    ("Blackjack-v1", "sync", 2, {}),
    ("Pendulum-v1", "sync", 2, {"max_episode_steps": 50}),
    ("bayesrl/DeepSea-v0", "native", 1, {"size": 5}),
    ("bayesrl/DeepSea-v0", "native", 3, {"size": 5, "stochastic": True}),
    ("bayesrl/DeepSea-v0", "sync", 3, {"size": 5, "stochastic": True}),
    ("bayesrl/RiverSwim-v0", "sync", 2, {"max_episode_steps": 30}),
]


def record(envs, seed, steps):
    envs.action_space.seed(seed)
    return [envs.step(envs.action_space.sample()) for _ in range(steps)]


def assert_same(got, wanted):
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert got.keys() == wanted.keys()
        for key in wanted:
            assert_same(got[key], wanted[key])
    elif isinstance(wanted, list | tuple):
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            assert_same(a, b)
    elif isinstance(wanted, np.ndarray) and wanted.dtype == object:
        assert_same(got.tolist(), wanted.tolist())
    elif isinstance(wanted, np.ndarray):
        assert (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
    else:
        assert got == wanted


def assert_plain(value):
    if type(value) in (list, tuple):
        [assert_plain(part) for part in value]
    elif type(value) is dict:
        [assert_plain(part) for pair in value.items() for part in pair]
    else:
        assert value is None or type(value) in (int, float, bool, str, np.ndarray), type(value)
        assert not (isinstance(value, np.ndarray) and value.dtype.hasobject)


@pytest.mark.parametrize(("env_id", "way", "num_envs", "kwargs"), CASES)
def test_a_fresh_environment_goes_on_bit_for_bit(env_id, way, num_envs, kwargs):
    envs, _ = make(env_id, num_envs, kwargs, vectorization=way)
    envs.reset(seed=3)
    record(envs, 0, 37)
    state = save_state(envs)
    assert_plain(state)
    wanted = record(envs, 1, 100)
    assert any(step[2].any() or step[3].any() for step in wanted)

    for _ in range(2):  # twice, because restoring must not spend the state
        fresh, _ = make(env_id, num_envs, kwargs, vectorization=way)
        load_state(fresh, state)
        assert_same(record(fresh, 1, 100), wanted)
    load_state(envs, state)  # and into a used one
    assert_same(record(envs, 1, 100), wanted)


class Walk(gym.Env):
    """Keeps its state in every way that is known."""

    def __init__(self):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (4,)), Discrete(2)
        self.rules = [len, abs]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rng = self.np_random  # one generator by two names
        number = int(self.np_random.integers(100))
        self.old, self.python = np.random.RandomState(number), random.Random(number)
        self.trail, self.x, self.nested = deque([0.0], maxlen=3), np.float32(0.1), {"t": [0, (1, None)]}
        return self._observation(), {}

    def step(self, action):
        self.x = self.x + np.float32(self.rng.normal() + self.np_random.normal())
        self.trail.append(self.old.rand() + self.python.random())
        self.nested["t"][0] += 1
        return self._observation(), 0.0, self.nested["t"][0] == 9, False, {}

    def _observation(self):
        return np.array([self.x, sum(self.trail), self.nested["t"][0], 0], np.float32)


class Spoken(gym.Env):
    """Holds an object that cannot be read, and says itself what matters."""

    def __init__(self):
        self.observation_space, self.action_space, self.engine = Discrete(1000), Discrete(2), object()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += int(self.np_random.integers(1, 4))
        return self.t, 0.0, self.t > 50, False, {}

    def get_state(self):
        return {"t": self.t}

    def set_state(self, state):
        self.t = state["t"]


class Silent(Spoken):
    get_state = set_state = property()


@pytest.mark.parametrize("kind", [Walk, Spoken])
def test_a_user_s_environment_goes_on_bit_for_bit(kind):
    envs, fresh = make(kind, 2)[0], make(kind, 2)[0]
    envs.reset(seed=0)
    record(envs, 0, 13)
    state = save_state(envs)
    load_state(fresh, state)
    assert_same(record(fresh, 1, 60), record(envs, 1, 60))


def test_one_generator_by_two_names_stays_one():
    envs, fresh = make(Walk)[0], make(Walk)[0]
    envs.reset(seed=0)
    load_state(fresh, save_state(envs))
    assert fresh.envs[0].unwrapped.rng is fresh.envs[0].unwrapped.np_random


class Opaque(Walk):
    def __init__(self, value):
        super().__init__()
        self.value = value


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", np.array([None]), {(1, 2): 3}, [len, 3], {"$": 1}])
def test_what_cannot_be_read_gives_none(value):
    envs, _ = make(Opaque, 1, {"value": value})
    envs.reset(seed=0)
    assert save_state(envs) is None


def test_workers_capture_themselves():
    """Thirty steps of restored workers are those of the captured ones; with one that cannot be read there is none."""
    envs, fresh = (make("CartPole-v1", 2, vectorization="async")[0] for _ in range(2))
    envs.reset(seed=0)
    record(envs, 0, 5)
    load_state(fresh, save_state(envs))
    assert_same(record(fresh, 1, 30), record(envs, 1, 30))
    os.kill(envs.processes[1].pid, signal.SIGKILL)
    assert save_state(envs) is None
    for workers in (envs, fresh):
        workers.close()
    opaque, _ = make(Opaque, 2, {"value": object()}, vectorization="async")
    opaque.reset(seed=0)
    assert save_state(opaque) is None
    opaque.close()


def test_an_open_window_gives_none():
    pytest.importorskip("pygame")
    envs, _ = make("CartPole-v1", 1, {"render_mode": "rgb_array"}, vectorization="sync")
    envs.reset(seed=0)
    assert save_state(envs) is not None
    envs.render()
    assert save_state(envs) is None
    envs.close()


def test_a_state_of_something_else_is_refused():
    envs, _ = make("CartPole-v1", 2, vectorization="sync")
    envs.reset(seed=0)
    words = r"got the state of SyncVectorEnv\[2 x Named > TimeLimit > OrderEnforcing > CartPoleEnv\], wanted one of "
    for other in (make("CartPole-v1", 3, vectorization="sync")[0], make("CartPole-v1", 2)[0]):
        with pytest.raises(ValueError, match=words + ".*; make the environments as they were saved"):
            load_state(other, save_state(envs))


def test_a_vector_wrapper_is_a_layer():
    def build():
        return gym.wrappers.vector.TransformReward(SyncVectorEnv([Walk, Walk]), np.abs)

    envs, fresh = build(), build()
    envs.reset(seed=0)
    record(envs, 0, 5)
    load_state(fresh, save_state(envs))
    assert_same(record(fresh, 1, 30), record(envs, 1, 30))

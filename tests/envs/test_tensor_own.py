"""A user's own environment in tensors is one class in a file, and its errors are told at the first reset."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Dict, Discrete

from bayesrl.envs import (
    DeepSea,
    EnvError,
    TensorAcrobot,
    TensorCartPole,
    TensorContinuousMountainCar,
    TensorDeepSea,
    TensorMountainCar,
    TensorPendulum,
    TensorRiverSwim,
    check,
    make,
    single,
)
from support.tensor_environments import Counting, play

TANK = """
import torch
from gymnasium.spaces import Box, Discrete

from bayesrl.envs import TensorEnv


class Tank(TensorEnv):
    single_observation_space = Box(0, 1, (1,))
    single_action_space = Discrete(2)
    max_episode_steps = 50
    reset_noise = step_noise = 1

    def initial(self, noise):
        return (0.25 + noise[:, 0] / 2,)

    def dynamics(self, state, action, noise):
        level = (state[0] + 0.1 * action - 0.1 * noise[:, 0]).clamp(0, 1)
        return (level,), 1 - (level - 0.5).abs(), level == 0

    def observe(self, state):
        return state[0][:, None]
"""


@pytest.fixture
def tank(tmp_path, monkeypatch):
    """A user's module `tank`."""
    (tmp_path / "tank.py").write_text(TANK)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tank", None)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "cls", "limit"),
    [
        ("CartPole-v1", {}, TensorCartPole, 500),
        ("CartPole-v0", {"sutton_barto_reward": True}, TensorCartPole, 200),
        ("Acrobot-v1", {"max_episode_steps": 70}, TensorAcrobot, 70),
        ("MountainCar-v0", {}, TensorMountainCar, 200),
        ("MountainCarContinuous-v0", {"goal_velocity": 0.01}, TensorContinuousMountainCar, 999),
        ("Pendulum-v1", {"g": 9.81}, TensorPendulum, 200),
        ("bayesrl/DeepSea-v0", {"size": 6, "seed": 4}, TensorDeepSea, None),
        ("bayesrl/RiverSwim-v0", {}, TensorRiverSwim, 120),
    ],
)
def test_device_is_had_on_demand(env_id, kwargs, cls, limit):
    env, choice = make(env_id, 3, kwargs, vectorization="device")
    assert choice == "device" and type(env) is cls and (env.num_envs, env.max_episode_steps) == (3, limit)
    host = gym.spec(env_id).make(**kwargs)
    assert env.single_observation_space == host.observation_space and env.single_action_space == host.action_space
    assert env.reset(seed=0)[0].shape == env.observation_space.shape
    assert make(env_id, 3, kwargs)[1] != "device"


def test_a_users_own_is_one_class_in_a_file(tank):
    for env_id in ("tank:Tank", "tank:test/Tank-v0"):
        if env_id.endswith("v0"):
            gym.register("test/Tank-v0", vector_entry_point="tank:Tank", max_episode_steps=20)
        try:
            env, choice = make(env_id, 7)
            assert choice == "device" and env.max_episode_steps == (20 if "v0" in env_id else 50)
            check(single(env_id))
            env.reset(seed=0)
            assert any(step[3].any() for step in play(env, 60))
        finally:
            gym.registry.pop("test/Tank-v0", None)


class Wrong(Counting):
    def __init__(self, num_envs=4, device="cpu", **kwargs):
        super().__init__([9] * num_envs, device=device)
        vars(self).update(kwargs)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (
            {"observe": lambda s: s[0]},
            "observe: got [4] torch.float32 on cpu, wanted [4, 2] torch.float32 on cpu; each of",
        ),
        (
            {"observe": lambda s: torch.stack(s, 1).double()},
            "observe: got [4, 2] torch.float64 on cpu, wanted [4, 2] tor",
        ),
        ({"initial": lambda u: (u, u)}, "dynamics reward: got [4, 4]"),
        ({"initial": lambda u: (u[:1, 0], u[:, 0])}, "initial state[0]: got [1] torch.float32 on cpu, wanted [4]"),
        ({"dynamics": lambda s, a, u: (s[:1], s[0], s[0] > 0)}, "dynamics: got a state of 1 tensors, wanted the 2"),
        (
            {"dynamics": lambda s, a, u: (s, s[0].sum(), s[0] > 0)},
            "dynamics reward: got [] torch.float32 on cpu, wanted",
        ),
        (
            {"dynamics": lambda s, a, u: (s, s[0], s[0])},
            "dynamics terminated: got [4] torch.float32 on cpu, wanted [4]",
        ),
        (
            {"dynamics": lambda s, a, u: ((s[0], a), s[0], s[0] > 0)},
            "dynamics state[1]: got [4] torch.int64 on cpu, wan",
        ),
        ({"single_observation_space": Dict(a=Discrete(2))}, "got the observation space Dict('a': Discrete(2)), wanted"),
    ],
)
def test_wrong_tensors_are_told_at_the_first_reset(kwargs, words):
    with pytest.raises(EnvError) as caught:
        Wrong(**kwargs).reset(seed=0)
    assert words in str(caught.value)


def test_each_error_is_one_sentence():
    with pytest.raises(
        EnvError, match="got vectorization='device' for FrozenLake-v1, wanted an environment in tensors, which"
    ):
        make("FrozenLake-v1", 2, vectorization="device")
    with pytest.raises(
        EnvError, match=r"of Acrobot-v1, CartPole-v0, .*; write one as a bayesrl.envs.TensorEnv, or choose"
    ):
        make(DeepSea, 2, vectorization="device")
    with pytest.raises(EnvError, match="got 'sise' for bayesrl/DeepSea-v0, wanted only 'num_envs', 'size'"):
        make("bayesrl/DeepSea-v0", 2, {"sise": 3}, vectorization="device")
    with pytest.raises(EnvError, match=r"got num_envs=0, max_episode_steps=500, wanted at least 1 of each"):
        TensorCartPole(0)
    env = TensorCartPole(3)
    with pytest.raises(EnvError, match=r"got a step before the first reset, wanted actions \[3\] after reset\(\)"):
        env.step(np.zeros(3, int))
    env.reset(seed=0)
    with pytest.raises(
        EnvError, match=r"got actions of shape \[2\], wanted actions \[3\] after reset\(\): give one to"
    ):
        env.step(np.zeros(2, int))

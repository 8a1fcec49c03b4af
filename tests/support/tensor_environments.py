"""Environments in tensors with the largest states and tolerances of each, and what tests do with them."""

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from bayesrl.envs import (
    TensorAcrobot,
    TensorCartPole,
    TensorContinuousMountainCar,
    TensorDeepSea,
    TensorEnv,
    TensorMountainCar,
    TensorPendulum,
    TensorRiverSwim,
)

CLASSIC = {
    "CartPole-v1": (TensorCartPole, [2.6, 3.0, 0.25, 3.0], 1e-6),
    "Acrobot-v1": (TensorAcrobot, [np.pi, np.pi, 4 * np.pi, 9 * np.pi], 1e-3),
    "MountainCar-v0": (TensorMountainCar, [1.2, 0.07], 1e-6),
    "MountainCarContinuous-v0": (TensorContinuousMountainCar, [1.2, 0.07], 1e-6),
    "Pendulum-v1": (TensorPendulum, [10.0, 8.0], 1e-6),
}  # id: class, the largest states, tolerance in float32
DISCRETE = (TensorCartPole, TensorAcrobot, TensorMountainCar, TensorDeepSea, TensorRiverSwim)
ALL = (*DISCRETE, TensorContinuousMountainCar, TensorPendulum)


class Counting(TensorEnv):
    """Shows 0, 1, 2, ... from a random start; environments end after `length` steps of their own."""

    single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    single_action_space = Discrete(2)
    reset_noise = 1

    def __init__(self, length, masked=False, **kwargs):
        super().__init__(len(length), **kwargs)
        self.length, self.masked = torch.tensor(length), masked

    def initial(self, noise):
        return noise[:, 0], torch.zeros(len(noise))

    def dynamics(self, state, action, noise):
        t = state[1] + 1
        return (state[0], t), t + 10 * action, t == self.length

    def observe(self, state):
        return torch.stack(state, 1)

    def allowed(self, state):
        return torch.stack((state[1] >= 0, state[1] % 2 == 0), 1) if self.masked else None


def started(cls, num_envs=64, seed=0, **kwargs):
    env = cls(num_envs, **kwargs)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    return env


def play(env, steps):
    """The results of random steps."""
    return [env.step(env.action_space.sample()) for _ in range(steps)]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for p, q in zip(x[:4], y[:4], strict=True):
            assert torch.equal(p, q)
        assert torch.equal(x[4]["final_obs"], y[4]["final_obs"])

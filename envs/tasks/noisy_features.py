"""Features that tell nothing: standard normal noise, drawn anew at every step, beside an environment's observation.

A test of relevance: what an agent has learned should depend on the environment's own features and on none of these.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Box
from numpy import ndarray


class NoisyFeatures(gym.ObservationWrapper):
    """An environment whose observation [D] becomes [D + k] float32, the last k being noise.

    Arguments:
        env: with a flat Box of floats as its observation space.
        noise_features: k.
    """

    def __init__(self, env: gym.Env, noise_features: int = 8) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) != 1 or space.dtype != np.float32:
            raise ValueError(f"got observation space {space}, wanted a flat Box of float32; flatten the observation")
        if noise_features < 0:
            raise ValueError(f"got noise_features={noise_features}, wanted 0 or more; 8 is usual")
        self.noise_features = noise_features
        bound = np.full(noise_features, np.inf, np.float32)
        self.observation_space = Box(np.concatenate([space.low, -bound]), np.concatenate([space.high, bound]))

    def observation(self, observation: Any) -> ndarray:
        noise = self.np_random.standard_normal(self.noise_features)
        return np.concatenate([observation, noise], dtype=np.float32)


def noisy_cartpole(noise_features: int = 8) -> gym.Env:
    """CartPole (position, velocity, angle, angular velocity) with features of noise beside it."""
    return NoisyFeatures(CartPoleEnv(), noise_features)

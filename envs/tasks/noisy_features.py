"""Uninformative features beside an environment's observation: standard normal noise, drawn again at every step.

They test measures of relevance: an agent's Q-function should depend on the environment's own features and not on these.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.spaces import Box
from numpy import ndarray


class NoisyFeatures(gym.ObservationWrapper):
    """Append k features of noise to an observation: [D] -> [D + k] float32.

    Arguments:
        env: an environment whose observation space is a Box [D] of float32.
        noise_features: number of features of noise, k.

    Raises:
        ValueError: the observation space is another one, or k is negative.
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
    """Return CartPole (position, velocity, angle, angular velocity) with `noise_features` features of noise."""
    return NoisyFeatures(CartPoleEnv(), noise_features)

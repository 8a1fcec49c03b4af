"""Environments in tensors as ordinary Gymnasium environments, which take and return NumPy arrays."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorWrapper
from torch import Tensor

from bayesrl.envs.vector.tensor_env import TensorEnv


class Numpy(VectorWrapper):
    """A `TensorEnv` that takes and returns NumPy arrays."""

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        return _numpy(self.env.reset(seed=seed, options=options))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict]:
        return _numpy(self.env.step(actions))


class Single(gym.Env):
    """A `TensorEnv` of one environment as an ordinary one, with NumPy arrays and without resets of its own.

    Arguments:
        env: with num_envs=1.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, env: TensorEnv) -> None:
        self.env = env
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        obs, infos = self.env.reset(seed=seed, options=options)
        return _numpy((obs[0], {name: value[0] for name, value in infos.items()}))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        _, reward, terminated, truncated, infos = self.env.step(np.asarray(action)[None])
        info = {"action_mask": infos["final_info"]["action_mask"][0]} if "final_info" in infos else {}
        obs, info = _numpy((infos["final_obs"][0], info))
        return obs, float(reward), bool(terminated), bool(truncated), info


def _numpy(value: Any) -> Any:
    match value:
        case Tensor():
            return value.cpu().numpy()
        case tuple():
            return tuple(map(_numpy, value))
        case dict():
            return {key: _numpy(part) for key, part in value.items()}
    return value

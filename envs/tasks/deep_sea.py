"""DeepSea: one rewarding path of N steps, and every other path looks better (Osband et al., bsuite, 2020).

A diver falls one row a step through an N x N grid and drifts left or right. Which action is "right" is drawn for each
cell. Right costs 0.01 / N; right in the last column, reached only by N - 1 rights in a row, pays 1. The optimum is
0.99; uniformly random actions see the reward once in 2^N episodes.

Shapes: E divers, N rows and columns.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy import ndarray
from numpy.random import Generator

from bayesrl.envs.spaces import OneHot

COST = 0.01


def right_actions(size: int, seed: int, randomize_actions: bool) -> ndarray:
    """Return the action that moves right in each cell, [N, N], as bsuite's `mapping_seed` gives it."""
    if size < 1:
        raise ValueError(f"got size={size}, wanted at least 1 row; 10 is the usual DeepSea")
    if not randomize_actions:
        return np.ones((size, size), dtype=np.int64)
    return np.random.RandomState(seed).binomial(1, 0.5, [size, size])


def observe(size: int, row: ndarray, column: ndarray) -> ndarray:
    """Return one-hot grids [E, N, N] uint8 of positions [E]; below the last row they are all zeros."""
    grid = np.zeros((len(row), size + 1, size), dtype=np.uint8)
    grid[np.arange(len(row)), row, column] = 1
    return grid[:, :size]


def dive(mapping: ndarray, row: ndarray, column: ndarray, action: ndarray, gusts: Generator | None) -> tuple:
    """Return the next columns [E] and rewards [E] of E divers, with rewards summed in bsuite's order.

    Arguments:
        mapping: the action that moves right in each cell, [N, N].
        row, column, action: [E] int64.
        gusts: source of failed moves and noisy ends, or None for the deterministic sea.
    """
    if ((action < 0) | (action > 1)).any():
        raise ValueError(f"got actions {action}, wanted 0 or 1 from every environment; sample them from action_space")
    last = len(mapping) - 1
    right = action == mapping[row, column]
    moves = right
    reward = np.where(right & (column == last), 1.0, 0.0)
    if gusts is not None:
        end = (row == last) & ((column == 0) | (column == last))
        reward += np.where(end, gusts.standard_normal(len(row)), 0.0)
        moves = right & (gusts.random(len(row)) > 1 / len(mapping))
    # Right has its cost also where the wall or a gust stops the diver.
    reward -= np.where(right, COST / len(mapping), 0.0)
    drift = np.where(right, moves, -1)
    return np.clip(column + drift, 0, last), reward


def spaces(size: int) -> tuple[OneHot, Discrete]:
    """Return the spaces of observations and actions for one diver."""
    return OneHot((size, size)), Discrete(2)


class DeepSea(gym.Env):
    """One diver. An episode is N steps and then terminated, never truncated.

    Arguments:
        size: N.
        seed: of the mapping from actions to directions; not of the episodes, which `reset` seeds.
        stochastic: right fails with probability 1/N, and N(0, 1) noise comes on top at both bottom corners.
        randomize_actions: False makes action 1 right everywhere, an easier problem.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, size: int = 10, seed: int = 0, stochastic: bool = False, randomize_actions: bool = True) -> None:
        self.mapping, self.stochastic = right_actions(size, seed, randomize_actions), stochastic
        self.observation_space, self.action_space = spaces(size)
        self.row, self.column = np.full(1, size), np.zeros(1, dtype=np.int64)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.column = np.zeros_like(self.row), np.zeros_like(self.column)
        return self._observation(), {}

    def step(self, action: int) -> tuple[ndarray, float, bool, bool, dict]:
        if self.row[0] == len(self.mapping):
            raise ValueError("got a step outside an episode, wanted reset first; call reset() after terminated")
        gusts = self.np_random if self.stochastic else None
        self.column, reward = dive(self.mapping, self.row, self.column, np.array([action]), gusts)
        self.row = self.row + 1
        return self._observation(), float(reward[0]), bool(self.row[0] == len(self.mapping)), False, {}

    def _observation(self) -> ndarray:
        return observe(len(self.mapping), self.row, self.column)[0]


class DeepSeaVector(VectorEnv):
    """E divers in one array, each reset in the step that ends its episode; arguments as DeepSea's, one mapping."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        size: int = 10,
        seed: int = 0,
        stochastic: bool = False,
        randomize_actions: bool = True,
    ) -> None:
        self.num_envs, self.stochastic = num_envs, stochastic
        self.mapping = right_actions(size, seed, randomize_actions)
        self.single_observation_space, self.single_action_space = spaces(size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.row, self.column = np.zeros(num_envs, dtype=np.int64), np.zeros(num_envs, dtype=np.int64)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.row, self.column = np.zeros_like(self.row), np.zeros_like(self.column)
        return observe(len(self.mapping), self.row, self.column), {}

    def step(self, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray, dict]:
        size, gusts = len(self.mapping), self.np_random if self.stochastic else None
        actions = np.asarray(actions).reshape(self.num_envs)
        self.column, reward = dive(self.mapping, self.row, self.column, actions, gusts)
        self.row = self.row + 1
        obs, done, infos = observe(size, self.row, self.column), self.row == size, {}
        if done.any():
            infos = {"final_obs": np.full(self.num_envs, None, dtype=object), "_final_obs": done.copy()}
            for i in np.flatnonzero(done):
                infos["final_obs"][i] = obs[i].copy()
            self.row, self.column = np.where(done, 0, self.row), np.where(done, 0, self.column)
            obs = observe(size, self.row, self.column)
        return obs, reward, done, np.zeros_like(done), infos

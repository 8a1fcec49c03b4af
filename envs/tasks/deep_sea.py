"""DeepSea: only one path of N steps is rewarded, and the first steps of every other path cost less.

(Osband et al., bsuite, 2020.) A diver sinks by one row per step through an N x N grid and moves to the left or to the
right. Which action means "right" is drawn for each cell. A move to the right costs 0.01 / N; in the last column, which
only N - 1 consecutive moves to the right reach, it also has the reward 1. The optimal return is 0.99; uniformly random
actions find the reward once in 2^N episodes.

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


def move(mapping: ndarray, row: ndarray, column: ndarray, action: ndarray, rng: Generator | None) -> tuple:
    """Return the next columns [E] and rewards [E] of E divers, with rewards summed in bsuite's order.

    Arguments:
        mapping: action that moves to the right in each cell, [N, N].
        row, column, action: [E] int64.
        rng: generator of failed moves and of noise at the end, or None for the deterministic task.
    """
    if ((action < 0) | (action > 1)).any():
        raise ValueError(f"got actions {action}, wanted 0 or 1 from every environment; sample them from action_space")
    last = len(mapping) - 1
    right = action == mapping[row, column]
    moves = right
    reward = np.where(right & (column == last), 1.0, 0.0)
    if rng is not None:
        end = (row == last) & ((column == 0) | (column == last))
        reward += np.where(end, rng.standard_normal(len(row)), 0.0)
        moves = right & (rng.random(len(row)) > 1 / len(mapping))
    # Right has its cost also where the wall or chance stops the diver.
    reward -= np.where(right, COST / len(mapping), 0.0)
    return np.clip(column + np.where(right, moves, -1), 0, last), reward


def spaces(size: int) -> tuple[OneHot, Discrete]:
    """Return the spaces of observations and actions for one diver."""
    return OneHot((size, size)), Discrete(2)


class DeepSea(gym.Env):
    """One diver; an episode is terminated after N steps and never truncated.

    Arguments:
        size: number of rows and columns, N.
        seed: seed of the mapping from actions to directions; `reset` seeds the episodes.
        stochastic: whether a move to the right fails with probability 1 / N and rewards at both bottom corners have
            noise from N(0, 1).
        randomize_actions: whether the mapping is random; otherwise action 1 moves to the right everywhere.
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
        rng = self.np_random if self.stochastic else None
        self.column, reward = move(self.mapping, self.row, self.column, np.array([action]), rng)
        self.row = self.row + 1
        return self._observation(), float(reward[0]), bool(self.row[0] == len(self.mapping)), False, {}

    def _observation(self) -> ndarray:
        return observe(len(self.mapping), self.row, self.column)[0]


class DeepSeaVector(VectorEnv):
    """E divers in one array, with one mapping; the arguments are those of DeepSea."""

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
        size, rng = len(self.mapping), self.np_random if self.stochastic else None
        actions = np.asarray(actions).reshape(self.num_envs)
        self.column, reward = move(self.mapping, self.row, self.column, actions, rng)
        self.row = self.row + 1
        obs, done, infos = observe(size, self.row, self.column), self.row == size, {}
        if done.any():
            infos = {"final_obs": np.full(self.num_envs, None, dtype=object), "_final_obs": done.copy()}
            for i in np.flatnonzero(done):
                infos["final_obs"][i] = obs[i].copy()
            self.row, self.column = np.where(done, 0, self.row), np.where(done, 0, self.column)
            obs = observe(size, self.row, self.column)
        return obs, reward, done, np.zeros_like(done), infos

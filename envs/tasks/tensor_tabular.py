"""DeepSea and RiverSwim in tensors: the tables of their host versions, observations and rewards the same.

They differ from those in the random numbers of a seed and in that rewards are float32.

Shapes: E environments, N rows and columns, S states, A actions.
"""

from __future__ import annotations

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from bayesrl.envs.spaces import OneHot
from bayesrl.envs.tasks.deep_sea import COST, right_actions
from bayesrl.envs.tasks.river_swim import river
from bayesrl.envs.vector.noise import normal
from bayesrl.envs.vector.tensor_env import State, TensorEnv


class TensorDeepSea(TensorEnv):
    """E divers; arguments as DeepSea's, one mapping from actions to directions."""

    single_action_space = Discrete(2)

    def __init__(
        self,
        num_envs: int = 1,
        size: int = 10,
        seed: int = 0,
        stochastic: bool = False,
        randomize_actions: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size, self.stochastic = size, stochastic
        mapping = right_actions(size, seed, randomize_actions)
        self.single_observation_space = OneHot((size, size))
        self.min_episode_steps, self.step_noise = size, 2 if stochastic else 0
        super().__init__(num_envs, device=device)
        self.mapping = torch.from_numpy(mapping).flatten().to(self.device)

    def initial(self, noise: Tensor) -> State:
        start = torch.zeros(len(noise), dtype=torch.int64, device=noise.device)
        return start, start

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        row, column = state
        last = self.size - 1
        right = action == self.mapping[row * self.size + column]
        moves, reward = right, (right & (column == last)).float() - right * (COST / self.size)
        if self.stochastic:
            gust, wave = noise.unbind(1)
            moves = right & (gust > 1 / self.size)
            end = (row == last) & ((column == 0) | (column == last))
            reward = reward + end * normal(wave)
        column = (column + torch.where(right, moves.long(), -1)).clamp(0, last)
        return (row + 1, column), reward, row == last

    def observe(self, state: State) -> Tensor:
        row, column = state
        cell = (row * self.size + column).clamp(max=self.size**2 - 1)
        grid = torch.zeros(len(row), self.size**2, dtype=torch.uint8, device=row.device)
        return grid.scatter(1, cell[:, None], (row < self.size)[:, None].byte()).view(-1, self.size, self.size)

    def features(self, state: State) -> Tensor:
        """The index of the one in `observe`'s grid, found without the grid."""
        row, column = state
        return torch.where(row < self.size, row * self.size + column, self.size**2)[:, None]


class TensorRiverSwim(TensorEnv):
    """E swimmers; arguments as RiverSwim's."""

    single_action_space = Discrete(2)
    max_episode_steps = 120
    step_noise = 1

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        size: int = 6,
        device: torch.device | str = "cpu",
    ) -> None:
        flow, reward = river(size)
        self.single_observation_space = Discrete(size)
        super().__init__(num_envs, max_episode_steps, device)
        # Thresholds between next states: the last, 1, would only round.
        self.steps = torch.from_numpy(flow.cumsum(-1)[..., :-1]).float().flatten(0, 1).to(self.device)
        self.rewards = torch.from_numpy(reward).float().flatten().to(self.device)

    def initial(self, noise: Tensor) -> State:
        return (torch.zeros(len(noise), dtype=torch.int64, device=noise.device),)

    def dynamics(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Tensor, Tensor]:
        cell = 2 * state[0] + action
        after = (noise >= self.steps[cell]).sum(1)
        return (after,), self.rewards[cell], torch.zeros_like(cell, dtype=torch.bool)

    def observe(self, state: State) -> Tensor:
        return state[0]

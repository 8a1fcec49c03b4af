"""Conversion of an agent's output to an environment's action: one object per kind of action space.

Shapes: E environments; A actions, or numbers of one continuous action.
"""

from __future__ import annotations

from math import prod

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # lower and upper bound of each of the A numbers
MAX_COMBINATIONS = 4096  # of a MultiDiscrete


class DiscreteActions:
    """Actions of Discrete(n, start): agents emit [E] int64 from 0 to A - 1.

    Attributes:
        count: A.
        bounds: None.
    """

    bounds: Bounds | None = None

    def __init__(self, space: Discrete) -> None:
        self.count, self.start = int(space.n), int(space.start)

    def __call__(self, action: Tensor) -> Tensor:
        """Return the environment's actions [E] from an agent's [E]."""
        return action + self.start

    def blank(self, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
        """Return zeros of the shape and dtype that an agent emits."""
        return torch.zeros(num_envs, dtype=torch.int64, device=device)

    def sample(self, rng: np.random.Generator, info: dict):
        """Return a random action for one environment's `step`, among those that `info["action_mask"]` allows."""
        mask = np.asarray(info.get("action_mask", np.ones(self.count)), dtype=bool)
        return int(self.start + rng.choice(np.flatnonzero(mask)))


class MultiDiscreteActions(DiscreteActions):
    """Actions of MultiDiscrete(nvec, start): agents emit the number [E] int64 of one of A = prod(nvec) combinations.

    The last component varies fastest. One number stands for all components, because the maximum of Q-learning is then
    exact; a head for each component would assume that Q is a sum over components. `info["action_mask"]` has one entry
    for each combination: `allowed.ravel()` of [*nvec].
    """

    def __init__(self, space: MultiDiscrete) -> None:
        self.space, self.count = space, prod(space.nvec.ravel().tolist())
        if self.count > MAX_COMBINATIONS:
            raise ValueError(
                f"got {space} with {self.count:,} combinations, wanted at most {MAX_COMBINATIONS:,}, because each "
                "is an action to learn of; leave components out or make them coarser"
            )
        parts = np.unravel_index(np.arange(self.count), space.nvec.ravel())
        table = np.stack(parts, -1).reshape(-1, *space.shape) + space.start
        self.table = torch.from_numpy(table.astype(space.dtype))  # [A, *space.shape]

    def __call__(self, action: Tensor) -> Tensor:
        """Return the environment's actions [E, *space.shape] from an agent's [E]."""
        return self.table.to(action.device)[action]

    def sample(self, rng: np.random.Generator, info: dict):
        """Return a random combination for one environment's `step`, among those that `info["action_mask"]` allows."""
        mask = np.asarray(info.get("action_mask", np.ones(self.count)), dtype=bool)
        return self.table[rng.choice(np.flatnonzero(mask))].numpy()


class BoxActions:
    """Actions of a bounded Box: agents emit [E, A] float32, clipped to [-1, 1]; -1 stands for `low` and 1 for `high`.

    Attributes:
        count: A.
        bounds: `low` and `high`, in the environment's units.
    """

    def __init__(self, space: Box) -> None:
        self.space, self.count = space, prod(space.shape)
        self.low, self.high = (torch.from_numpy(bound.ravel()) for bound in (space.low, space.high))
        self.bounds: Bounds | None = (tuple(self.low.tolist()), tuple(self.high.tolist()))

    def __call__(self, action: Tensor) -> Tensor:
        """Return the environment's actions [E, *space.shape], in its dtype, from an agent's [E, A]."""
        low, high = self.low.to(action.device), self.high.to(action.device)
        # lerp in the dtype of the Box is exact at both ends, so that no number falls outside.
        own = torch.lerp(low, high, ((action.clamp(-1, 1) + 1) / 2).to(low.dtype))
        return own.view(len(action), *self.space.shape)

    def blank(self, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
        """Return zeros of the shape and dtype that an agent emits."""
        return torch.zeros(num_envs, self.count, device=device)

    def sample(self, rng: np.random.Generator, info: dict):
        """Return a random action for one environment's `step`."""
        return self(torch.as_tensor(rng.uniform(-1, 1, (1, self.count)), dtype=torch.float32))[0].numpy()


def actions(space: gym.Space) -> DiscreteActions | MultiDiscreteActions | BoxActions:
    """Return the conversion for an action space.

    Raises:
        ValueError: agents cannot use this kind of space, or its bounds.
    """
    if isinstance(space, Discrete):
        return DiscreteActions(space)
    if isinstance(space, MultiDiscrete):
        return MultiDiscreteActions(space)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and prod(space.shape) > 0:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
            raise ValueError(
                f"got {space}, wanted finite bounds with low < high, because agents act between them; give the Box the "
                "least and greatest action that make sense"
            )
        return BoxActions(space)
    raise ValueError(
        f"got {space}, wanted Discrete, MultiDiscrete or a Box of floats; number the combinations with "
        "gymnasium.wrappers.TransformAction(env, lambda i: table[i], gymnasium.spaces.Discrete(n))"
    )

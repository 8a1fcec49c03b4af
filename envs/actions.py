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

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # least and greatest of each of the A numbers
MOST = 4096  # actions that a MultiDiscrete may come to


class Numbered:
    """Discrete(n, start): agents emit [E] int64 from 0 to A - 1.

    Attributes:
        count: A.
        bounds: None, as actions have no size.
    """

    bounds: Bounds | None = None

    def __init__(self, space: Discrete) -> None:
        self.count, self.start = int(space.n), int(space.start)

    def __call__(self, action: Tensor) -> Tensor:
        """The environment's own: [E] -> [E]."""
        return action + self.start

    def blank(self, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
        """Return zeros of the shape and dtype that an agent emits."""
        return torch.zeros(num_envs, dtype=torch.int64, device=device)

    def sample(self, rng: np.random.Generator, info: dict):
        """A random action of one environment, as the environment takes it, allowed by `info["action_mask"]`."""
        mask = np.asarray(info.get("action_mask", np.ones(self.count)), dtype=bool)
        return int(self.start + rng.choice(np.flatnonzero(mask)))


class Combined(Numbered):
    """MultiDiscrete(nvec, start): its A = prod(nvec) combinations are numbered, [E] int64, the last component fastest.

    One number for all, because the maximum of Q-learning is then exact; a head for each component would take Q for
    a sum over components. `info["action_mask"]` has one entry for each combination: `allowed.ravel()` of [*nvec].
    """

    def __init__(self, space: MultiDiscrete) -> None:
        self.space, self.count = space, prod(space.nvec.ravel().tolist())
        if self.count > MOST:
            raise ValueError(
                f"got {space} with {self.count:,} combinations, wanted at most {MOST:,}, because each is an action to "
                "learn of; leave components out or make them coarser"
            )
        parts = np.unravel_index(np.arange(self.count), space.nvec.ravel())
        table = np.stack(parts, -1).reshape(-1, *space.shape) + space.start
        self.table = torch.from_numpy(table.astype(space.dtype))  # [A, *space.shape]

    def __call__(self, action: Tensor) -> Tensor:
        """The environment's own: [E] -> [E, *space.shape]."""
        return self.table.to(action.device)[action]

    def sample(self, rng: np.random.Generator, info: dict):
        """A random combination, as the environment takes it, allowed by `info["action_mask"]`."""
        mask = np.asarray(info.get("action_mask", np.ones(self.count)), dtype=bool)
        return self.table[rng.choice(np.flatnonzero(mask))].numpy()


class Scaled:
    """A bounded Box: agents emit [E, A] float32 in [-1, 1], of which -1 is its low and 1 its high; beyond is clipped.

    Attributes:
        count: A.
        bounds: of each number, in the environment's units.
    """

    def __init__(self, space: Box) -> None:
        self.space, self.count = space, prod(space.shape)
        self.low, self.high = (torch.from_numpy(bound.ravel()) for bound in (space.low, space.high))
        self.bounds: Bounds | None = (tuple(self.low.tolist()), tuple(self.high.tolist()))

    def __call__(self, action: Tensor) -> Tensor:
        """The environment's own: [E, A] -> [E, *space.shape], of its dtype."""
        low, high = self.low.to(action.device), self.high.to(action.device)
        # In the Box's own dtype, and by lerp, which is exact at both ends: no number may fall outside.
        own = torch.lerp(low, high, ((action.clamp(-1, 1) + 1) / 2).to(low.dtype))
        return own.view(len(action), *self.space.shape)

    def blank(self, num_envs: int, device: torch.device | str = "cpu") -> Tensor:
        """Return zeros of the shape and dtype that an agent emits."""
        return torch.zeros(num_envs, self.count, device=device)

    def sample(self, rng: np.random.Generator, info: dict):
        """A random action of one environment, as the environment takes it."""
        return self(torch.as_tensor(rng.uniform(-1, 1, (1, self.count)), dtype=torch.float32))[0].numpy()


def actions(space: gym.Space) -> Numbered | Combined | Scaled:
    """The object for an action space.

    Raises:
        ValueError: a kind of space, or bounds, for which there is none.
    """
    if isinstance(space, Discrete):
        return Numbered(space)
    if isinstance(space, MultiDiscrete):
        return Combined(space)
    if isinstance(space, Box) and np.issubdtype(space.dtype, np.floating) and prod(space.shape) > 0:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
            raise ValueError(
                f"got {space}, wanted finite bounds with low < high, because agents act between them; give the Box the "
                "least and greatest action that make sense"
            )
        return Scaled(space)
    raise ValueError(
        f"got {space}, wanted Discrete, MultiDiscrete or a Box of floats; number the combinations with "
        "gymnasium.wrappers.TransformAction(env, lambda i: table[i], gymnasium.spaces.Discrete(n))"
    )

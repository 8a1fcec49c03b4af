"""Types that pass between an agent and its environments.

Shapes: E environments, A actions (or numbers of a continuous one), B batch, n draws.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class EnvSpec(NamedTuple):
    """The properties of environments that an agent must know before the first step.

    Attributes:
        shape: of one observation as the agent sees it; Dict observations are flat.
        dtype: torch.float32; torch.uint8 for pixels; torch.int64 for indices of the ones in a binary vector.
        actions: A, the number of discrete actions, or of numbers in a continuous one.
        num_envs: E.
        categories: length of that binary vector; its own value as an index points to nothing. 0 without indices.
        masked: environments give `info["action_mask"]`.
        bounds: of a continuous action, the least and the greatest of each of its A numbers in the environments' units,
            ((A), (A)), which an agent emits as -1 and 1; None where actions are discrete.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    actions: int
    num_envs: int = 1
    categories: int = 0
    masked: bool = False
    bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None


class Transition(NamedTuple):
    """One step of E environments, tensors on the agent's device.

    Attributes:
        obs: what was acted on, [E, *shape].
        action: [E] int64, or [E, A] float32 in [-1, 1] where continuous.
        reward: [E].
        terminated: the episode ended in the world itself, [E] bool: its value beyond is zero.
        truncated: the episode was cut, [E] bool: its value beyond is bootstrapped.
        next_obs: the true next observation, also where an episode ended, [E, *shape].
        valid: False where the step was only a reset, [E] bool: never learned from, never counted.
        next_mask: actions allowed at next_obs, [E, A] bool, or None.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: Tensor
    valid: Tensor
    next_mask: Tensor | None = None


class Forecast(NamedTuple):
    """Draws of Q at some observations, in return units.

    Attributes:
        q: [n, B, A]; [n, B, 1], each draw's value of its own action, where actions are continuous.
        kl: of the weights' posterior from the prior in nats, 0-d; NaN where there is none.
        degenerate: the posterior is one function by construction, so that a spread of zero is no news.
    """

    q: Tensor
    kl: Tensor
    degenerate: bool = False

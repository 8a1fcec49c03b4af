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
        shape: the shape of one observation as the agent receives it; Dict observations are flat.
        dtype: the dtype of observations: torch.float32, torch.uint8 for pixels, or torch.int64 for indices of the ones
            in a binary vector.
        actions: A, the number of discrete actions, or of numbers in a continuous one.
        num_envs: E, the number of environments.
        categories: the length of that binary vector, which as an index stands for none of its ones; 0 without indices.
        masked: whether environments give `info["action_mask"]`.
        bounds: the least and the greatest value of each number of a continuous action in the environments' units,
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
        obs: the observations acted on, [E, *shape].
        action: the actions, [E] int64, or [E, A] float32 in [-1, 1] where continuous.
        reward: the rewards, [E].
        terminated: whether the episode terminated, so that the value of next_obs is zero, [E] bool.
        truncated: whether the episode was truncated, so that the value of next_obs is bootstrapped, [E] bool.
        next_obs: the next observations, at the end of an episode its final one, [E, *shape].
        valid: False where the step was only a reset, which is not learned from or counted, [E] bool.
        next_mask: the actions allowed at next_obs, [E, A] bool, or None.
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
        q: the Q-values of each draw, [n, B, A]; with continuous actions, of the draw's own action, [n, B, 1].
        kl: the KL divergence of the weights' posterior from the prior in nats, 0-d; NaN if it is not defined.
        degenerate: whether the posterior is a single function by construction, so that its draws cannot differ.
    """

    q: Tensor
    kl: Tensor
    degenerate: bool = False

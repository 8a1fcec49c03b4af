"""Windows: the last W observations of an episode as one input, which makes a function of the past one of an input.

    window_t = [(1, obs_{t-W+1}), ..., (1, obs_t)]         (0, 0) for what lies before the episode's first observation

Flat, oldest first, [B, W, 1 + prod(shape)], each observation after its flag. A posterior over functions of windows is
one over recurrent networks: it needs to know nothing of it, and equal z stays the same function. The memory holds no
hidden states that could be out of date, because the whole window is burnt in (Kapturowski et al., Recurrent Experience
Replay in Distributed Reinforcement Learning, 2019). Shapes: E environments, B batch, W observations.
"""

from __future__ import annotations

import torch
from torch import Tensor


def window(obs: Tensor, real: Tensor) -> Tensor:
    """Observations [B, W, *shape], of which `real` [B, W] are the episode's -> [B, W, 1 + prod(shape)], their dtype."""
    flag = real.to(obs.dtype)[..., None]
    return torch.cat([flag, flag * obs.flatten(2)], -1)


def follow(seen: Tensor | None, obs: Tensor, start: Tensor, W: int) -> Tensor:
    """The windows [E, W, *] that end in obs [E, *shape], after those one step before; begun anew where `start` [E]."""
    newest = window(obs[:, None], torch.ones_like(start)[:, None])
    if seen is None:
        seen = newest.new_zeros(len(obs), W, newest.shape[-1])
    return torch.cat([seen[:, 1:] * ~start[:, None, None], newest], 1)

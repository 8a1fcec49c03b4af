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
    """Return windows [B, W, 1 + prod(shape)] of the dtype of obs [B, W, *shape]; `real` [B, W] marks the episode's."""
    flag = real.to(obs.dtype)[..., None]
    return torch.cat([flag, flag * obs.flatten(2)], -1)


def append(windows: Tensor | None, obs: Tensor, episode_start: Tensor, W: int) -> Tensor:
    """Return the windows [E, W, *] that end in obs [E, *shape]: those of the step before, shifted by one.

    Arguments:
        windows: those of the step before, [E, W, *], or None at first.
        obs: [E, *shape].
        episode_start: where a window begins anew, [E] bool.
        W: observations of a window.
    """
    newest = window(obs[:, None], torch.ones_like(episode_start)[:, None])
    if windows is None:
        windows = newest.new_zeros(len(obs), W, newest.shape[-1])
    return torch.cat([windows[:, 1:] * ~episode_start[:, None, None], newest], 1)

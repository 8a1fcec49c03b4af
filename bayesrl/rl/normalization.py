"""Normalization: observations to zero mean and unit variance, returns to unit scale.

Networks are initialized for standardized inputs and prior scales are in return units, so one set of defaults serves
rewards of 0.01 and of 100. Statistics are running averages over all transitions, and part of the agent's state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrl.rl.types import EnvSpec, Transition


class Normalizer(nn.Module):
    """Running normalization of observations and returns.

        x = clip((obs - mean) / std, -10, 10);   y = return / c,   c = max(1, RMS of running discounted sums of rewards)

    Indices stay as they are. Pixels share the statistics of their channel: scaled to [0, 1] alone, images that are
    mostly black would hardly differ. Returns are never magnified, because a task that has shown only small costs may
    hide a large reward.

    Arguments:
        spec: the properties of the environments.
        discount: gamma, the discount factor of the sums of rewards.
        observations: whether to standardize observations; without, pixels are divided by 255.
        returns: whether to scale returns.
    """

    mean: Tensor
    square: Tensor
    count: Tensor
    running: Tensor
    returns_square: Tensor
    shift: Tensor
    gain: Tensor
    scale: Tensor

    def __init__(self, spec: EnvSpec, discount: float, observations: bool = True, returns: bool = True) -> None:
        super().__init__()
        self.discount, self.returns, self.shape = discount, returns, spec.shape
        pixels = spec.dtype == torch.uint8
        self.standardize = observations and spec.dtype != torch.int64
        self.is_identity = not (self.standardize or pixels)
        shape = spec.shape[2:] if pixels else spec.shape if self.standardize else ()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("square", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros(spec.num_envs, dtype=torch.float64))
        self.register_buffer("returns_square", torch.zeros((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("gain", torch.full(shape, 1 / 255 if pixels else 1.0))
        self.register_buffer("scale", torch.ones(()))

    def observe(self, transition: Transition) -> None:
        """Update the statistics from one step of every environment; invalid transitions are ignored."""
        valid = transition.valid.double()
        self.count.add_(valid.sum())
        rate = valid / self.count.clamp(min=1)  # [E]
        keep = 1 - rate.sum()
        if self.standardize:
            # Welford's update, so that a large offset costs no precision; `square` is the running variance.
            mean, square = self.mean, self.square
            values = transition.obs.reshape(-1, mean.numel())  # pixels as so many observations of their channels
            per = len(values) // len(rate)
            share = rate if per == 1 else rate.repeat_interleave(per) / per
            delta = values - mean.flatten()
            step = share @ delta
            squared = share @ (delta * (delta - step))
            square.mul_(keep).add_(squared.view_as(square))
            self.shift.copy_(mean.add_(step.view_as(mean)))
            self.gain.copy_(square.clamp(min=1e-8).rsqrt_())
        if self.returns:
            running, square = self.running, self.returns_square
            running.mul_(self.discount).add_(transition.reward)
            square.mul_(keep).add_(rate @ running.square())
            # One comparison of flags: going on is to be valid and not to have ended.
            running.mul_(transition.valid > (transition.terminated | transition.truncated))
            self.scale.copy_(square.sqrt().clamp_(min=1.0))

    def obs(self, obs: Tensor) -> Tensor:
        """Return normalized observations: float, or int64 indices as they are.

        Arguments:
            obs: observations [B, *shape] in the environment's dtype, or windows of them [B, W, 1 + prod(shape)], whose
                flags stay.
        """
        if self.is_identity:
            return obs
        shift, gain = self.shift, self.gain
        if obs.shape[1:] != self.shape:
            shift = nn.functional.pad(shift.expand(self.shape).flatten(), (1, 0))
            gain = nn.functional.pad(gain.expand(self.shape).flatten(), (1, 0), value=1.0)
        return ((obs - shift) * gain).clamp(-10, 10)

"""Automatic scales: observations to zero mean and unit variance, returns to unit size.

Networks are initialised for standardised inputs and prior scales are in return units, so one set of defaults serves
rewards of 0.01 and of 100. Statistics are running averages over everything seen, and part of the agent's state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrl.agent import EnvSpec, Transition


class Scaling(nn.Module):
    """x = clip((obs - mean) / sd, +-10), or obs / 255 for pixels, or obs itself where indices; y = return / c.

    c = max(1, root mean square of the running discounted sums of rewards): rewards are never magnified, because a
    task that has shown only small costs may hide a large reward.

    Arguments:
        spec: of the environments.
        discount: gamma.
        observations, returns: whether to scale them at all.
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
        self.discount, self.returns = discount, returns
        self.standardise = observations and spec.dtype.is_floating_point
        self.pixels = spec.dtype == torch.uint8
        shape = spec.shape if self.standardise else ()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("square", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros(spec.num_envs, dtype=torch.float64))
        self.register_buffer("returns_square", torch.zeros((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("gain", torch.ones(shape))
        self.register_buffer("scale", torch.ones(()))

    def observe(self, transition: Transition) -> None:
        """Take in one step of every environment; invalid ones count for nothing."""
        valid = transition.valid.double()
        self.count.add_(valid.sum())
        rate = valid / self.count.clamp(min=1)  # [E]
        keep = 1 - rate.sum()
        if self.standardise:
            # Welford's update, so that a large offset costs no precision; `square` is the running variance.
            mean, square = self.mean, self.square
            delta = (transition.obs - mean).flatten(1)
            step = rate @ delta
            spread = rate @ (delta * (delta - step))
            square.mul_(keep).add_(spread.view_as(square))
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
        """What the network sees: [B, *shape] of the environment's dtype -> [B, *shape] float, or int64 indices."""
        if self.standardise:
            return ((obs - self.shift) * self.gain).clamp(-10, 10)
        return obs.to(self.shift.dtype) / 255 if self.pixels else obs

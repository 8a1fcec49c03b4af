"""Temporal-difference targets as pure functions of draws, and how a target network follows the learner.

Shapes: n draws, B batch, A actions. Online and target network are evaluated at the same index z, so that draw z of the
target teaches draw z of the learner; this propagates uncertainty through the Bellman equation (Osband et al.,
2018; O'Donoghue et al., The Uncertainty Bellman Equation, 2018).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def greedy(q: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the allowed action of the greatest value: q [..., A], mask broadcastable to it -> [...] int64."""
    return (q if mask is None else q.masked_fill(~mask, -torch.inf)).argmax(-1)


def at(q: Tensor, action: Tensor) -> Tensor:
    """Return the values of the given actions: q [..., A], action [...] int64 -> [...]."""
    return q.gather(-1, action[..., None])[..., 0]


def bellman(reward: Tensor, discount: Tensor, value: Tensor) -> Tensor:
    """Return the n-step targets, [n, B].

    Arguments:
        reward: the discounted sums of the rewards, [B].
        discount: gamma^n, or 0 after termination, [B].
        value: the values of the observations after the steps, [n, B].
    """
    return reward + discount * value


def double_q(online: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the target network's value of the online network's greedy action, [n, B] (van Hasselt et al., 2016).

    Arguments:
        online: Q-values of the online network, [n, B, A].
        target: Q-values of the target network, [n, B, A].
        mask: allowed actions, [B, A] bool; None if all are.
    """
    return at(target, greedy(online, mask))


def max_q(online: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the target network's greatest value, [n, B] (Mnih et al., 2015); arguments as of `double_q`."""
    return at(target, greedy(target, mask))


class Polyak(nn.Module):
    """Update target <- target + tau (online - target) after every update of the learner (Lillicrap et al., 2016).

    Arguments:
        tau: the share of the difference that an update removes, in (0, 1].

    Raises:
        ValueError: tau is outside (0, 1].
    """

    def __init__(self, tau: float = 0.01) -> None:
        super().__init__()
        if not 0 < tau <= 1:
            raise ValueError(f"got tau={tau}, wanted a number in (0, 1]; 1 copies at every update")
        self.tau = tau

    def forward(self, target: Iterable[Tensor], online: Iterable[Tensor]) -> None:
        for old, new in zip(target, online, strict=True):
            old.lerp_(new, self.tau)


class Periodic(nn.Module):
    """Copy the learner's parameters into the target every `period` updates (Mnih et al., 2015).

    Arguments:
        period: the number of updates of the learner between two copies.

    Raises:
        ValueError: period is less than 1.
    """

    count: Tensor

    def __init__(self, period: int = 4) -> None:
        super().__init__()
        if period < 1:
            raise ValueError(f"got period={period}, wanted at least 1 update")
        self.period = period
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, target: Iterable[Tensor], online: Iterable[Tensor]) -> None:
        self.count.add_(1)
        copy = self.count % self.period == 0
        for old, new in zip(target, online, strict=True):
            old.copy_(torch.where(copy, new, old))

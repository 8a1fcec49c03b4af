"""Temporal-difference targets as pure functions of draws, and how a target network follows the learner.

Shapes: n draws, B batch, A actions. Online and target network are asked with the same index z, so that draw z of the
target teaches draw z of the learner: this is what propagates uncertainty through the Bellman equation (Osband et al.,
2018; O'Donoghue et al., The Uncertainty Bellman Equation, 2018).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def greedy(q: Tensor, mask: Tensor | None = None) -> Tensor:
    """The best allowed action: q [..., A], mask broadcastable to it -> [...] int64."""
    return (q if mask is None else q.masked_fill(~mask, -torch.inf)).argmax(-1)


def at(q: Tensor, action: Tensor) -> Tensor:
    """q [..., A] at action [...] -> [...]."""
    return q.gather(-1, action[..., None])[..., 0]


def bellman(reward: Tensor, discount: Tensor, value: Tensor) -> Tensor:
    """reward [B] (summed over the n steps), discount [B] (gamma^n, 0 after termination), value [n, B] -> [n, B]."""
    return reward + discount * value


def double_q(online: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The target's value of the online network's choice, [n, B, A] twice -> [n, B] (van Hasselt et al., 2016)."""
    return at(target, greedy(online, mask))


def max_q(online: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """The target network's own greatest value, [n, B, A] -> [n, B] (Mnih et al., 2015)."""
    return at(target, greedy(target, mask))


class Polyak(nn.Module):
    """Update target <- target + tau (online - target) after every update of the learner (Lillicrap et al., 2016).

    Arguments:
        tau: share of the way that the target goes, in (0, 1].
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
        period: updates of the learner between two copies.
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

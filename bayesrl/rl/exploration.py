"""Exploration: how draws of a posterior become actions, one object per scheme.

Shapes: E environments, A actions, k indices. Each environment keeps what it explores with until its episode ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrl.posteriors import Posterior
from bayesrl.rl.td import greedy
from bayesrl.rl.types import Transition


class Exploration(nn.Module):
    """Draws of a posterior -> actions; called with (posterior, x [E, *], start [E], mask [E, A] or None) -> [E].

    In two parts: `noise`, which is all that is random, and `decide`, a pure tensor function that can be captured.
    """

    def noise(self, posterior: Posterior, start: Tensor) -> tuple[Tensor, ...]:
        """Return the random numbers that decide this step, fresh where `start` [E] bool marks episodes that begin."""
        raise NotImplementedError

    def decide(self, posterior: Posterior, x: Tensor, mask: Tensor | None, *noise: Tensor) -> Tensor:
        """Actions [E] for inputs x [E, *]."""
        raise NotImplementedError

    def forward(self, posterior: Posterior, x: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.decide(posterior, x, mask, *self.noise(posterior, start))

    def observe(self, transition: Transition) -> None:
        """Take in one step of every environment; here nothing."""


class EpisodeIndex(Exploration):
    """Exploration that keeps indices z [E k, *] until their episodes end, saved with the agent."""

    z: Tensor | None = None

    def draw(self, posterior: Posterior, start: Tensor, k: int = 1) -> Tensor:
        """Return the indices, k for each environment, drawn anew where `start` [E] marks the begin of an episode."""
        if self.z is None:
            self.z = posterior.index(len(start) * k)
        # On a GPU this waits for `start`; it spares drawing for every environment at every step.
        elif len(rows := start.repeat_interleave(k).nonzero()[:, 0]):
            self.z.index_copy_(0, rows, posterior.index(len(rows)))
        return self.z

    def get_extra_state(self) -> dict:
        return {"z": self.z}

    def set_extra_state(self, state: dict) -> None:
        self.z = None if state["z"] is None else state["z"].clone()  # because `draw` writes into it


class Thompson(EpisodeIndex):
    """One draw an episode, acted on greedily (Thompson, 1933; Osband et al., Deep Exploration, 2019).

    Arguments:
        resample: probability to draw anew at a step inside an episode.
    """

    def __init__(self, resample: float = 0.0) -> None:
        super().__init__()
        if not 0 <= resample <= 1:
            raise ValueError(f"got resample={resample}, wanted a probability in [0, 1]")
        self.resample = resample

    def noise(self, posterior: Posterior, start: Tensor) -> tuple[Tensor, ...]:
        if self.resample:
            start = start | (torch.rand(len(start), device=start.device) < self.resample)
        return (self.draw(posterior, start),)

    def decide(self, posterior: Posterior, x: Tensor, mask: Tensor | None, *noise: Tensor) -> Tensor:
        (z,) = noise
        return greedy(posterior.likelihood.mean(posterior.paired(z, x)), mask)


class OptimisticIndexSampling(EpisodeIndex):
    """k draws an episode, acted on by a quantile of their values (Li et al., HyperAgent, 2024).

    Arguments:
        indices: k.
        quantile: of the k values of each action; 1 is their maximum.
    """

    def __init__(self, indices: int = 5, quantile: float = 0.8) -> None:
        super().__init__()
        if indices < 1 or not 0 <= quantile <= 1:
            raise ValueError(
                f"got indices={indices}, quantile={quantile}, wanted indices >= 1 and a quantile in [0, 1]"
            )
        self.indices, self.quantile = indices, quantile

    def noise(self, posterior: Posterior, start: Tensor) -> tuple[Tensor, ...]:
        return (self.draw(posterior, start, self.indices),)

    def decide(self, posterior: Posterior, x: Tensor, mask: Tensor | None, *noise: Tensor) -> Tensor:
        (z,) = noise
        q = posterior.likelihood.mean(posterior.paired(z, x.repeat_interleave(self.indices, 0)))
        return greedy(q.view(len(x), self.indices, -1).quantile(self.quantile, 1), mask)


class EpsilonGreedy(Exploration):
    """The posterior mean's choice, or with probability epsilon any allowed action.

    Arguments:
        start, end: epsilon at the first transition and from `decay` transitions on; linear between.
        decay: in transitions.
    """

    count: Tensor

    def __init__(self, start: float = 1.0, end: float = 0.05, decay: int = 5000) -> None:
        super().__init__()
        if not 0 <= end <= start <= 1 or decay < 1:
            raise ValueError(
                f"got start={start}, end={end}, decay={decay}, wanted 0 <= end <= start <= 1 and decay >= 1"
            )
        self.start, self.end, self.decay = start, end, decay
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def noise(self, posterior: Posterior, start: Tensor) -> tuple[Tensor, ...]:
        return (torch.rand(2, len(start), device=start.device),)

    def decide(self, posterior: Posterior, x: Tensor, mask: Tensor | None, *noise: Tensor) -> Tensor:
        epsilon = self.start + (self.end - self.start) * (self.count / self.decay).clamp(max=1.0)
        explore, which = noise[0]
        q = posterior.mean(x)
        allowed = torch.ones_like(q) if mask is None else mask.to(q.dtype)
        share = allowed.cumsum(-1) / allowed.sum(-1, keepdim=True)
        return torch.where(explore < epsilon, (share <= which[:, None]).sum(-1), greedy(q, mask))

    def observe(self, transition: Transition) -> None:
        """Count transitions; steps that were only resets are none."""
        self.count += transition.valid.sum()

"""Exploration: objects that turn draws of a posterior into actions.

Shapes: E environments, A actions, k indices, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayesrl.posteriors import Posterior
from bayesrl.rl.td import greedy
from bayesrl.rl.types import Transition


class Exploration(nn.Module):
    """Base class of exploration schemes.

    A call returns actions [E] for (posterior, x [E, *], start [E] bool, mask [E, A] bool or None). It has two parts:
    `noise` draws all random numbers, and `decide` is a pure tensor function, which can be compiled.
    """

    def noise(self, posterior: Posterior, start: Tensor) -> tuple[Tensor, ...]:
        """Return the random numbers of this step; `start` [E] bool marks the environments whose episode begins."""
        raise NotImplementedError

    def decide(self, posterior: Posterior, x: Tensor, mask: Tensor | None, *noise: Tensor) -> Tensor:
        """Return actions [E].

        Arguments:
            posterior: the posterior over Q-functions.
            x: normalized inputs, [E, *].
            mask: allowed actions, [E, A] bool; None if all are.
            noise: the tensors that `noise` returned.
        """
        raise NotImplementedError

    def forward(self, posterior: Posterior, x: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.decide(posterior, x, mask, *self.noise(posterior, start))

    def observe(self, transition: Transition) -> None:
        """Process one step of every environment; the default does nothing."""


class EpisodeIndex(Exploration):
    """Base class of schemes that keep indices z [E k, *] until the end of the episode; the agent's state holds them."""

    z: Tensor | None = None

    def draw(self, posterior: Posterior, start: Tensor, k: int = 1) -> Tensor:
        """Return indices [E k, *], drawn anew where `start` [E] bool marks the beginning of an episode."""
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
    """Thompson sampling: act greedily on one draw of the posterior for an episode.

    (Thompson, 1933; Osband et al., Deep Exploration via Randomized Value Functions, 2019.)

    Arguments:
        resample: the probability of a new draw at each step within an episode.

    Raises:
        ValueError: resample is no probability.
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
    """Optimistic index sampling: act greedily on a quantile over k draws, which are kept for an episode.

    (Li et al., HyperAgent, 2024.)

    Arguments:
        indices: k, the number of draws.
        quantile: the level of the quantile over the k values of each action; 1 takes their maximum.

    Raises:
        ValueError: indices is less than 1, or quantile is outside [0, 1].
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
    """Epsilon-greedy: act greedily on the posterior mean or, with probability epsilon, uniformly at random.

    Arguments:
        start: epsilon at the first transition.
        end: epsilon after `decay` transitions.
        decay: the number of transitions over which epsilon changes linearly.

    Raises:
        ValueError: start and end are no probabilities in falling order, or decay is less than 1.
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
        """Count the transitions; a step that only reset its environment is not counted."""
        self.count += transition.valid.sum()

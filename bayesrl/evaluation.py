"""Evaluation: greedy on the posterior mean, in environments of its own, touching no random state of training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesrl.agent import Agent
from bayesrl.rollout import Environments


class Evaluation(NamedTuple):
    """Returns of evaluation episodes.

    Attributes:
        returns: [episodes], undiscounted.
        lengths: [episodes], in transitions.
    """

    returns: np.ndarray
    lengths: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    def interval(self, level: float = 0.95, resamples: int = 10_000) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean (Efron, 1979)."""
        rng = np.random.default_rng(0)
        means = rng.choice(self.returns, (resamples, len(self.returns))).mean(1)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def evaluate(agent: Agent, envs: Environments, episodes: int, seed: int, limit: int = 30_000) -> Evaluation:
    """Play `episodes` greedy episodes; each environment plays its share, so that short ones are not preferred.

    An episode that a policy never ends counts as it stands after `limit` transitions, and is the last of its
    environment.
    """
    if episodes < 1:
        raise ValueError(f"got episodes={episodes}, wanted at least 1")
    E = envs.env.num_envs
    share = np.full(E, episodes // E) + (np.arange(E) < episodes % E)
    played = np.zeros(E, dtype=np.int64)
    returns, lengths, seen = [], [], None
    envs.reset(seed=seed)
    while (played < share).any():
        seen = agent.see(envs.obs, envs.start, seen)
        envs.step(agent.greedy(seen, envs.mask))
        for episode in envs.finished:
            if played[episode.env] < share[episode.env]:
                played[episode.env] += 1
                returns.append(episode.ret)
                lengths.append(episode.length)
        for i in np.flatnonzero((envs.lengths >= limit) & (played < share)):
            played[i] = share[i]
            returns.append(float(envs.returns[i]))
            lengths.append(int(envs.lengths[i]))
    return Evaluation(np.array(returns), np.array(lengths))

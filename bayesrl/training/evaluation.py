"""Evaluation: greedy on the posterior mean, in environments of its own, touching no random state of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayesrl.rl.agent import Agent
from bayesrl.training.vector_env import VectorEnvAdapter

LONGEST = 1000  # steps of an episode that are recorded


class Recording(NamedTuple):
    """The first evaluation episode of the first environment, at most its first `LONGEST` steps.

    Attributes:
        inputs: of the agent's decisions, observations or windows of them, [T, *].
        action: [T], or [T, A] where continuous.
        reward: [T].
        terminated: whether it ended in the world in these steps, so that the return after each of them is known.
    """

    inputs: Tensor
    action: Tensor
    reward: Tensor
    terminated: bool


class Evaluation(NamedTuple):
    """Returns of evaluation episodes.

    Attributes:
        returns: [episodes], undiscounted.
        lengths: [episodes], in transitions.
        first: one of the episodes itself, where it was kept.
    """

    returns: np.ndarray
    lengths: np.ndarray
    first: Recording | None = None

    @property
    def mean(self) -> float:
        return float(self.returns.mean())

    def interval(self, level: float = 0.95, resamples: int = 10_000) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean (Efron, 1979)."""
        rng = np.random.default_rng(0)
        means = rng.choice(self.returns, (resamples, len(self.returns))).mean(1)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def summary(self) -> str:
        """Return the mean in words, with its interval where there are several episodes."""
        low, high = self.interval()
        return f"{self.mean:.4g}" + (f" (95 % interval {low:.4g} to {high:.4g})" if len(self.returns) > 1 else "")

    @property
    def played(self) -> str:
        """How many there are, in words."""
        return f"{len(self.returns)} episode{'s' * (len(self.returns) > 1)}"


def evaluate(
    agent: Agent,
    envs: VectorEnvAdapter,
    episodes: int,
    seed: int,
    limit: int = 30_000,
    tick: Callable[[int], None] = lambda played: None,
) -> Evaluation:
    """Play `episodes` greedy episodes; each environment plays its share, so that short ones are not preferred.

    An episode that a policy never ends counts as it stands after `limit` transitions, and is the last of its
    environment. `tick` is called after each step with the episodes that have been played.
    """
    if episodes < 1:
        raise ValueError(f"got episodes={episodes}, wanted at least 1")
    E = envs.env.num_envs
    share = np.full(E, episodes // E) + (np.arange(E) < episodes % E)
    played = np.zeros(E, dtype=np.int64)
    returns, lengths, state = [], [], None
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    terminated, going = False, True
    envs.reset(seed=seed)
    while (played < share).any():
        inputs = agent.inputs(envs.obs, state, envs.start) if going else None
        action, state = agent.predict(envs.obs, state, envs.start, envs.mask)
        transition = envs.step(action)
        if inputs is not None:
            steps.append((inputs[0], action[0], transition.reward[0]))
            terminated = bool(transition.terminated[0])
            going = not (terminated or transition.truncated[0] or len(steps) == LONGEST)
        for episode in envs.finished:
            if played[episode.env] < share[episode.env]:
                played[episode.env] += 1
                returns.append(episode.ret)
                lengths.append(episode.length)
        for i in np.flatnonzero((envs.lengths >= limit) & (played < share)):
            played[i] = share[i]
            returns.append(float(envs.returns[i]))
            lengths.append(int(envs.lengths[i]))
        tick(len(returns))
    asked, action, reward = (torch.stack(part) for part in zip(*steps, strict=True))
    first = Recording(asked, action, reward, terminated)
    return Evaluation(np.array(returns), np.array(lengths), first)

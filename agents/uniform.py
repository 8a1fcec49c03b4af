"""`uniform`: any allowed action with equal probability, discrete or continuous; a baseline that does not learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from bayesrl.rl.agent import Agent
from bayesrl.rl.types import EnvSpec


class Uniform(Agent):
    """Uniformly random actions.

    Arguments:
        spec: the properties of the environments.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        self.spec = spec

    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.choose(torch.rand(len(obs), self.spec.actions, device=obs.device), mask)

    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return random actions that depend on the batch of observations alone."""
        seed = int(x.double().sum().abs().nan_to_num() * 1e6) % 2**31
        noise = torch.rand(len(x), self.spec.actions, generator=Generator().manual_seed(seed)).to(x.device)
        return self.choose(noise, mask)

    def sample(
        self,
        obs: Tensor,
        state: Any = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, None]:
        noise = torch.rand(len(obs), self.spec.actions, generator=generator, device=obs.device)
        return self.choose(noise, mask), None

    def choose(self, noise: Tensor, mask: Tensor | None) -> Tensor:
        """Return actions from uniform numbers on [0, 1), [E, A]."""
        if self.spec.bounds is not None:
            return 2 * noise - 1
        return (noise if mask is None else noise.masked_fill(~mask, -1)).argmax(-1)

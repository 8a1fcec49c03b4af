"""`uniform`: any allowed action with equal probability, discrete or continuous; the yardstick that learns nothing."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from bayesrl.rl.types import EnvSpec, Transition


class Uniform(nn.Module):
    """Uniformly random actions.

    Arguments:
        spec: of the environments.
    """

    replay = None

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        self.spec = spec

    def act(self, obs: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.choose(torch.rand(len(obs), self.spec.actions, device=obs.device), mask)

    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        return obs

    def observe(self, transition: Transition) -> None:
        pass

    def ready(self) -> bool:
        return False

    def learn(self) -> dict[str, Tensor]:
        return {}

    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Random too, from a generator of its own: the same for the same batch of observations."""
        seed = int(obs.double().sum().abs().nan_to_num() * 1e6) % 2**31
        noise = torch.rand(len(obs), self.spec.actions, generator=Generator().manual_seed(seed)).to(obs.device)
        return self.choose(noise, mask)

    def choose(self, noise: Tensor, mask: Tensor | None) -> Tensor:
        """From uniform numbers [E, A] on [0, 1)."""
        if self.spec.bounds is not None:
            return 2 * noise - 1
        return (noise if mask is None else noise.masked_fill(~mask, -1)).argmax(-1)

    def forecast(self, obs: Tensor, generator: Generator) -> None:
        return None

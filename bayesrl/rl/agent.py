"""The agent protocol.

Shapes: E environments, A actions (or numbers of a continuous one), B batch.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import Forecast, Transition


@runtime_checkable
class Agent(Protocol):
    """The protocol of an agent; `torch.nn.Module` supplies the state.

    Attributes:
        replay: the memory to save beside the state, or None.
    """

    replay: ReplayBuffer | None

    def act(self, obs: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions [E], or [E, A] in [-1, 1], for obs [E, *shape]; `start` [E] bool marks episodes that begin here."""

    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        """What `greedy` and `forecast` are asked with, [E, *]: obs itself, or with what came before in its episode.

        `seen` is what this gave for the step before, `start` [E] bool marks episodes that begin here.
        """

    def observe(self, transition: Transition) -> None:
        """Take in one step of every environment."""

    def ready(self) -> bool:
        """Whether there is enough to learn from."""

    def learn(self) -> dict[str, Tensor]:
        """One update; 0-d tensors for the log, at least `loss`."""

    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions [B], or [B, A], of the posterior mean for what `see` gave, [B, *]; touches no random state."""

    def forecast(self, obs: Tensor, generator: torch.Generator) -> Forecast | None:
        """Draws of Q at what `see` gave, [B, *], or None for an agent without values."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...

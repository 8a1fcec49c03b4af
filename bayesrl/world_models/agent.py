"""The base class of agents that learn a posterior over worlds."""

from __future__ import annotations

from bayesrl.rl.agent import Agent
from bayesrl.world_models.dynamics import Dynamics
from bayesrl.world_models.multi_step import MultiStepForecast


class ModelBasedAgent(Agent):
    """An agent with a posterior over worlds.

    Attributes:
        forecasts: the last multi-step forecast of an episode, made before the worlds learned from it; None at first.
    """

    forecasts: MultiStepForecast | None = None

    @property
    def dynamics(self) -> Dynamics:
        """The posterior over worlds."""
        raise NotImplementedError

"""The base class of agents that plan in learned worlds, by which others know them."""

from __future__ import annotations

from bayesrl.rl.agent import Agent
from bayesrl.world_models.dynamics import Dynamics
from bayesrl.world_models.multi_step import MultiStepForecast


class ModelBasedAgent(Agent):
    """An agent with a posterior over worlds.

    Attributes:
        forecasts: the newest episode's end as the worlds predicted it before they learned from it; None before that.
    """

    forecasts: MultiStepForecast | None = None

    @property
    def dynamics(self) -> Dynamics:
        """The posterior over worlds."""
        raise NotImplementedError

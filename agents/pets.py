"""`pets`: probabilistic ensembles with trajectory sampling, over any posterior. Each plan is scored in several worlds.

    a_t = first action of the plan that does best from s_t on average over S draws of the posterior, with their noise

The average over draws makes plans avoid what the draws disagree on; `Hallucinated` particles seek it, and `Expectation`
plans in the mean world.
(Chua et al., Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models, 2018.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from bayesrl.agents.psrl import PSRL
from bayesrl.posteriors import Learner
from bayesrl.rl.types import EnvSpec
from bayesrl.world_models.dynamics import Dynamics
from bayesrl.world_models.mpc import MPC
from bayesrl.world_models.planners import Planner
from bayesrl.world_models.propagation import TSinf


class PETS(PSRL):
    """Plan in new draws of the posterior at every step; learn as `PSRL` does.

    Arguments:
        spec: the properties of the environments, whose observations are vectors of numbers.
        posterior: the posterior over functions of the shapes that `signature` gives, with the likelihood `WithFlag`.
        planner: the search for a sequence of actions; `ImprovedCEM` by default.
        dynamics: maps (spec, posterior) to the dynamics, with known functions and temperatures.
        propagation: the rule by which particles move through worlds; `TSinf` by default.
        worlds: S, the greatest number of worlds that a plan is averaged over.
        updates: the number of updates of a fit.
        batch_size: B, the number of transitions of an update.
        capacity: the capacity of the replay buffer, in transitions.
        learning_starts: the number of steps stored before the first fit.
        every: the number of transitions of each environment after which to learn within an episode; None for never.
        evaluation: the propagation of greedy plans; `TSinf` by default, an average over the worlds.
    """

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        planner: Planner | None = None,
        dynamics: Callable[..., Dynamics] = Dynamics,
        propagation: TSinf | None = None,
        worlds: int = 5,
        updates: int = 2000,
        batch_size: int = 128,
        capacity: int = 100_000,
        learning_starts: int = 200,
        every: int | None = None,
        evaluation: TSinf | None = None,
    ) -> None:
        fits = (updates, batch_size, capacity, learning_starts, every, evaluation)
        super().__init__(spec, posterior, planner, dynamics, worlds, *fits)
        self.mpc = MPC(spec, self.dynamics, self.mpc.planner, propagation or TSinf())

    def worlds(self, episode_start: Tensor) -> tuple[Tensor, bool]:
        return self.draw_worlds(episode_start, None, None)

    def draw_worlds(self, episode_start: Tensor, z: Tensor | None, generator: Generator | None) -> tuple[Tensor, bool]:
        """Return S fresh worlds for each environment, with their noise."""
        draw, posterior = self.mpc.propagation.draw, self.dynamics.posterior
        return torch.cat([draw(posterior, self.count, generator) for _ in episode_start]), True

"""`psrl`: posterior-sampling reinforcement learning. Draw a world, plan in it for an episode, learn, draw again.

    z ~ posterior over worlds, at the start of an episode
    a_t = first action of the best plan from s_t in world z            model-predictive control, any planner

(Strens, A Bayesian Framework for Reinforcement Learning, 2000; Osband et al., 2013; with learned dynamics and planning
at every step: Fan & Ming, Model-Based Reinforcement Learning for Continuous Control with Posterior Sampling, 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayesrl.compilation.capture import preserve_state
from bayesrl.posteriors import Learner
from bayesrl.rl.agent import fresh_where, starts
from bayesrl.rl.exploration import EpisodeIndex
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import greedy
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.agent import ModelBasedAgent
from bayesrl.world_models.dynamics import Dynamics, signature
from bayesrl.world_models.mpc import MPC, PlanState
from bayesrl.world_models.multi_step import score_replay
from bayesrl.world_models.planners import ImprovedCEM, Planner
from bayesrl.world_models.propagation import TSinf


class WorldState(NamedTuple):
    """The state of acting by posterior draws.

    Attributes:
        z: the index of each environment's world, [E, *].
        plan: the plan in that world.
    """

    z: Tensor
    plan: PlanState


class PSRL(ModelBasedAgent):
    """Posterior sampling: plan in one world drawn for each episode.

    When an episode ends, or every few transitions, the posterior is scored on the new transitions and then fitted to
    all. Actions are uniformly random before the first fit. Greedy plans are averaged over several worlds, or made in
    the mean world.

    Arguments:
        spec: the properties of the environments, whose observations are vectors of numbers.
        posterior: the posterior over functions of the shapes that `signature` gives, with the likelihood `WithFlag`.
        planner: the search for a sequence of actions; `ImprovedCEM` by default.
        dynamics: maps (spec, posterior) to the dynamics, with known functions and temperatures.
        worlds: S, the greatest number of worlds that a greedy plan is averaged over.
        updates: the number of updates of a fit.
        batch_size: B, the number of transitions of an update.
        capacity: the capacity of the replay buffer, in transitions.
        learning_starts: the number of steps stored before the first fit.
        every: the number of transitions of each environment after which to learn within an episode; None for never.
        evaluation: the propagation of greedy plans; `TSinf` by default, an average over the worlds.
    """

    signature = staticmethod(signature)
    can_capture = True
    replay: ReplayBuffer
    learned: Tensor
    ended: Tensor

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        planner: Planner | None = None,
        dynamics: Callable[..., Dynamics] = Dynamics,
        worlds: int = 5,
        updates: int = 2000,
        batch_size: int = 128,
        capacity: int = 100_000,
        learning_starts: int = 200,
        every: int | None = None,
        evaluation: TSinf | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"worlds": worlds, "updates": updates, "batch_size": batch_size, "every": every}.items():
            if value is not None and value < 1:
                raise ValueError(f"got {name}={value}, wanted at least 1")
        device = next(posterior.parameters()).device
        self.replay = ReplayBuffer(spec, posterior.tags(1), capacity, n_step=1, discount=1.0, device=device)
        self.mpc = MPC(spec, dynamics(spec, posterior), planner or ImprovedCEM(), TSinf())
        self.evaluation = evaluation or TSinf()
        self.index = EpisodeIndex()
        self.spec, self.count, self.updates, self.batch_size = spec, worlds, updates, batch_size
        self.learning_starts, self.every = max(1, learning_starts), every or math.inf
        self.register_buffer("learned", torch.zeros((), dtype=torch.int64))  # rows of the replay
        self.register_buffer("ended", torch.zeros((), dtype=torch.bool))  # an episode, since then

    @property
    def dynamics(self) -> Dynamics:
        return self.mpc.dynamics

    # --- acting --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.learned == 0:
            return self.action(2 * torch.rand(len(obs), self.spec.actions, device=obs.device) - 1, mask)
        z, noisy = self.worlds(episode_start)
        return self.action(self.mpc.act(z, obs, episode_start, noisy), mask)

    def worlds(self, episode_start: Tensor) -> tuple[Tensor, bool]:
        """Return indices of the worlds to plan in, [E S, *], here one an episode, and whether to add their noise."""
        return self.index.draw(self.dynamics.posterior, episode_start), False

    @torch.no_grad()
    def predict(
        self,
        obs: Tensor,
        state: PlanState | None = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, PlanState]:
        """Return the first action of a plan scored by `evaluation` in fixed draws, and that plan as the state."""
        generator = Generator(device=obs.device).manual_seed(0)
        z = self.evaluation.draw(self.dynamics.posterior, self.count, generator).repeat(len(obs), 1)
        plan = self.mpc.plan(self.evaluation, z, obs, starts(obs, state, episode_start), state)
        return self.action(plan.action, mask), plan

    @torch.no_grad()
    def sample(
        self,
        obs: Tensor,
        state: WorldState | None = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, WorldState]:
        begins = starts(obs, state, episode_start)
        z, noisy = self.draw_worlds(begins, state and state.z, generator)
        seed = torch.randint(2**31, (), generator=generator, device=obs.device)
        search = Generator(obs.device).manual_seed(int(seed))
        plan = self.mpc.plan(self.mpc.propagation, z, obs, begins, state and state.plan, noisy, search)
        return self.action(plan.action, mask), WorldState(z, plan)

    def draw_worlds(self, episode_start: Tensor, z: Tensor | None, generator: Generator | None) -> tuple[Tensor, bool]:
        """Return what `worlds` does for `sample`, given the indices z of the step before, if any."""
        posterior = self.dynamics.posterior
        return fresh_where(episode_start, z, lambda n: posterior.index(n, generator)), False

    def action(self, chosen: Tensor, mask: Tensor | None) -> Tensor:
        """Return numbers [E, A] as an action; where actions are discrete, the greatest that is allowed."""
        return chosen if self.spec.bounds is not None else greedy(chosen, mask)

    # --- learning ------------------------------------------------------------------------------------------------

    def observe(self, transition: Transition) -> None:
        self.replay.add(transition, self.dynamics.posterior.tags(self.spec.num_envs))
        self.ended |= (transition.valid & (transition.terminated | transition.truncated)).any()

    def ready(self) -> bool:
        due = bool(self.ended) or self.replay.rows - int(self.learned) >= self.every
        return due and self.replay.rows * self.spec.num_envs >= self.learning_starts

    def learn(self) -> dict[str, Tensor]:
        """Score the new transitions, then fit to all; return the metrics of both."""
        since, replay = max(int(self.learned), self.replay.rows - self.replay.T), self.replay
        metrics: dict[str, Tensor] = {}
        if self.learned > 0 and since < replay.rows:  # several environments ask for several fits in a row
            rows = torch.arange(since, replay.rows, device=self.learned.device) % replay.T
            index = (rows[:, None] * replay.E + torch.arange(replay.E, device=rows.device)).flatten()
            metrics = {f"model/{name}": value for name, value in self.dynamics.score(replay.gather(index)).items()}
            scores, self.forecasts = score_replay(self.dynamics, replay, since)
            metrics |= {f"ahead/{name}": value for name, value in scores.items()}
        info = self.dynamics.fit(replay, self.updates, self.batch_size)
        self.learned.fill_(replay.rows)
        self.ended.fill_(False)
        return (
            info
            | metrics
            | {"model/temperature": self.dynamics.temperature, "model/broken": self.mpc.nonfinite.clone()}
        )

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile the search, which takes most of the time, and the update; return whether it did each."""
        with preserve_state(self), torch.random.fork_rng():
            z, noisy = self.worlds(torch.ones(self.spec.num_envs, dtype=torch.bool, device=self.learned.device))
        acting = self.mpc.capture(z, noisy, acts, say)
        index = torch.zeros(self.batch_size, dtype=torch.int64, device=self.learned.device)
        update = self.dynamics.capture(self.replay.gather(index), math.inf if acting else updates, say)
        return update, acting and update

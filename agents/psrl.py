"""`psrl`: posterior-sampling reinforcement learning. Draw a world, plan in it for an episode, learn, draw again.

    z ~ posterior over worlds, at the start of an episode
    a_t = first action of the best plan from s_t in world z            model-predictive control, any planner

(Strens, A Bayesian Framework for Reinforcement Learning, 2000; Osband et al., 2013; with learned dynamics and planning
at every step: Fan & Ming, Model-Based Reinforcement Learning for Continuous Control with Posterior Sampling, 2021.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from bayesrl.compilation.capture import preserve_state
from bayesrl.posteriors import Learner
from bayesrl.rl.exploration import Held
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import greedy
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.world_models.dynamics import Dynamics, signature
from bayesrl.world_models.mpc import MPC
from bayesrl.world_models.multi_step import Foreseen, predicted
from bayesrl.world_models.planners import ImprovedCEM, Planner
from bayesrl.world_models.propagation import TSinf


class PSRL(nn.Module):
    """Plans in one world an episode; evaluated, for the mean over several or in the mean world.

    Learns as an episode ends, or sooner where wished: the posterior is scored on everything new, and then fitted to
    everything. Actions are uniformly random before.

    Arguments:
        spec: of the environments; vectors of numbers are observed.
        posterior: over the functions that `signature` says, with the likelihood `WithFlag`.
        planner: searches for actions.
        dynamics: (spec, posterior) -> what the posterior is of, with known parts and temperatures.
        worlds: S, at most so many judge a greedy plan, and PETS' every plan.
        updates: of a fit.
        batch_size: B.
        capacity: of the replay, in transitions.
        learning_starts: steps stored before the first fit.
        every: transitions of each environment after which to learn before an episode has ended too; None for never.
        evaluation: propagation of greedy plans; by default a plan has to do well on average over the worlds.
    """

    signature = staticmethod(signature)
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
        self.held = Held()
        self.foreseen: Foreseen | None = None  # of the newest episode, before it was learned from
        self.spec, self.count, self.updates, self.batch_size = spec, worlds, updates, batch_size
        self.learning_starts, self.every = max(1, learning_starts), every or math.inf
        self.register_buffer("learned", torch.zeros((), dtype=torch.int64))  # rows of the replay
        self.register_buffer("ended", torch.zeros((), dtype=torch.bool))  # an episode, since then

    @property
    def dynamics(self) -> Dynamics:
        return self.mpc.dynamics

    # --- acting --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        """obs [E, D] with the plan that `evaluation` judges best, in always the same draws, [E, *].

        The search goes on from the plan that was made a step before, which is in `seen`, [E, *].
        """
        generator = Generator(device=obs.device).manual_seed(0)
        z = self.evaluation.draw(self.dynamics.posterior, self.count, generator).repeat(len(obs), 1)
        return self.mpc.follow(self.evaluation, z, obs, start, seen)

    @torch.no_grad()
    def act(self, obs: Tensor, start: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.learned == 0:
            return self.action(2 * torch.rand(len(obs), self.spec.actions, device=obs.device) - 1, mask)
        z, noisy = self.worlds(start)
        return self.action(self.mpc.act(z, obs, start, noisy), mask)

    def worlds(self, start: Tensor) -> tuple[Tensor, bool]:
        """Indices of the worlds to plan in, [E S, *], and whether with their noise: the one that the episode keeps."""
        return self.held.draw(self.dynamics.posterior, start), False

    @torch.no_grad()
    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The first action, [E, A] or [E], of the plan that `see` made, [E, *]."""
        return self.action(self.mpc.first(obs), mask)

    def action(self, chosen: Tensor, mask: Tensor | None) -> Tensor:
        """Numbers [E, A] as an action: themselves, or where actions are discrete the greatest one that is allowed."""
        return chosen if self.spec.bounds is not None else greedy(chosen, mask)

    # --- learning ------------------------------------------------------------------------------------------------

    def observe(self, transition: Transition) -> None:
        self.replay.add(transition, self.dynamics.posterior.tags(self.spec.num_envs))
        self.ended |= (transition.valid & (transition.terminated | transition.truncated)).any()

    def ready(self) -> bool:
        due = bool(self.ended) or self.replay.rows - int(self.learned) >= self.every
        return due and self.replay.rows * self.spec.num_envs >= self.learning_starts

    def learn(self) -> dict[str, Tensor]:
        """Score what is new, then fit to everything."""
        since, replay = max(int(self.learned), self.replay.rows - self.replay.T), self.replay
        told = {}
        if self.learned > 0 and since < replay.rows:  # several environments ask for several fits in a row
            rows = torch.arange(since, replay.rows, device=self.learned.device) % replay.T
            index = (rows[:, None] * replay.E + torch.arange(replay.E, device=rows.device)).flatten()
            told = {f"model/{name}": value for name, value in self.dynamics.score(replay.gather(index)).items()}
            ahead, self.foreseen = predicted(self.dynamics, replay, since)
            told |= {f"ahead/{name}": value for name, value in ahead.items()}
        info = self.dynamics.fit(replay, self.updates, self.batch_size)
        self.learned.fill_(replay.rows)
        self.ended.fill_(False)
        return info | told | {"model/temperature": self.dynamics.temperature, "model/broken": self.mpc.broken.clone()}

    def forecast(self, obs: Tensor, generator: Generator) -> None:
        """None: a plan's worth at its horizon is no value."""
        return None

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile updates and the search, where so many calls save more time than that takes; whether it did.

        Updates always beside the search, which is what takes time.
        """
        with preserve_state(self), torch.random.fork_rng():
            z, noisy = self.worlds(torch.ones(self.spec.num_envs, dtype=torch.bool, device=self.learned.device))
        acting = self.mpc.capture(z, noisy, acts, say)
        index = torch.zeros(self.batch_size, dtype=torch.int64, device=self.learned.device)
        update = self.dynamics.capture(self.replay.gather(index), math.inf if acting else updates, say)
        return update, acting and update

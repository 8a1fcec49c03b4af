"""Model-predictive control: plan at every step, take the first action, and start the next search from the rest.

Shapes: E environments, S worlds of each, C candidates, H horizon, A numbers of an action, D of an observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bayesrl.compilation.capture import capture, preserve_state
from bayesrl.rl.types import EnvSpec
from bayesrl.world_models.dynamics import Dynamics
from bayesrl.world_models.planners import Plan, Planner
from bayesrl.world_models.propagation import Rollouts, TSinf, rollout

CHUNK = 10  # steps of a rollout in one compiled graph, so that the time to compile does not depend on the horizon


class PlanState(NamedTuple):
    """The result of a search, from which the next search starts.

    Attributes:
        action: the first action of the plan, [E, A].
        mean: the mean of the next candidates, [E, H, A].
        elites: the sequences to try again, [E, k, H, A].
        step: the number of steps since the start of the episode, [E] int64.
    """

    action: Tensor
    mean: Tensor
    elites: Tensor
    step: Tensor


class MPC(nn.Module):
    """Model-predictive control in the worlds of a dynamics posterior.

    Arguments:
        spec: the properties of the environments.
        dynamics: the dynamics whose worlds plans are scored in.
        planner: the search for a sequence of actions.
        propagation: the rule by which particles move through worlds.

    Attributes:
        nonfinite: the number of candidates so far whose rollouts were not finite, 0-d.
    """

    mean: Tensor
    elites: Tensor
    nonfinite: Tensor

    def __init__(self, spec: EnvSpec, dynamics: Dynamics, planner: Planner, propagation: TSinf) -> None:
        super().__init__()
        self.dynamics, self.planner, self.propagation, self.actions = dynamics, planner, propagation, spec.actions
        plan = planner.initial(spec.num_envs, spec.actions + propagation.controls(spec.shape[0]), dynamics.mean)
        self.register_buffer("mean", plan.mean)
        self.register_buffer("elites", plan.elites)
        self.register_buffer("nonfinite", torch.zeros((), device=plan.mean.device))
        self.compiled: dict[tuple, Callable] | None = None
        self.calls = math.inf
        self.say: Callable[[str], None] = print

    @torch.no_grad()
    def act(self, z: Tensor, obs: Tensor, episode_start: Tensor, noisy: bool) -> Tensor:
        """Plan for every environment and return the first actions, [E, A].

        Arguments:
            z: indices of the worlds, [E S, *].
            obs: observations, [E, D].
            episode_start: whether an episode begins, [E] bool.
            noisy: whether rollouts have aleatoric noise.
        """
        before = self.planner.initial(len(obs), self.mean.shape[-1], obs)._replace(mean=self.mean, elites=self.elites)
        plan = self.search(self.propagation, z, obs, self.planner.warm_start(before, episode_start), noisy)
        self.mean.copy_(plan.mean)
        self.elites.copy_(plan.elites)
        self.nonfinite += plan.nonfinite.sum()
        return plan.best[:, 0, : self.actions]

    @torch.no_grad()
    def plan(
        self,
        propagation: TSinf,
        z: Tensor,
        obs: Tensor,
        episode_start: Tensor,
        state: PlanState | None = None,
        noisy: bool = True,
        generator: Generator | None = None,
    ) -> PlanState:
        """Return the plan of a search that neither uses nor changes the plans of `act`.

        Arguments:
            propagation: the rule by which particles move through worlds.
            z: indices of the worlds, [E S, *].
            obs: observations, [E, D].
            episode_start: whether the search starts from an initial plan, [E] bool.
            state: the plan of the previous step, from which the search starts; None at first.
            noisy: whether rollouts have aleatoric noise.
            generator: the generator of random numbers; by default one whose seed is the step of the episode.
        """
        E, planner, A = len(obs), self.planner, self.actions + propagation.controls(obs.shape[1])
        plan, step = planner.initial(E, A, obs), torch.zeros(E, dtype=torch.int64, device=obs.device)
        if state is not None:
            plan = planner.warm_start(plan._replace(mean=state.mean, elites=state.elites), episode_start)
            step = (state.step + 1) * ~episode_start
        generator = generator or Generator(obs.device).manual_seed(int(step.max()))
        plan = self.search(propagation, z, obs, plan, noisy, generator)
        return PlanState(plan.best[:, 0, : self.actions], plan.mean, plan.elites, step)

    def search(
        self,
        propagation: TSinf,
        z: Tensor,
        obs: Tensor,
        plan: Plan,
        noisy: bool,
        generator: Generator | None = None,
    ) -> Plan:
        """Return the plan improved by all iterations, scored in worlds z [E S, *] from obs [E, D].

        Raises:
            ValueError: the planner does not return a `Plan`.
        """
        E, S, H, A = len(obs), len(z) // len(obs), self.planner.horizon, plan.mean.shape[-1]
        shift = torch.randint(S, (H, E), generator=generator, device=obs.device)
        noise = torch.randn(H, E, S, obs.shape[1] + 1, generator=generator, device=obs.device) if noisy else None
        score = partial(self.returns, propagation, z, obs, noise=noise, shift=shift)
        for eps in self.planner.noise(E, A, obs, generator):
            plan = self.planner.improve(score, plan, eps)
            if not isinstance(plan, Plan):
                got = f"got a {type(plan).__name__} from {type(self.planner).__name__}.improve"
                raise ValueError(f"{got}, wanted a Plan: return plan._replace(best=...)")
        return plan

    def returns(
        self, propagation: TSinf, z: Tensor, obs: Tensor, actions: Tensor, noise: Tensor | None, shift: Tensor
    ) -> Tensor:
        """Return `propagation.returns` in worlds z [E S, *], [E, C], computed chunk by chunk of the horizon."""
        H, n = actions.shape[2], self.chunks
        rollouts = Rollouts.start(obs, propagation.particles(len(z) // len(obs)), actions.shape[1])
        for t in (slice(H * k // n, H * (k + 1) // n) for k in range(n)):
            args = z, *rollouts, actions[:, :, t], shift[t], *(() if noise is None else (noise[t],))
            rollouts = Rollouts(*self.advance(propagation, args))
        return rollouts.value()

    @property
    def chunks(self) -> int:
        """The number of chunks, of nearly equal length, that the horizon is split into."""
        return math.ceil(self.planner.horizon / CHUNK)

    def rollout_chunk(self, propagation: TSinf, z: Tensor, *args: Tensor) -> tuple[Tensor, ...]:
        """Return the rollouts after one chunk; `args` are the parts of `Rollouts`, actions, shift and any noise."""
        *rollouts, actions, shift = args[:5]
        noise = args[5] if len(args) > 5 else None
        return tuple(rollout(self.dynamics.worlds(z), propagation, Rollouts(*rollouts), actions, noise, shift))

    def advance(self, propagation: TSinf, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Call `rollout_chunk`; after `capture`, compiled once for each propagation and each set of shapes."""
        chunk = partial(self.rollout_chunk, propagation)
        if self.compiled is None:
            return chunk(*args)
        key = type(propagation), repr(vars(propagation)), *(part.shape for part in args)
        if key not in self.compiled:
            self.compiled[key] = capture(chunk, self, *args, name="planning", calls=self.calls, say=self.say)
        return self.compiled[key](*args)

    def capture(self, z: Tensor, noisy: bool, acts: float, say: Callable[[str], None]) -> bool:
        """Compile rollouts if so many actions in worlds z [E S, *] save more than that takes; return whether it did."""
        self.compiled, self.calls, self.say = {}, acts * self.planner.iterations * self.chunks, say
        obs = self.mean.new_zeros(len(self.mean), len(self.dynamics.target_mean) - 1)
        with preserve_state(self), torch.random.fork_rng():
            self.act(z, obs, torch.ones_like(obs[:, 0], dtype=torch.bool), noisy)
        if any(isinstance(chunk, partial) for chunk in self.compiled.values()):
            self.compiled = None
        self.calls = math.inf
        return self.compiled is not None

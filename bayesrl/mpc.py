"""Model-predictive control: a search at every step, of which the first action is done and the rest is remembered.

Shapes: E environments, S worlds of each, C candidates, H horizon, A numbers of an action, D of an observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.agent import EnvSpec
from bayesrl.capture import captured, kept
from bayesrl.dynamics import Dynamics
from bayesrl.planning import Plan, Planner
from bayesrl.propagation import TSinf, returns


class MPC(nn.Module):
    """Plans, and acts on the first step of each plan.

    Arguments:
        spec: of the environments.
        dynamics: whose worlds are searched in.
        planner: how.
        propagation: of particles through worlds.
    """

    mean: Tensor
    kept: Tensor
    broken: Tensor

    def __init__(self, spec: EnvSpec, dynamics: Dynamics, planner: Planner, propagation: TSinf) -> None:
        super().__init__()
        self.dynamics, self.planner, self.propagation, self.actions = dynamics, planner, propagation, spec.actions
        plan = planner.begin(spec.num_envs, spec.actions + propagation.controls(spec.shape[0]), dynamics.mean)
        self.register_buffer("mean", plan.mean)
        self.register_buffer("kept", plan.kept)
        self.register_buffer("broken", torch.zeros((), device=plan.mean.device))
        self.compiled: dict[tuple, Callable] | None = None
        self.calls = math.inf
        self.say: Callable[[str], None] = print

    @torch.no_grad()
    def act(self, z: Tensor, obs: Tensor, start: Tensor, noisy: bool) -> Tensor:
        """The first actions of new plans, [E, A], in worlds z [E S, *] from obs [E, D].

        Arguments:
            start: marks episodes that begin here, [E] bool.
            noisy: whether particles feel the aleatoric part.
        """
        before = self.planner.begin(len(obs), self.mean.shape[-1], obs)._replace(mean=self.mean, kept=self.kept)
        plan = self.search(self.propagation, z, obs, self.planner.later(before, start), noisy)
        self.mean.copy_(plan.mean)
        self.kept.copy_(plan.kept)
        self.broken += plan.broken.sum()
        return plan.best[:, 0, : self.actions]

    @torch.no_grad()
    def follow(self, z: Tensor, obs: Tensor, start: Tensor, before: Tensor | None) -> Tensor:
        """A greedy plan at obs [E, D] and what to remember of it, in rows [E, *]: obs, first actions, step, mean, kept.

        For the mean over worlds z [E S, *] with their noise, going on from what this gave `before`, a step ago, but
        where an episode starts, [E] bool. Has random numbers of its own, others at every step of an episode.
        """
        E, A, planner = len(obs), self.actions, self.planner
        plan, step = planner.begin(E, A, obs), obs.new_zeros(E, 1)
        if before is not None:
            sizes = [A, 1, plan.mean[0].numel(), plan.kept[0].numel()]
            _, step, mean, kept = before[:, obs.shape[1] :].split(sizes, 1)
            plan = plan._replace(mean=mean.view_as(plan.mean), kept=kept.view_as(plan.kept))
            plan, step = planner.later(plan, start), (step + 1) * ~start[:, None]
        generator = Generator(obs.device).manual_seed(int(step.max()))
        plan = self.search(TSinf(), z, obs, plan, True, generator)
        return torch.cat([obs, plan.best[:, 0], step, plan.mean.flatten(1), plan.kept.flatten(1)], 1)

    def first(self, rows: Tensor) -> Tensor:
        """The first actions, [E, A], of what `follow` gave, [E, *]."""
        D = len(self.dynamics.target_mean) - 1
        return rows[:, D : D + self.actions]

    def search(
        self,
        propagation: TSinf,
        z: Tensor,
        obs: Tensor,
        plan: Plan,
        noisy: bool,
        generator: Generator | None = None,
    ) -> Plan:
        """A plan improved: z [E S, *], obs [E, D]."""
        E, S, H, A = len(obs), len(z) // len(obs), self.planner.horizon, plan.mean.shape[-1]
        shift = torch.randint(S, (H, E), generator=generator, device=obs.device)
        noise = (torch.randn(H, E, S, obs.shape[1] + 1, generator=generator, device=obs.device),) if noisy else ()
        for eps in self.planner.noise(E, A, obs, generator):
            plan = Plan(*self.iterate(propagation, z, obs, shift, eps, *plan, *noise))
        return plan

    def improve(
        self, propagation: TSinf, z: Tensor, obs: Tensor, shift: Tensor, eps: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        """One iteration of a search, a pure tensor function; `rest` is the plan and, if any, the worlds' noise."""
        plan, noise = Plan(*rest[:5]), rest[5] if len(rest) > 5 else None
        worlds = self.dynamics.worlds(z)
        score = lambda x: returns(worlds, propagation, obs, x, noise, shift)  # noqa: E731
        return tuple(self.planner.improve(score, plan, eps))

    def iterate(self, propagation: TSinf, z: Tensor, obs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """`improve`, compiled where that is wished, anew for every number of environments and worlds."""
        improve = partial(self.improve, propagation)
        if self.compiled is None:
            return improve(z, obs, *rest)
        key = type(propagation), len(z), len(obs), len(rest)
        if key not in self.compiled:
            given = (z, obs, *rest)
            self.compiled[key] = captured(improve, self, *given, name="planning", calls=self.calls, say=self.say)
        return self.compiled[key](z, obs, *rest)

    def capture(self, z: Tensor, noisy: bool, calls: float, say: Callable[[str], None]) -> bool:
        """Compile iterations, if so many in worlds z [E S, *] save more time than that takes; whether it did."""
        self.compiled, self.calls, self.say = {}, calls, say
        obs = self.mean.new_zeros(len(self.mean), len(self.dynamics.target_mean) - 1)
        with kept(self), torch.random.fork_rng():
            self.act(z, obs, torch.ones_like(obs[:, 0], dtype=torch.bool), noisy)
        if any(isinstance(improve, partial) for improve in self.compiled.values()):
            self.compiled = None
        self.calls = math.inf
        return self.compiled is not None

"""Propagation: what a sequence of actions is worth, by particles that move through worlds.

    J(a_1..a_H) = mean over particles of sum_t alive_t r_t,   alive_{t+1} = alive_t (1 - p(terminated)_t)

A propagation says in which world a particle takes which step. Pure functions of tensors, noise passed in. Shapes: E
environments, S worlds of each, C candidates, H horizon, A numbers of an action in [-1, 1], of which a discrete one is
the greatest, D of an observation, K targets of the worlds that are numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayesrl.posteriors import Posterior
from bayesrl.world_models.dynamics import Worlds, WorldStep


class TSinf:
    """Every particle stays in its world for the whole horizon: a plan is judged by whole worlds.

    With one world, kept for an episode, this is posterior sampling (Osband et al., More Efficient Reinforcement
    Learning via Posterior Sampling, 2013), with several it is how PETS judges (Chua et al., 2018).
    """

    def draw(self, posterior: Posterior, S: int, generator: Generator | None = None) -> Tensor:
        """Indices of the worlds for a plan, [k, *], k at most S."""
        return posterior.index(S, generator)

    def particles(self, S: int) -> int:
        """How many particles S worlds take."""
        return S

    def controls(self, D: int) -> int:
        """How many numbers a plan holds at each step beside an action."""
        return 0

    def step(
        self, worlds: Worlds, obs: Tensor, alive: Tensor, action: Tensor, noise: Tensor | None, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Observations, share alive and reward of every particle after one step.

        Arguments:
            worlds: E S of them.
            obs: [E, particles, C, D].
            alive: the probability that the episode still goes on, [E, particles, C].
            action: [E, C, A + controls].
            noise: [E, S, K], the same for every candidate, so that luck does not choose between them; None for none.
            shift: a random number below S for each environment, [E] int64.
        """
        predicted = step(worlds, obs, action, noise)
        return predicted.next_obs, alive * (1 - predicted.terminated), alive * predicted.reward


class TS1(TSinf):
    """Every particle moves to a random world at each step: a plan is judged by worlds that change under its feet.

    All particles of an environment move on by the same number of worlds, so that each world always holds one (Chua et
    al., Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics Models, 2018).
    """

    def step(
        self, worlds: Worlds, obs: Tensor, alive: Tensor, action: Tensor, noise: Tensor | None, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        E, S = alive.shape[:2]
        moved = (torch.arange(S, device=obs.device) + shift[:, None]) % S  # [E, S]
        rows = torch.arange(E, device=obs.device)[:, None]
        return super().step(worlds, obs[rows, moved], alive[rows, moved], action, noise, shift)


class Expectation(TSinf):
    """Certainty equivalence: one particle goes where the posterior mean says, without noise.

    A plan fixes its actions beforehand, so that where a state is unstable no plan holds it in several worlds at once
    for long, though replanning would: judged by the mean world, holding it is worth what it will be worth. ("E" of Chua
    et al., 2018.)
    """

    def draw(self, posterior: Posterior, S: int, generator: Generator | None = None) -> Tensor:
        return posterior.central(S)

    def particles(self, S: int) -> int:
        return 1

    def step(
        self, worlds: Worlds, obs: Tensor, alive: Tensor, action: Tensor, noise: Tensor | None, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        E, _, C, D = obs.shape
        predicted = step(worlds, obs.expand(E, worlds.count // E, C, D), action, None)
        next_obs, reward, terminated = (part.mean(1, True) for part in predicted)
        return next_obs, alive * (1 - terminated), alive * reward


class Hallucinated(TSinf):
    """Optimism: the plan also chooses, within what the worlds disagree on, how each step turns out.

        next obs = mean + beta std * eta     over the worlds; eta in [-1, 1]^D is part of the plan

    Reward and termination are the worlds' means (Curi et al., Efficient Model-Based Reinforcement Learning through
    Optimistic Policy Search and Planning, 2020).

    Arguments:
        beta: how many standard deviations.
    """

    def __init__(self, beta: float = 1.0) -> None:
        if not beta >= 0:
            raise ValueError(f"got beta={beta}, wanted 0 or more standard deviations")
        self.beta = beta

    def particles(self, S: int) -> int:
        return 1

    def controls(self, D: int) -> int:
        return D

    def step(
        self, worlds: Worlds, obs: Tensor, alive: Tensor, action: Tensor, noise: Tensor | None, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        E, _, C, D = obs.shape
        S = worlds.count // E
        action, eta = action.split([action.shape[-1] - D, D], -1)
        predicted = step(worlds, obs.expand(E, S, C, D), action, noise)
        mean, std = predicted.next_obs.mean(1, True), predicted.next_obs.std(1, correction=0, keepdim=True)
        reward, terminated = predicted.reward.mean(1, True), predicted.terminated.mean(1, True)
        return mean + self.beta * std * eta[:, None], alive * (1 - terminated), alive * reward


def step(worlds: Worlds, obs: Tensor, action: Tensor, noise: Tensor | None) -> WorldStep:
    """One step of E environments' worlds: obs [E, S, C, D], action [E, C, A], noise [E, S, K] -> [E, S, C, *]."""
    E, S, C, _ = obs.shape
    action = action[:, None].expand(E, S, C, -1).flatten(0, 1)
    predicted = worlds.step(obs.flatten(0, 1), action, None if noise is None else noise.flatten(0, 1)[:, None])
    return WorldStep(*(part.unflatten(0, (E, S)) for part in predicted))


def returns(
    worlds: Worlds, propagation: TSinf, obs: Tensor, actions: Tensor, noise: Tensor | None, shift: Tensor
) -> Tensor:
    """Return the value of candidates from obs [E, D] on, [E, C]; -inf where anything in a rollout is not finite.

    Arguments:
        worlds: E S of them.
        actions: [E, C, H, A + controls].
        noise: [H, E, S, K], or None for expected changes.
        shift: [H, E] int64, below S.
    """
    particles = propagation.particles(worlds.count // len(obs))
    return rollout(worlds, propagation, Rollouts.start(obs, particles, actions.shape[1]), actions, noise, shift).value()


class Rollouts(NamedTuple):
    """Where the particles of all candidates are.

    Attributes:
        obs: [E, particles, C, D].
        alive: the probability that the episode still goes on, [E, particles, C].
        total: of rewards so far, [E, particles, C].
    """

    obs: Tensor
    alive: Tensor
    total: Tensor

    @classmethod
    def start(cls, obs: Tensor, particles: int, C: int) -> Rollouts:
        """All at obs [E, D]."""
        E, D = obs.shape
        return cls(
            obs[:, None, None].expand(E, particles, C, D),
            obs.new_ones(E, particles, C),
            obs.new_zeros(E, particles, C),
        )

    def value(self) -> Tensor:
        """Mean over particles, [E, C]; an observation that is not finite spoils the value too."""
        value = self.total.mean(1) + 0 * self.obs.sum((1, 3))
        return torch.where(value.isfinite(), value, -torch.inf)


def rollout(
    worlds: Worlds, propagation: TSinf, rollouts: Rollouts, actions: Tensor, noise: Tensor | None, shift: Tensor
) -> Rollouts:
    """Where particles get to by the actions of some steps; arguments as of `returns`."""
    x, alive, total = rollouts
    for t in range(actions.shape[2]):
        x, alive, reward = propagation.step(
            worlds, x, alive, actions[:, :, t], None if noise is None else noise[t], shift[t]
        )
        total = total + reward
    return Rollouts(x, alive, total)

"""Propagation: the value of a sequence of actions, estimated by particles that move through worlds.

    J(a_1..a_H) = mean over particles of sum_t alive_t r_t,   alive_{t+1} = alive_t (1 - p(terminated)_t)

A propagation decides in which world a particle takes each step. All functions are pure functions of tensors, with noise
as an argument. Shapes: E environments, S worlds of each, C candidates, H horizon, D numbers of an observation, K
numeric targets of a world, A numbers of an action in [-1, 1]; the greatest of them names a discrete action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from bayesrl.posteriors import Posterior
from bayesrl.world_models.dynamics import Worlds, WorldStep


class TSinf:
    """TS-infinity: every particle stays in its world for the whole horizon.

    With one world for an episode, this is posterior sampling (Osband et al., (More) Efficient Reinforcement Learning
    via Posterior Sampling, 2013); with several, it is a trajectory sampling of PETS (Chua et al., 2018).
    """

    def draw(self, posterior: Posterior, S: int, generator: Generator | None = None) -> Tensor:
        """Return indices of the worlds for a plan, [k, *], with k at most S."""
        return posterior.index(S, generator)

    def particles(self, S: int) -> int:
        """Return the number of particles in S worlds."""
        return S

    def controls(self, D: int) -> int:
        """Return how many numbers a plan has at each step besides an action, for observations of D numbers."""
        return 0

    def step(
        self, worlds: Worlds, obs: Tensor, alive: Tensor, action: Tensor, noise: Tensor | None, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the observation, survival probability and reward of every particle after one step.

        Arguments:
            worlds: E S worlds.
            obs: observations of the particles, [E, particles, C, D].
            alive: probability that the episode has not ended, [E, particles, C].
            action: actions of the candidates, [E, C, A + controls].
            noise: standard normal numbers [E, S, K], the same for every candidate, so that candidates are compared
                under equal noise; None for expected changes.
            shift: random number below S for each environment, [E] int64.
        """
        predicted = step(worlds, obs, action, noise)
        return predicted.next_obs, alive * (1 - predicted.terminated), alive * predicted.reward


class TS1(TSinf):
    """TS1: every particle moves to a random world at each step.

    All particles of an environment move on by the same number of worlds, so that each world always has one (Chua et
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
    """Certainty equivalence: one particle follows the posterior mean, without noise.

    A plan fixes its actions beforehand, so no plan balances an unstable state in several worlds at once for long,
    though replanning would. The mean world does not underestimate such plans. ("E" of Chua et al., 2018.)
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
    """Optimism: the plan also chooses the outcome of each step, within the epistemic uncertainty.

        next obs = mean + beta std * eta     over the worlds; eta in [-1, 1]^D is part of the plan

    Reward and termination are means over the worlds (Curi et al., Efficient Model-Based Reinforcement Learning through
    Optimistic Policy Search and Planning, 2020).

    Arguments:
        beta: largest deviation from the mean, in standard deviations over the worlds.

    Raises:
        ValueError: if beta is negative.
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
    """Make one step in all worlds: obs [E, S, C, D], action [E, C, A], noise [E, S, K] or None -> [E, S, C, *]."""
    E, S, C, _ = obs.shape
    action = action[:, None].expand(E, S, C, -1).flatten(0, 1)
    predicted = worlds.step(obs.flatten(0, 1), action, None if noise is None else noise.flatten(0, 1)[:, None])
    return WorldStep(*(part.unflatten(0, (E, S)) for part in predicted))


def returns(
    worlds: Worlds, propagation: TSinf, obs: Tensor, actions: Tensor, noise: Tensor | None, shift: Tensor
) -> Tensor:
    """Return the values of candidates, [E, C]; -inf where anything in a rollout is not finite.

    Arguments:
        worlds: E S worlds.
        propagation: rule by which particles move through the worlds.
        obs: observations that the rollouts start from, [E, D].
        actions: candidates, [E, C, H, A + controls].
        noise: standard normal numbers [H, E, S, K], or None for expected changes.
        shift: random numbers below S, [H, E] int64.
    """
    particles = propagation.particles(worlds.count // len(obs))
    return rollout(worlds, propagation, Rollouts.start(obs, particles, actions.shape[1]), actions, noise, shift).value()


class Rollouts(NamedTuple):
    """The state of the rollouts of all candidates.

    Attributes:
        obs: observations of the particles, [E, particles, C, D].
        alive: probability that the episode has not ended, [E, particles, C].
        total: sum of the rewards so far, [E, particles, C].
    """

    obs: Tensor
    alive: Tensor
    total: Tensor

    @classmethod
    def start(cls, obs: Tensor, particles: int, C: int) -> Rollouts:
        """Return rollouts whose particles all start at obs [E, D]."""
        E, D = obs.shape
        return cls(
            obs[:, None, None].expand(E, particles, C, D),
            obs.new_ones(E, particles, C),
            obs.new_zeros(E, particles, C),
        )

    def value(self) -> Tensor:
        """Return the mean over particles, [E, C]; -inf where a reward or an observation is not finite."""
        value = self.total.mean(1) + 0 * self.obs.sum((1, 3))
        return torch.where(value.isfinite(), value, -torch.inf)


def rollout(
    worlds: Worlds, propagation: TSinf, rollouts: Rollouts, actions: Tensor, noise: Tensor | None, shift: Tensor
) -> Rollouts:
    """Return the rollouts after the steps of `actions` [E, C, steps, A + controls]; other arguments as of `returns`."""
    x, alive, total = rollouts
    for t in range(actions.shape[2]):
        x, alive, reward = propagation.step(
            worlds, x, alive, actions[:, :, t], None if noise is None else noise[t], shift[t]
        )
        total = total + reward
    return Rollouts(x, alive, total)

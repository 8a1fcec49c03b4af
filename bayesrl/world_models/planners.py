"""Planners: search for a sequence of actions with a good score, batched over environments.

A planner turns noise into candidates and improves a plan by their scores. Its methods are pure functions of tensors, so
that a search can be compiled. Shapes: E environments, C candidates, H horizon, A numbers of an action, k elites.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

Score = Callable[[Tensor], Tensor]  # candidates [E, C, H, A] -> [E, C]


class Plan(NamedTuple):
    """The state of a search.

    Attributes:
        mean: mean of the candidates of the next iteration, [E, H, A].
        std: standard deviation of those candidates, [E, H, A].
        elites: best sequences so far, which are tried again, [E, k, H, A].
        best: sequence to act on, [E, H, A].
        nonfinite: number of candidates so far whose rollouts were not finite, [E].
    """

    mean: Tensor
    std: Tensor
    elites: Tensor
    best: Tensor
    nonfinite: Tensor


class Planner:
    """Base class of searches over sequences of actions; a subclass implements `improve`.

    Arguments:
        horizon: H, the number of steps that a plan looks ahead.
        candidates: C, the number of sequences scored at each iteration.
        iterations: number of refinements of the plan before each action.

    Attributes:
        reused: k, the number of elites that the next search tries again.
        std: standard deviation of the first candidates.
        color: exponent of the noise's power spectrum over time: 0 white, 1 pink, 2 red; greater is smoother.

    Raises:
        ValueError: if a size is less than 1.
    """

    reused = 0
    std = 0.5
    color = 0.0

    def __init__(self, horizon: int, candidates: int, iterations: int) -> None:
        for name, value in {"horizon": horizon, "candidates": candidates, "iterations": iterations}.items():
            if value < 1:
                raise ValueError(f"got {name}={value}, wanted at least 1")
        self.horizon, self.candidates, self.iterations = horizon, candidates, iterations

    def initial(self, E: int, A: int, like: Tensor) -> Plan:
        """Return the plan that a first search starts from: mean 0, of the dtype and on the device of `like`."""
        zeros = like.new_zeros(E, self.horizon, A)
        elites = like.new_zeros(E, self.reused, self.horizon, A)
        return Plan(zeros, zeros + self.std, elites, zeros, like.new_zeros(E))

    def noise(self, E: int, A: int, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Return standard normal numbers for one search, colored over time, [iterations, E, C, H, A]."""
        shape = (self.iterations, E, self.candidates, A, self.horizon)
        white = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        return (white @ color_filter(self.horizon, self.color).to(like) if self.color else white).mT

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        """Return the plan after one iteration.

        Arguments:
            score: function from candidates [E, C, H, A] to values [E, C], -inf where a rollout is not finite.
            plan: plan to improve.
            noise: standard normal numbers, [E, C, H, A].
        """
        raise ValueError(f"got the planner {type(self).__name__} without improve, wanted one that implements it")

    def warm_start(self, plan: Plan, episode_start: Tensor) -> Plan:
        """Return the plan shifted by one step, to start the next search from; reset where `episode_start` [E] bool."""
        initial = self.initial(len(plan.mean), plan.mean.shape[-1], plan.mean)
        going = ~episode_start[:, None, None]
        mean, elites = (torch.cat([s[..., 1:, :], s[..., -1:, :]], -2) for s in (plan.mean, plan.elites))
        return initial._replace(mean=mean * going, elites=elites * going[:, None])


class RandomShooting(Planner):
    """Random shooting: act on the best of uniformly random sequences.

    (Nagabandi et al., Neural Network Dynamics for Model-Based Deep Reinforcement Learning with Model-Free Fine-Tuning,
    2018.)

    Arguments:
        horizon: H, the number of steps that a plan looks ahead.
        candidates: C, the number of sequences scored at each iteration.
    """

    def __init__(self, horizon: int = 20, candidates: int = 1000) -> None:
        super().__init__(horizon, candidates, 1)

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        x = 2 * torch.special.ndtr(noise) - 1
        value = score(x)
        return plan._replace(best=top(x, value, 1)[:, 0], nonfinite=plan.nonfinite + count_nonfinite(value))


class CEM(Planner):
    """Cross-entropy method: refit a normal distribution to the best candidates, and act on its mean.

    (Rubinstein, The Cross-Entropy Method for Combinatorial and Continuous Optimization, 1999; as in PETS: Chua et al.,
    2018.)

    Arguments:
        horizon: H, the number of steps that a plan looks ahead.
        candidates: C, the number of sequences scored at each iteration.
        iterations: number of refinements of the plan before each action.
        elites: number of best candidates that the distribution is fitted to.
        momentum: weight of the old mean and standard deviation at each refit, in [0, 1].
        std: standard deviation of the first candidates.
    """

    def __init__(
        self,
        horizon: int = 20,
        candidates: int = 100,
        iterations: int = 5,
        elites: int = 10,
        momentum: float = 0.1,
        std: float = 0.5,
    ) -> None:
        super().__init__(horizon, candidates, iterations)
        check_share(elites=elites, candidates=candidates)
        self.elites, self.momentum, self.std = elites, momentum, std

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        x = (plan.mean[:, None] + plan.std[:, None] * noise).clamp(-1, 1)
        value = score(x)
        mean, std = refit(plan, top(x, value, self.elites), self.momentum)
        return Plan(mean, std, plan.elites, mean, plan.nonfinite + count_nonfinite(value))


class ImprovedCEM(Planner):
    """Improved CEM (iCEM): CEM with colored noise that tries its elites again, and acts on the best sequence.

    Elites are reused in the next iteration and, shifted by one step, in the next search. The number of candidates is
    constant. (Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning, 2020.)

    Arguments:
        horizon: H, the number of steps that a plan looks ahead.
        candidates: C, the number of sequences scored at each iteration.
        iterations: number of refinements of the plan before each action.
        elites: number of best candidates that the distribution is fitted to.
        reused: number of elites that are tried again.
        color: exponent of the noise's power spectrum over time: 0 white, 2 red; greater is smoother.
        momentum: weight of the old mean and standard deviation at each refit, in [0, 1].
        std: standard deviation of the first candidates.
    """

    def __init__(
        self,
        horizon: int = 20,
        candidates: int = 100,
        iterations: int = 5,
        elites: int = 10,
        reused: int = 3,
        color: float = 2.0,
        momentum: float = 0.1,
        std: float = 0.5,
    ) -> None:
        super().__init__(horizon, candidates, iterations)
        check_share(elites=elites, candidates=candidates)
        check_share(reused=reused, elites=elites)
        self.elites, self.reused, self.momentum, self.std, self.color = elites, reused, momentum, std, color

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        x = (plan.mean[:, None] + plan.std[:, None] * noise[:, self.reused + 1 :]).clamp(-1, 1)
        x = torch.cat([plan.elites, plan.mean[:, None], x], 1)
        value = score(x)
        elites = top(x, value, self.elites)
        mean, std = refit(plan, elites, self.momentum)
        return Plan(mean, std, elites[:, : self.reused], elites[:, 0], plan.nonfinite + count_nonfinite(value))


class MPPI(Planner):
    """Model-predictive path integral control: act on the mean of candidates weighted by exp(value / temperature).

    Values are divided by their standard deviation over candidates, so that one temperature suits every reward scale
    (Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning, 2017).

    Arguments:
        horizon: H, the number of steps that a plan looks ahead.
        candidates: C, the number of sequences scored at each iteration.
        iterations: number of refinements of the plan before each action.
        temperature: temperature of the weights, in standard deviations of the values; at 0.1 a few candidates dominate.
        color: exponent of the noise's power spectrum over time: 0 white, 2 red; greater is smoother.
        std: standard deviation of the candidates.
    """

    def __init__(
        self,
        horizon: int = 20,
        candidates: int = 100,
        iterations: int = 5,
        temperature: float = 0.2,
        color: float = 1.0,
        std: float = 0.5,
    ) -> None:
        super().__init__(horizon, candidates, iterations)
        if not temperature > 0:
            raise ValueError(f"got temperature={temperature}, wanted a positive one")
        self.temperature, self.color, self.std = temperature, color, std

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        x = (plan.mean[:, None] + plan.std[:, None] * noise).clamp(-1, 1)
        value = score(x)
        finite = value.isfinite()
        zeroed = torch.where(finite, value, 0.0)
        center = zeroed.sum(1, True) / finite.sum(1, True).clamp(min=1)
        std = (finite * (zeroed - center).square()).mean(1, True).sqrt().clamp(min=1e-8)
        weight = torch.where(finite, (value - value.amax(1, True)) / (self.temperature * std), -1e9).softmax(1)
        mean = (weight[..., None, None] * x).sum(1)
        return Plan(mean, plan.std, plan.elites, mean, plan.nonfinite + count_nonfinite(value))


def top(x: Tensor, value: Tensor, k: int) -> Tensor:
    """Return the k best candidates, best first: x [E, C, H, A], value [E, C] -> [E, k, H, A].

    The best one stands in for those whose value is -inf.
    """
    best = value.topk(k, 1)
    index = torch.where(best.values > -torch.inf, best.indices, best.indices[:, :1])
    return x.gather(1, index[..., None, None].expand(-1, -1, *x.shape[2:]))


def refit(plan: Plan, elites: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of elites [E, k, H, A], mixed with the plan's: [E, H, A] each."""
    return (
        elites.mean(1).lerp(plan.mean, momentum),
        elites.std(1, correction=0).lerp(plan.std, momentum),
    )


def count_nonfinite(value: Tensor) -> Tensor:
    """Return the number of candidates without a finite value: [E, C] -> [E]."""
    return (value == -torch.inf).sum(1).to(value.dtype)


def color_filter(H: int, color: float) -> Tensor:
    """Return the matrix [H, H] that turns white noise over time, on its left, into unit noise of spectrum 1/f^color."""
    frequency = torch.fft.rfftfreq(H, dtype=torch.float64)
    frequency[0] = 1 / H
    matrix = torch.fft.irfft(torch.fft.rfft(torch.eye(H, dtype=torch.float64)) * frequency ** (-color / 2), n=H)
    return matrix / matrix.norm(dim=0)


def check_share(**sizes: int) -> None:
    """Check that the first of two sizes, given by name, lies between 1 and the second.

    Raises:
        ValueError: if it does not.
    """
    (part, k), (whole, n) = sizes.items()
    if not 1 <= k <= n:
        raise ValueError(f"got {part}={k} of {whole}={n}, wanted at least 1 and not more than there are")

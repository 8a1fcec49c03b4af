"""Planners: search for a sequence of actions with a good score, batched over environments.

A planner improves a plan by scores of candidates that it makes of given noise: pure functions of tensors, so that a
search can be captured as a graph. Shapes: E environments, C candidates, H horizon, A numbers at each step, k sequences
that are elites.
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
        mean, std: of the sequences to try next, [E, H, A].
        elites: good sequences to try again, [E, k, H, A].
        best: the sequence to act on, [E, H, A].
        nonfinite: candidates whose rollouts were not finite, [E].
    """

    mean: Tensor
    std: Tensor
    elites: Tensor
    best: Tensor
    nonfinite: Tensor


class Planner:
    """A search over sequences of actions; a subclass says `improve`.

    Attributes:
        horizon: H.
        candidates: C, scored at each iteration.
        iterations: of improvement for each action.
        std: standard deviation of the first candidates.
        color: of the noise over time, 0 white, 1 pink, 2 red: greater is smoother.
        reused: k, how many sequences are tried again.
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
        """A plan that knows nothing."""
        zeros = like.new_zeros(E, self.horizon, A)
        elites = like.new_zeros(E, self.reused, self.horizon, A)
        return Plan(zeros, zeros + self.std, elites, zeros, like.new_zeros(E))

    def noise(self, E: int, A: int, like: Tensor, generator: Generator | None = None) -> Tensor:
        """Standard normal numbers for one action of E environments, colored over time, [iterations, E, C, H, A]."""
        shape = (self.iterations, E, self.candidates, A, self.horizon)
        white = torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
        return (white @ color_filter(self.horizon, self.color).to(like) if self.color else white).mT

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        """One iteration with noise [E, C, H, A]."""
        raise ValueError(f"got the planner {type(self).__name__} without improve, wanted one that says how it searches")

    def warm_start(self, plan: Plan, episode_start: Tensor) -> Plan:
        """The plan one step later, from which the next search begins; forgotten where an episode starts, [E] bool."""
        initial = self.initial(len(plan.mean), plan.mean.shape[-1], plan.mean)
        going = ~episode_start[:, None, None]
        mean, elites = (torch.cat([s[..., 1:, :], s[..., -1:, :]], -2) for s in (plan.mean, plan.elites))
        return initial._replace(mean=mean * going, elites=elites * going[:, None])


class RandomShooting(Planner):
    """The best of uniformly random sequences, each search by itself (Nagabandi et al., 2018).

    Arguments:
        horizon, candidates: of the search.
    """

    def __init__(self, horizon: int = 20, candidates: int = 1000) -> None:
        super().__init__(horizon, candidates, 1)

    def improve(self, score: Score, plan: Plan, noise: Tensor) -> Plan:
        x = 2 * torch.special.ndtr(noise) - 1
        value = score(x)
        return plan._replace(best=top(x, value, 1)[:, 0], nonfinite=plan.nonfinite + count_nonfinite(value))


class CEM(Planner):
    """The cross-entropy method: refit a normal to the best candidates, again and again; acts on its mean (PETS' way).

    Arguments:
        horizon, candidates, iterations: of the search.
        elites: how many of the best the normal is fitted to.
        momentum: what the normal keeps of itself at each iteration.
        std: of the first candidates.
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
    """CEM with colored noise that tries its last elites again, shifted to the next step too; acts on the best one.

    (Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning, 2020; with a constant number of
    candidates.)

    Arguments:
        horizon, candidates, iterations: of the search.
        elites: how many of the best the normal is fitted to.
        reused: how many of them are tried again.
        color: exponent of the noise's power spectrum.
        momentum: what the normal keeps of itself at each iteration.
        std: of the first candidates.
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
    """Model-predictive path integral control: the mean of all candidates, weighed by exp(value / temperature).

    Values count in units of their standard deviation over candidates, so that one temperature serves every reward
    (Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning, 2017).

    Arguments:
        horizon, candidates, iterations: of the search.
        temperature: of the weights; 0.1 lets a few of the best decide.
        color: exponent of the noise's power spectrum.
        std: of all candidates.
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
    """The k best candidates, best first: x [E, C, H, A], value [E, C] -> [E, k, H, A]; the best for broken ones."""
    best = value.topk(k, 1)
    index = torch.where(best.values > -torch.inf, best.indices, best.indices[:, :1])
    return x.gather(1, index[..., None, None].expand(-1, -1, *x.shape[2:]))


def refit(plan: Plan, elites: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of elites [E, k, H, A], with a share of the plan's own: [E, H, A] each."""
    return (
        elites.mean(1).lerp(plan.mean, momentum),
        elites.std(1, correction=0).lerp(plan.std, momentum),
    )


def count_nonfinite(value: Tensor) -> Tensor:
    """Candidates without a finite value: [E, C] -> [E]."""
    return (value == -torch.inf).sum(1).to(value.dtype)


def color_filter(H: int, color: float) -> Tensor:
    """A matrix [H, H] that turns white noise over time (on its left) into noise of spectrum 1/f^color, variance 1."""
    frequency = torch.fft.rfftfreq(H, dtype=torch.float64)
    frequency[0] = 1 / H
    matrix = torch.fft.irfft(torch.fft.rfft(torch.eye(H, dtype=torch.float64)) * frequency ** (-color / 2), n=H)
    return matrix / matrix.norm(dim=0)


def check_share(**sizes: int) -> None:
    """Two sizes by name, the first of which is a part of the second."""
    (part, k), (whole, n) = sizes.items()
    if not 1 <= k <= n:
        raise ValueError(f"got {part}={k} of {whole}={n}, wanted at least 1 and not more than there are")

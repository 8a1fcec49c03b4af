"""Likelihoods: from a network's output to the distribution of the target it is taught.

A target has `size` numbers of the output, side by side: out [n, B, K * size] for K targets (A actions in Q-learning).
Called with the output of every draw and, where targets belong to one taken action, the actions [B], a likelihood
returns a distribution over targets [n, B], else over [n, B, K].

What is unknown splits by its definition: the epistemic part is what the draws disagree on, the aleatoric part what each
draw leaves open itself (Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning, 2018).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """What a posterior predicts at B inputs.

    Attributes:
        mean: expected target, [B, K]; class probabilities [B, C] for a categorical likelihood.
        epistemic: [B, K], variance over draws of the expected target; mutual information in nats, [B], for classes.
        aleatoric: [B, K], mean over draws of the target's variance; expected entropy in nats, [B], for classes.
    """

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor


class Likelihood(nn.Module):
    """The base of all.

    Attributes:
        size: numbers of the network's output for one target.
        linear: the expected target is a linear function of the output, so that means of draws pass through it.
        discrete: targets are class numbers, not numbers.
    """

    size: int = 1
    linear: bool = True
    discrete: bool = False

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        """The target's distribution: out [n, B, K * size], action [B] int64 or None -> batch [n, B] or [n, B, K]."""
        raise NotImplementedError

    def mean(self, out: Tensor) -> Tensor:
        """The expected target: [..., K * size] -> [..., K]."""
        return out

    def variance(self, out: Tensor) -> Tensor:
        """The target's variance given the draw: [..., K * size] -> [..., K]."""
        raise NotImplementedError

    def moved(self, outputs: int) -> Tensor:
        """1 for each of the K * size outputs that a random prior function is added to, else 0; all by default."""
        return torch.ones(outputs)

    def split(self, out: Tensor) -> Prediction:
        """Mean, epistemic and aleatoric part over draws, which sum to the mixture's variance: out [n, B, K * size]."""
        mean = self.mean(out)
        return Prediction(mean.mean(0), mean.var(0, correction=0), self.variance(out).mean(0))

    def parts(self, out: Tensor, action: Tensor | None = None) -> Tensor:
        """The numbers of each target, or of the taken one: [n, B, K * size] -> [n, B, K, size] or [n, B, size]."""
        out = out.unflatten(-1, (-1, self.size))
        if action is None:
            return out
        return out.gather(-2, action.expand(len(out), -1)[..., None, None].expand(-1, -1, 1, self.size))[..., 0, :]


class Gaussian(Likelihood):
    """y | x ~ Normal(f(x), sigma^2) with a fixed sigma in (scaled) units of the target."""

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = _positive(sigma, "sigma")

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        return dist.Normal(mean, torch.full_like(mean, self.sigma), validate_args=False)

    def variance(self, out: Tensor) -> Tensor:
        return torch.full_like(out, self.sigma**2)


class LearnedGaussian(Likelihood):
    """y | x ~ Normal(f(x), sigma^2) with one sigma, learned by maximum likelihood beside the posterior.

    Arguments:
        sigma: where it starts.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(_positive(sigma, "sigma"))))

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        return dist.Normal(mean, self.log_sigma.exp().expand_as(mean), validate_args=False)

    def variance(self, out: Tensor) -> Tensor:
        return (2 * self.log_sigma).exp().expand_as(out)


class Heteroscedastic(Likelihood):
    """y | x ~ Normal(f(x), sigma(x)^2), the network's second number giving log sigma^2 (Nix & Weigend, 1994).

    The log-variance is bounded softly on both sides, so that it can neither explode nor reward certainty without end
    (Chua et al., Deep Reinforcement Learning in a Handful of Trials, 2018).

    Maximum likelihood may call noise what it has not fitted yet, and then hardly looks at it again: rare and large
    targets are lost. With beta > 0 gradients count by sigma^(2 beta), relative to its mean over the batch, which takes
    back some of the division by sigma^2 (Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty Estimation with
    Probabilistic Neural Networks, 2022); likelihoods themselves are not changed. Samplers, whose gradients are a
    potential's, want 0.

    Arguments:
        sigma: where an output of 0 starts.
        least, most: bounds of sigma.
        beta: 0 for maximum likelihood, to 1, where means are fitted as if the noise were the same everywhere.
    """

    size = 2

    def __init__(self, sigma: float = 0.1, least: float = 1e-3, most: float = 10.0, beta: float = 0.0) -> None:
        super().__init__()
        if not 0 < least < sigma < most < math.inf:
            raise ValueError(f"got sigma={sigma}, least={least}, most={most}, wanted 0 < least < sigma < most")
        if not 0 <= beta <= 1:
            raise ValueError(f"got beta={beta}, wanted a number from 0 to 1")
        self.beta = beta
        center, self.low, self.high = (2 * math.log(s) for s in (sigma, least, most))
        self.shift = self.high - _unsoftplus(self.high - self.low - _unsoftplus(center - self.low))

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean, log = self.parts(out, action).unbind(-1)
        std = (0.5 * self._bounded(log)).exp()
        return WeightedNormal(mean, std, self.beta) if self.beta else dist.Normal(mean, std, validate_args=False)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out)[..., 0]

    def variance(self, out: Tensor) -> Tensor:
        return self._bounded(self.parts(out)[..., 1]).exp()

    def moved(self, outputs: int) -> Tensor:
        """The mean: a prior function is one of the values expected, not of how noisy they are."""
        return torch.tensor([1.0, 0.0]).repeat(outputs // 2)

    def _bounded(self, log: Tensor) -> Tensor:
        log = self.high - nn.functional.softplus(self.high - self.shift - log)
        return self.low + nn.functional.softplus(log - self.low)


class WeightedNormal(dist.Normal):
    """A normal whose log-probability has gradients weighted by scale^(2 beta), in the mean over the batch by 1.

    Arguments:
        loc, scale: [n, B, *].
        beta: of the weights.
    """

    def __init__(self, loc: Tensor, scale: Tensor, beta: float) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.beta = beta

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> WeightedNormal:
        return WeightedNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.beta)

    def log_prob(self, value: Tensor) -> Tensor:
        log_p = super().log_prob(value)
        weight = self.scale.detach() ** (2 * self.beta)
        weighted = weight / weight.mean((0, 1), keepdim=True) * log_p
        return log_p.detach() + (weighted - weighted.detach())


class StudentT(Likelihood):
    """y | x ~ StudentT(df, f(x), scale): outliers move it less than they move a Gaussian.

    Arguments:
        df: degrees of freedom, above 2 so that the variance exists.
        scale: in (scaled) units of the target.
    """

    def __init__(self, df: float = 4.0, scale: float = 0.1) -> None:
        super().__init__()
        if not df > 2:
            raise ValueError(f"got df={df}, wanted more than 2 degrees of freedom, so that the variance exists")
        self.df, self.scale = df, _positive(scale, "scale")

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        df, scale = torch.full_like(mean, self.df), torch.full_like(mean, self.scale)
        return unchecked_student_t(df, mean, scale)

    def variance(self, out: Tensor) -> Tensor:
        return torch.full_like(out, self.scale**2 * self.df / (self.df - 2))


class Categorical(Likelihood):
    """y | x ~ Categorical(softmax f(x)) over C classes: classification; targets are class numbers [B] int64.

    Arguments:
        classes: C, the width of the network's output.
    """

    linear = False
    discrete = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"got classes={classes}, wanted two or more")
        self.size = classes

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        if action is not None:
            raise ValueError("got actions with a categorical likelihood, wanted none: use Histogram for Q-values")
        return dist.Categorical(logits=self.parts(out)[..., 0, :], validate_args=False)

    def mean(self, out: Tensor) -> Tensor:
        """Class probabilities: [..., C] -> [..., C]."""
        return out.softmax(-1)

    def variance(self, out: Tensor) -> Tensor:
        """Of each class's indicator, p (1 - p): [..., C] -> [..., C]."""
        p = out.softmax(-1)
        return p * (1 - p)

    def split(self, out: Tensor) -> Prediction:
        """Predictive entropy = mutual information + expected entropy (Houlsby et al., 2011)."""
        mean = out.softmax(-1).mean(0)
        expected = torch.special.entr(out.softmax(-1)).sum(-1).mean(0)
        return Prediction(mean, torch.special.entr(mean).sum(-1) - expected, expected)


class Histogram(Likelihood):
    """A distribution over bins, taught by cross-entropy with a Gaussian around the target spread over the same bins.

    Regression by classification for Q-values: "HL-Gauss" (Farebrother et al., Stop Regressing, 2024). Targets beyond
    the support count as at its ends. The Gaussian's variance is part of `variance`, and `log_prob` is minus a
    cross-entropy over bins, not a density to compare with other likelihoods'.

    Arguments:
        low, high: the support, in (scaled) units of the target.
        bins: in how many equal parts.
        sigma: standard deviation of the Gaussian around the target, in bins.
    """

    linear = False
    centers: Tensor
    edges: Tensor

    def __init__(self, low: float = -5.0, high: float = 5.0, bins: int = 51, sigma: float = 0.75) -> None:
        super().__init__()
        if not -math.inf < low < high < math.inf or bins < 2:
            raise ValueError(f"got low={low}, high={high}, bins={bins}, wanted finite low < high and two or more bins")
        self.size, self.sigma = bins, _positive(sigma, "sigma") * (high - low) / bins
        edges = torch.linspace(low, high, bins + 1)
        self.register_buffer("edges", edges)
        self.register_buffer("centers", (edges[1:] + edges[:-1]) / 2)

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        return Smoothed(self.parts(out, action).log_softmax(-1), self.edges, self.sigma)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out).softmax(-1) @ self.centers

    def variance(self, out: Tensor) -> Tensor:
        p = self.parts(out).softmax(-1)
        return (p * (self.centers - (p @ self.centers)[..., None]).square()).sum(-1)


class Smoothed(dist.TorchDistribution):
    """Log-probabilities of bins [*, bins], scored by the cross-entropy with a smoothed target."""

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, log_p: Tensor, edges: Tensor, sigma: float) -> None:
        self.log_p, self.edges, self.sigma = log_p, edges, sigma
        super().__init__(log_p.shape[:-1], validate_args=False)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> Smoothed:
        return Smoothed(self.log_p.expand(*batch_shape, -1), self.edges, self.sigma)

    def log_prob(self, value: Tensor) -> Tensor:
        low, high = self.edges[0], self.edges[-1]
        below = torch.special.ndtr((self.edges - value.clamp(low, high)[..., None]) / self.sigma)
        mass = below.diff(dim=-1) / (below[..., -1:] - below[..., :1])
        return (mass * self.log_p).sum(-1)


class WithFlag(Likelihood):
    """Targets of another likelihood and, last, one that is 0 or 1: y ~ Bernoulli(sigmoid f(x)), such as a termination.

    The flag's logit is the first of its numbers; further ones are not used.

    Arguments:
        inner: of the other targets.
    """

    linear = False

    def __init__(self, inner: Likelihood) -> None:
        super().__init__()
        if inner.discrete:
            raise ValueError(f"got {type(inner).__name__} beside a flag, wanted a likelihood of numbers: gaussian")
        self.inner, self.size = inner, inner.size

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        if action is not None:
            raise ValueError("got actions with a flag, wanted none: the flag is a target of its own")
        return Flagged(self.inner(out[..., : -self.size]), out[..., -self.size])

    def mean(self, out: Tensor) -> Tensor:
        return torch.cat([self.inner.mean(out[..., : -self.size]), out[..., -self.size, None].sigmoid()], -1)

    def variance(self, out: Tensor) -> Tensor:
        p = out[..., -self.size, None].sigmoid()
        return torch.cat([self.inner.variance(out[..., : -self.size]), p * (1 - p)], -1)

    def moved(self, outputs: int) -> Tensor:
        """As the other likelihood says; the flag's logit is left alone."""
        return torch.cat([self.inner.moved(outputs - self.size), torch.zeros(self.size)])


class Flagged(dist.TorchDistribution):
    """K targets of a distribution, batch [*, K], and a flag of `logit` [*]: batch [*, K + 1]."""

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, numbers: dist.TorchDistribution, logit: Tensor) -> None:
        self.numbers, self.logit = numbers, logit
        *batch, K = numbers.batch_shape
        super().__init__(torch.Size([*batch, K + 1]), validate_args=False)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> Flagged:
        *batch, K = batch_shape
        return Flagged(self.numbers.expand([*batch, K - 1]), self.logit.expand(*batch))

    def log_prob(self, value: Tensor) -> Tensor:
        logit, flag = torch.broadcast_tensors(self.logit, value[..., -1])
        flag = -nn.functional.binary_cross_entropy_with_logits(logit, flag, reduction="none")
        numbers = self.numbers.log_prob(value[..., :-1])
        return torch.cat([numbers, flag.expand(numbers.shape[:-1])[..., None]], -1)


def unchecked_student_t(df: Tensor, loc: Tensor, scale: Tensor) -> dist.StudentT:
    """Return a Student-t that validates nothing; its inner chi-square would follow the global setting otherwise."""
    with pyro.validation_enabled(False):
        return dist.StudentT(df, loc, scale, validate_args=False)


def _unsoftplus(value: float) -> float:
    """The number whose softplus is the positive `value`."""
    return value + math.log(-math.expm1(-value))


def _positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"got {name}={value}, wanted a positive noise scale")
    return value

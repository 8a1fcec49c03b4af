"""Gaussian likelihoods: a fixed, a learned, or an input-dependent standard deviation.

Shapes: n draws, B batch, K targets.
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from bayesrl.likelihoods.base import Likelihood, check_positive


class Gaussian(Likelihood):
    """y | x ~ Normal(f(x), sigma^2) with a fixed sigma.

    Arguments:
        sigma: standard deviation in (scaled) units of the target.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = check_positive(sigma, "sigma")

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        return dist.Normal(mean, torch.full_like(mean, self.sigma), validate_args=False)

    def variance(self, out: Tensor) -> Tensor:
        return torch.full_like(out, self.sigma**2)


class LearnedGaussian(Likelihood):
    """y | x ~ Normal(f(x), sigma^2) with one sigma, learned by maximum likelihood together with the posterior.

    Arguments:
        sigma: initial standard deviation in (scaled) units of the target.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(check_positive(sigma, "sigma"))))

    def extra_repr(self) -> str:
        return f"sigma={float(self.log_sigma.detach().exp()):.3g}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = self.parts(out, action)[..., 0]
        return dist.Normal(mean, self.log_sigma.exp().expand_as(mean), validate_args=False)

    def variance(self, out: Tensor) -> Tensor:
        return (2 * self.log_sigma).exp().expand_as(out)


class Heteroscedastic(Likelihood):
    """y | x ~ Normal(f(x), sigma(x)^2), where the second output of a target is log sigma^2 (Nix & Weigend, 1994).

    The log-variance has soft bounds on both sides, so that it neither diverges nor rewards unlimited confidence (Chua
    et al., Deep Reinforcement Learning in a Handful of Trials, 2018).

    Maximum likelihood may explain a target that is not fitted yet as noise, which shrinks the gradient of its mean, so
    that rare and large targets are never fitted. With beta > 0 gradients are weighted by sigma^(2 beta), relative to
    its mean over the batch, which compensates for a part of the division by sigma^2 (Seitzer et al., On the Pitfalls of
    Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks, 2022). The value of the likelihood does
    not change. MCMC posteriors need beta = 0, because their gradients must be those of a potential.

    Arguments:
        sigma: standard deviation for an output of 0.
        min_sigma, max_sigma: bounds of the standard deviation.
        beta: from 0, maximum likelihood, to 1, where means are fitted as if the noise were constant.
    """

    size = 2

    def __init__(self, sigma: float = 0.1, min_sigma: float = 1e-3, max_sigma: float = 10.0, beta: float = 0.0) -> None:
        super().__init__()
        if not 0 < min_sigma < sigma < max_sigma < math.inf:
            raise ValueError(
                f"got sigma={sigma}, min_sigma={min_sigma}, max_sigma={max_sigma}, wanted 0 < min_sigma < sigma < "
                "max_sigma, finite"
            )
        if not 0 <= beta <= 1:
            raise ValueError(f"got beta={beta}, wanted a number from 0 to 1")
        self.beta = beta
        center, self.low, self.high = (2 * math.log(s) for s in (sigma, min_sigma, max_sigma))
        self.shift = self.high - _unsoftplus(self.high - self.low - _unsoftplus(center - self.low))

    def extra_repr(self) -> str:
        return f"min_sigma={math.exp(self.low / 2):.3g}, max_sigma={math.exp(self.high / 2):.3g}, beta={self.beta}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean, log = self.parts(out, action).unbind(-1)
        std = (0.5 * self._bounded(log)).exp()
        return WeightedNormal(mean, std, self.beta) if self.beta else dist.Normal(mean, std, validate_args=False)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out)[..., 0]

    def variance(self, out: Tensor) -> Tensor:
        return self._bounded(self.parts(out)[..., 1]).exp()

    def prior_mask(self, outputs: int) -> Tensor:
        """Return 1 for the means and 0 for the log-variances."""
        return torch.tensor([1.0, 0.0]).repeat(outputs // 2)

    def _bounded(self, log: Tensor) -> Tensor:
        log = self.high - nn.functional.softplus(self.high - self.shift - log)
        return self.low + nn.functional.softplus(log - self.low)


class WeightedNormal(dist.Normal):
    """A normal whose log-probability has gradients weighted by scale^(2 beta), normalized to a mean weight of 1.

    Arguments:
        loc, scale: [n, B, *].
        beta: exponent of the weights.
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


def _unsoftplus(value: float) -> float:
    """Return the inverse of softplus at a positive value."""
    return value + math.log(-math.expm1(-value))

"""Likelihoods by classification: class labels, or numbers in bins.

Shapes: n draws, B batch, K targets, C classes.
"""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from bayesrl.likelihoods.base import Likelihood, Prediction, check_positive


class Categorical(Likelihood):
    """y | x ~ Categorical(softmax f(x)), for classification; targets are class labels [B] int64.

    Arguments:
        classes: C, the number of classes and of the network's outputs.
    """

    linear = False
    discrete = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"got classes={classes}, wanted two or more")
        self.size = classes

    def extra_repr(self) -> str:
        return f"classes={self.size}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        if action is not None:
            raise ValueError("got actions with a categorical likelihood, wanted none: use Histogram for Q-values")
        return dist.Categorical(logits=self.parts(out)[..., 0, :], validate_args=False)

    def mean(self, out: Tensor) -> Tensor:
        """Return the class probabilities: [..., C] -> [..., C]."""
        return out.softmax(-1)

    def variance(self, out: Tensor) -> Tensor:
        """Return the variance p (1 - p) of each class indicator: [..., C] -> [..., C]."""
        p = out.softmax(-1)
        return p * (1 - p)

    def split(self, out: Tensor) -> Prediction:
        """Split the predictive entropy into mutual information and expected entropy (Houlsby et al., 2011)."""
        mean = out.softmax(-1).mean(0)
        expected = torch.special.entr(out.softmax(-1)).sum(-1).mean(0)
        return Prediction(mean, torch.special.entr(mean).sum(-1) - expected, expected)


class Histogram(Likelihood):
    """A distribution over bins, trained by the cross-entropy with a Gaussian around the target ("HL-Gauss").

    The Gaussian is integrated over the same bins (Farebrother et al., Stop Regressing, 2024). Targets outside the
    support are moved to its nearest end. The Gaussian's variance is part of `variance`, and `log_prob` is minus the
    cross-entropy over bins, which is not a density and not comparable with other likelihoods.

    Arguments:
        low, high: limits of the support, in (scaled) units of the target.
        bins: number of bins of equal width.
        sigma: standard deviation of the Gaussian around the target, in units of a bin's width.
    """

    linear = False
    centers: Tensor
    edges: Tensor

    def __init__(self, low: float = -5.0, high: float = 5.0, bins: int = 51, sigma: float = 0.75) -> None:
        super().__init__()
        if not -math.inf < low < high < math.inf or bins < 2:
            raise ValueError(f"got low={low}, high={high}, bins={bins}, wanted finite low < high and two or more bins")
        self.size, self.sigma = bins, check_positive(sigma, "sigma") * (high - low) / bins
        edges = torch.linspace(low, high, bins + 1)
        self.register_buffer("edges", edges)
        self.register_buffer("centers", (edges[1:] + edges[:-1]) / 2)

    def extra_repr(self) -> str:
        return f"low={float(self.edges[0]):g}, high={float(self.edges[-1]):g}, bins={self.size}"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        return HistogramDistribution(self.parts(out, action).log_softmax(-1), self.edges, self.sigma)

    def mean(self, out: Tensor) -> Tensor:
        return self.parts(out).softmax(-1) @ self.centers

    def variance(self, out: Tensor) -> Tensor:
        p = self.parts(out).softmax(-1)
        return (p * (self.centers - (p @ self.centers)[..., None]).square()).sum(-1)


class HistogramDistribution(dist.TorchDistribution):
    """A distribution over bins whose `log_prob` is minus the cross-entropy with a smoothed target.

    Arguments:
        log_p: log-probabilities of the bins, [*, bins].
        edges: edges of the bins, [bins + 1].
        sigma: standard deviation of the Gaussian around a target, in units of the target.
    """

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, log_p: Tensor, edges: Tensor, sigma: float) -> None:
        self.log_p, self.edges, self.sigma = log_p, edges, sigma
        super().__init__(log_p.shape[:-1], validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> HistogramDistribution:
        return HistogramDistribution(self.log_p.expand(*batch_shape, -1), self.edges, self.sigma)

    def log_prob(self, value: Tensor) -> Tensor:
        low, high = self.edges[0], self.edges[-1]
        below = torch.special.ndtr((self.edges - value.clamp(low, high)[..., None]) / self.sigma)
        mass = below.diff(dim=-1) / (below[..., -1:] - below[..., :1])
        return (mass * self.log_p).sum(-1)

"""Likelihoods map a network's output to the distribution of its target.

Each target takes `size` adjacent numbers of the output: out [n, B, K * size] for K targets (the A actions in
Q-learning). A likelihood is called with the outputs of n draws and returns a distribution over targets [n, B, K]; with
the taken actions [B] as well, it returns the distribution of their targets, [n, B].

Predictive uncertainty has two parts: the epistemic part is the disagreement between draws, the aleatoric part the noise
that each draw predicts itself (Depeweg et al., Decomposition of Uncertainty in Bayesian Deep Learning, 2018).

Shapes: n draws, B batch, A actions, K targets, C classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Prediction(NamedTuple):
    """A prediction at B inputs.

    Attributes:
        mean: expected target, [B, K]; for classes their probabilities, [B, C].
        epistemic: variance over draws of the expected target, [B, K]; for classes the mutual information in nats, [B].
        aleatoric: mean over draws of the target's variance, [B, K]; for classes the expected entropy in nats, [B].
    """

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor


class Likelihood(nn.Module):
    """Base class of likelihoods.

    Attributes:
        size: numbers of the network's output for one target.
        linear: whether the expected target is linear in the output, so that it may be computed from the mean output.
        discrete: whether targets are class labels.
    """

    size: int = 1
    linear: bool = True
    discrete: bool = False

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        """Return the distribution of the targets.

        Arguments:
            out: outputs of n draws, [n, B, K * size].
            action: the taken actions, [B] int64, whose targets alone are wanted; None for all K targets.

        Returns:
            A distribution with the batch shape [n, B, K], or [n, B] where actions are passed.
        """
        raise NotImplementedError

    def mean(self, out: Tensor) -> Tensor:
        """Return the expected target: [..., K * size] -> [..., K]."""
        return out

    def variance(self, out: Tensor) -> Tensor:
        """Return the variance of the target under each draw: [..., K * size] -> [..., K]."""
        raise NotImplementedError

    def prior_mask(self, outputs: int) -> Tensor:
        """Return 1 for each output that a random prior function is added to, else 0: [K * size], by default all 1."""
        return torch.ones(outputs)

    def split(self, out: Tensor) -> Prediction:
        """Return the mean of the mixture of draws and the two parts of its variance: out [n, B, K * size]."""
        mean = self.mean(out)
        return Prediction(mean.mean(0), mean.var(0, correction=0), self.variance(out).mean(0))

    def parts(self, out: Tensor, action: Tensor | None = None) -> Tensor:
        """Separate targets: [n, B, K * size] -> [n, B, K, size], or the taken action's target alone, [n, B, size]."""
        out = out.unflatten(-1, (-1, self.size))
        if action is None:
            return out
        return out.gather(-2, action.expand(len(out), -1)[..., None, None].expand(-1, -1, 1, self.size))[..., 0, :]


def check_positive(value: float, name: str) -> float:
    """Return a noise scale that is positive and finite; raise a ValueError for others."""
    if not 0 < value < math.inf:
        raise ValueError(f"got {name}={value}, wanted a positive noise scale")
    return value

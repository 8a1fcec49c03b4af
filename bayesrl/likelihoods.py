"""Likelihoods: from a network's output to the distribution of the target it is taught.

A likelihood is called with the output [n, B, *out] of every draw and, where targets belong to one taken action, the
actions [B]; it returns a distribution over targets [n, B, *].
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor


def taken(out: Tensor, action: Tensor | None) -> Tensor:
    """The taken action's output: out [n, B, A], action [B] int64 -> [n, B]; without an action, `out` as it is."""
    if action is None:
        return out
    return out.gather(-1, action.expand(out.shape[0], -1)[..., None])[..., 0]


class Gaussian:
    """y | x, a ~ Normal(f(x, a), sigma^2) with a fixed sigma in (scaled) return units."""

    def __init__(self, sigma: float = 0.1) -> None:
        if not sigma > 0:
            raise ValueError(f"got sigma={sigma}, wanted a positive noise scale")
        self.sigma = sigma

    def __call__(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        mean = taken(out, action)
        return dist.Normal(mean, torch.full_like(mean, self.sigma), validate_args=False)

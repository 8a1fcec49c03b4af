"""`full_rank`: a normal over the weights with a full covariance, for last layers and small networks.

    q(theta) = Normal(mu, L L^T),   L = diag(s) (I + N), N strictly lower triangular;   draw z: theta = mu + L z
    maximize  E_q sum_i log p(y_i | f_theta(x_i)) - T KL(q || Normal(loc, diag(std^2)))

The family contains the exact posterior of a linear network with normal noise. (Challis & Barber, Gaussian
Kullback-Leibler Approximate Inference, 2013.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.svi import IndexedGaussian, Variational
from bayesrl.priors import FanIn, Prior


class FullRank(Variational):
    """Normal weights with a full covariance; the index z is their noise, [n, C].

    Arguments:
        network: the network whose weights are random; A outputs.
        prior: maps the network to the prior over its weights.
        draws: n, the number of draws that an update trains.
        init_scale: initial s, as a share of the prior's standard deviation.
        cover: the random weights: those of the "head", with a point estimate of the others, or of the whole "network".
        limit: the largest C that is accepted; memory and the time of an update grow with C^2.
        temperature: T, the factor of the KL.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior] = FanIn,
        draws: int = 1,
        init_scale: float = 0.1,
        cover: str = "head",
        limit: int = 3000,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__(network, prior, draws, cover, temperature, likelihood)
        C = len(self.mu) - self.first
        required, free = 4 * C**2 * self.mu.element_size(), available_memory()
        if limit < C or required > free:
            other = "posterior=low_rank" if cover == "head" else "posterior=low_rank, or posterior.cover=head"
            raise ValueError(
                f"got {C} random weights, whose matrix takes {required / 2**30:.3g} GiB with gradient and optimizer, "
                f"wanted {limit} or fewer, and {free / 2**30:.3g} GiB or less: use {other}"
            )
        self.log_scale = nn.Parameter(self.initial(init_scale).log())
        self.lower = nn.Parameter(torch.zeros(C, C))
        self.optimizer = optimizer(list(self.parameters()))

    @property
    def width(self) -> int:
        return len(self.log_scale)

    def q(self, z: Tensor) -> FullRankNormal:
        return FullRankNormal(self.mu[self.first :], self.log_scale, self.lower, z[:, None])


class FullRankNormal(IndexedGaussian):
    """Normal(loc, L L^T) with L = diag(exp(log_scale)) (I + tril(lower, -1)).

    Arguments:
        loc, log_scale: [C].
        lower: [C, C].
        noise: [*, C].
    """

    def __init__(self, loc: Tensor, log_scale: Tensor, lower: Tensor, noise: Tensor) -> None:
        self.log_scale, self.lower = log_scale, lower.tril(-1)
        super().__init__(loc, noise)

    def scale_noise(self, noise: Tensor) -> Tensor:
        return self.log_scale.exp() * (noise + noise @ self.lower.T)

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_scale).exp() * (1 + self.lower.square().sum(1))

    @property
    def logdet(self) -> Tensor:
        return 2 * self.log_scale.sum()

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        e = (deviation / self.log_scale.exp())[..., None]
        root = torch.linalg.solve_triangular(self.lower, e, upper=False, unitriangular=True)
        return root.square().sum((-1, -2))


def available_memory() -> float:
    """Return the available main memory in bytes; infinity if the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return 1024 * float(next(line for line in lines if line.startswith("MemAvailable")).split()[1])

"""`low_rank`: a normal over the weights with a low-rank part of its covariance.

    q(theta) = Normal(mu, S (I + U U^T) S),   S = diag(s), U [C, r];   draw z = [a | b]: theta = mu + s (U a + b)
    maximize  E_q sum_i log p(y_i | f_theta(x_i)) - T KL(q || Normal(loc, diag(std^2)))

The KL has a closed form: log det(S (I + U U^T) S) = 2 sum log s + log det(I_r + U^T U), an r x r determinant. (Ong,
Nott & Smith, Gaussian variational approximation with a factor covariance structure, 2018, with V = S U and d = s in
their V V^T + diag(d^2).)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.svi import IndexedGaussian, Variational
from bayesrl.priors import FanIn, Prior


class LowRank(Variational):
    """Normal weights with r directions in common; the index z = [a | b] is their noise, [n, r + C].

    Arguments:
        network: the network whose weights are random; A outputs.
        prior: maps the network to the prior over its weights.
        rank: r.
        draws: n, the number of draws that an update trains.
        init_scale: initial s, as a share of the prior's standard deviation; U starts from Normal(0, 1 / r), so that
            the two parts of the covariance start with equal variances.
        cover: the random weights: those of the whole "network", or of its "head", with a point estimate of the others.
        temperature: T, the factor of the KL.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior] = FanIn,
        rank: int = 4,
        draws: int = 1,
        init_scale: float = 0.1,
        cover: str = "network",
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__(network, prior, draws, cover, temperature, likelihood)
        if rank < 1:
            raise ValueError(f"got rank={rank}, wanted 1 or more: posterior=mean_field is rank 0")
        self.log_scale = nn.Parameter(self.initial(init_scale).log())
        self.factor = nn.Parameter(torch.randn(rank, len(self.log_scale)) / rank**0.5)
        self.optimizer = optimizer(list(self.parameters()))

    @property
    def width(self) -> int:
        return sum(self.factor.shape)

    def q(self, z: Tensor) -> LowRankNormal:
        return LowRankNormal(self.mu[self.first :], self.log_scale, self.factor, z[:, None])


class LowRankNormal(IndexedGaussian):
    """Normal(loc, S (I + U U^T) S) with S = diag(exp(log_scale)).

    Arguments:
        loc, log_scale: [C].
        factor: U^T, [r, C].
        noise: [*, r + C].
    """

    def __init__(self, loc: Tensor, log_scale: Tensor, factor: Tensor, noise: Tensor) -> None:
        self.log_scale, self.factor, self.rank = log_scale, factor, len(factor)
        super().__init__(loc, noise)

    def scale_noise(self, noise: Tensor) -> Tensor:
        common, independent = noise.split(self.factor.shape, -1)
        return self.log_scale.exp() * (independent + common @ self.factor)

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_scale).exp() * (1 + self.factor.square().sum(0))

    @property
    def logdet(self) -> Tensor:
        return 2 * (self.log_scale.sum() + self.root().diagonal().log().sum().to(self.log_scale.dtype))

    def root(self) -> Tensor:
        """Return the Cholesky factor of I + U^T U, [r, r], in double precision, which a large U^T U needs."""
        u = self.factor.double()
        capacitance = torch.eye(self.rank, dtype=u.dtype, device=u.device) + u @ u.T
        return torch.linalg.cholesky_ex(capacitance).L  # `cholesky` would check the result, and so wait for it

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Return |e|^2 - |R^-1 U^T e|^2 with e = deviation / s and R R^T = I + U^T U (Woodbury identity)."""
        e = deviation / self.log_scale.exp()
        common = torch.linalg.solve_triangular(self.root().to(e.dtype), (e @ self.factor.T)[..., None], upper=False)
        return e.square().sum(-1) - common.square().sum((-1, -2))

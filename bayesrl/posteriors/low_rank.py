"""`low_rank`: a normal over the weights whose correlations have few directions.

    q(theta) = Normal(mu, S (I + U U^T) S),   S = diag(s), U [C, r];   draw z = [a | b]: theta = mu + s (U a + b)
    maximise  E_q sum_i log p(y_i | f_theta(x_i)) - T KL(q || Normal(loc, diag(std^2)))

The KL is closed: log det(S (I + U U^T) S) = 2 sum log s + log det(I_r + U^T U), an r x r determinant. (Ong, Nott &
Smith, Gaussian variational approximation with a factor covariance structure, 2018; V = S U, d = s in their V V^T +
diag(d^2).)
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
    """Normal weights with r directions in common; index z = [a | b] is their noise, [n, r + C].

    Arguments:
        network: body and head; A outputs.
        prior: network -> prior over its weights.
        rank: r.
        draws: n, taught at each update.
        init_scale: where s starts, as a share of the prior's standard deviation; U starts from Normal(0, 1 / r), as
            much in common as apart.
        cover: the weights that are random: of the whole "network", or of its "head", the others a point estimate.
        temperature: T, multiplies the KL.
        likelihood: output -> distribution of the target.
        optimizer: parameters -> torch optimiser.
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
    """Normal(loc, S (I + U U^T) S) with S = diag(exp log_scale), log_scale [P], factor U^T [r, P], noise [*, r + P]."""

    def __init__(self, loc: Tensor, log_scale: Tensor, factor: Tensor, noise: Tensor) -> None:
        self.log_scale, self.factor, self.rank = log_scale, factor, len(factor)
        super().__init__(loc, noise)

    def spread(self, noise: Tensor) -> Tensor:
        common, own = noise.split(self.factor.shape, -1)
        return self.log_scale.exp() * (own + common @ self.factor)

    @property
    def variance(self) -> Tensor:
        return (2 * self.log_scale).exp() * (1 + self.factor.square().sum(0))

    @property
    def logdet(self) -> Tensor:
        return 2 * (self.log_scale.sum() + self.root().diagonal().log().sum().to(self.log_scale.dtype))

    def root(self) -> Tensor:
        """Cholesky factor of I + U^T U, [r, r]; double, because U^T U may exceed single precision times I."""
        u = self.factor.double()
        capacitance = torch.eye(self.rank, dtype=u.dtype, device=u.device) + u @ u.T
        return torch.linalg.cholesky_ex(capacitance).L  # not `cholesky`, which looks at the result and so waits for it

    def distance(self, deviation: Tensor) -> Tensor:
        """By Woodbury: |e|^2 - |R^-1 U^T e|^2 with e = deviation / s and R R^T = I + U^T U."""
        e = deviation / self.log_scale.exp()
        common = torch.linalg.solve_triangular(self.root().to(e.dtype), (e @ self.factor.T)[..., None], upper=False)
        return e.square().sum(-1) - common.square().sum((-1, -2))

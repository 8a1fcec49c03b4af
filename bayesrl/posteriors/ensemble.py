"""`ensemble`: each member is the sum of a learned function and a frozen random prior function.

    f_k(x) = g(theta_k, x) + beta p(theta^p_k, x)
    minimize over theta_k  mean_i mask_ik (-log p(y_ik | f_k(x_i)))     mask_ik ~ Bernoulli(rho), one per observation

(Osband et al., Randomized Prior Functions for Deep Reinforcement Learning, 2018.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import WeightSpace


class Ensemble(WeightSpace):
    """K weight vectors; the index z is the member's number, [n, 1] int64.

    Arguments:
        network: a network with A outputs.
        members: K, all of which an update trains.
        prior_scale: beta, the standard deviation of the prior functions in (scaled) return units.
        mask: rho, the probability that a member trains on an observation.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    fixed = ("prior_theta", "beta")
    prior_theta: Tensor
    beta: Tensor

    def __init__(
        self,
        network: Network,
        members: int = 10,
        prior_scale: float = 0.3,
        mask: float = 0.5,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if members < 1 or prior_scale < 0:
            raise ValueError(
                f"got members={members}, prior_scale={prior_scale}, wanted members >= 1 and no negative scale"
            )
        if not 0 < mask <= 1:
            raise ValueError(
                f"got mask={mask}, wanted a probability in (0, 1]; 1 shows every observation to every member"
            )
        self.network, self.draws, self.likelihood = network, members, likelihood
        self.prior_scale, self.mask = prior_scale, mask
        self.register_buffer("beta", prior_scale * likelihood.prior_mask(network.outputs))
        self.theta = nn.Parameter(torch.stack([network.init() for _ in range(members)]))
        self.prior = network.prior(network.outputs)
        self.register_buffer("prior_theta", torch.stack([self.prior.init_prior() for _ in range(members)]))
        self.optimizer = optimizer(list(self.parameters()))

    def extra_repr(self) -> str:
        return f"prior_scale={self.prior_scale}, mask={self.mask}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw stratified indices: K successive ones contain every member once."""
        device, K = self.theta.device, self.draws
        rounds = [torch.randperm(K, generator=generator, device=device) for _ in range(-(-n // K))]
        return torch.cat(rounds)[:n, None] if rounds else torch.empty(0, 1, dtype=torch.int64, device=device)

    def tags(self, n: int) -> Tensor:
        return torch.rand(n, self.draws, device=self.theta.device) < self.mask

    def bootstrap(self, z: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
        weight = tags.T[z[:, 0]].to(self.theta.dtype)
        return weight, torch.zeros_like(weight)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.theta[z[:, 0]]

    def members(self, x: Tensor) -> Tensor:
        """Evaluate every member on every input: x [B, *] -> [K, B, *out]."""
        return self.network(self.theta, x) + self.beta * self.prior(self.prior_theta, x)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        k = z[:, 0]
        if len(z) >= self.draws:  # selecting outputs moves less memory than selecting weights
            return self.members(x)[k]
        return super().forward(z, x) + self.beta * self.prior(self.prior_theta[k], x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        k = z[:, 0]
        if len(z) >= self.draws:
            return self.members(x)[k, torch.arange(len(x), device=x.device)]
        return super().paired(z, x) + self.beta * self.prior.paired(self.prior_theta[k], x)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        learned, prior = super().functions(z), self.prior_theta[z[:, 0]]
        return lambda x: learned(x) + self.beta * self.prior.each(prior, x)

    def center(self, x: Tensor) -> Tensor:
        return self.members(x).mean(0)

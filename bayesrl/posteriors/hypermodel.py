"""`hypermodel`: a Bayesian linear head on learned features, where each draw corrects a prior function of its own.

    model:  xi ~ Normal(0, I_M)                              epistemic index
            w  ~ Normal(0, s^2 I)                            head weights, [K, D + 1]
            f(x, a) = phi(x)^T w_a + beta p(x, a)^T xi       p: frozen random features, phi: learned features
            y | x, a ~ likelihood(f(x, a))                   scaled by size / B
    guide:  q(xi) = p(xi);   q(w | xi) = Normal(m + L xi, diag(d^2))

The KL of q(xi) is zero because it equals its prior, and the KL of w given xi has a closed form. L lets each draw cancel
its prior function near the data; away from the data the prior function, and with it the uncertainty, remains. With
d = 0 and temperature 0 this is the linear hypermodel (Dwaracherla et al., Hypermodels for Exploration, 2020; Li et al.,
HyperAgent, 2024). With the same targets for all draws the objective is the ELBO of a restricted family; with
temporal-difference targets, which differ between draws, each draw has its own objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.svi import IndexedNormal, elbo
from bayesrl.posteriors.types import Batch


class Hypermodel(WeightSpace):
    """The default posterior; the index is z = [xi | eps], [n, M + K(D + 1)], or xi alone if noise = 0.

    Arguments:
        network: a network with A outputs.
        index_dim: M.
        draws: n, the number of draws that an update trains.
        prior_scale: beta, the prior standard deviation of f in (scaled) return units.
        weight_scale: s, the prior standard deviation of a head weight.
        noise: initial d, the standard deviation of a head weight given xi; 0 for none.
        temperature: T, the factor of the KL.
        perturbation: sigma_z of the target perturbation sigma_z xi^T c, where c is a unit vector stored with each
            observation; it requires noise = 0, since both model the noise of observations.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    fixed = ("prior_theta", "beta")
    temperature: Tensor
    prior_theta: Tensor
    beta: Tensor

    def __init__(
        self,
        network: Network,
        index_dim: int = 4,
        draws: int = 20,
        prior_scale: float = 0.3,
        weight_scale: float = 1.0,
        noise: float = 0.05,
        temperature: float = 1.0,
        perturbation: float = 0.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if index_dim < 1 or draws < 1 or prior_scale < 0 or weight_scale <= 0 or noise < 0 or temperature < 0:
            raise ValueError(
                f"got index_dim={index_dim}, draws={draws}, prior_scale={prior_scale}, weight_scale={weight_scale}, "
                f"noise={noise}, temperature={temperature}, wanted counts of 1 or more, a positive weight_scale, and "
                "no negative scale"
            )
        if noise > 0 and perturbation > 0:
            raise ValueError(
                f"got noise={noise} and perturbation={perturbation}, wanted one of them zero: both stand for the same "
                "observation noise, set posterior.noise=0 or posterior.perturbation=0"
            )
        self.network, self.index_dim, self.draws, self.likelihood = network, index_dim, draws, likelihood
        self.prior_scale, self.weight_scale, self.perturbation = prior_scale, weight_scale, perturbation
        self.register_buffer("beta", prior_scale * likelihood.prior_mask(network.outputs))
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        shape = (network.head_outputs, network.features_out + 1)
        self.phi = nn.Parameter(network.init()[: network.body_size])
        self.m = nn.Parameter(0.05 * torch.randn(shape))
        self.L = nn.Parameter(0.05 * torch.randn(*shape, index_dim))
        self.log_d = nn.Parameter(torch.full(shape, math.log(noise))) if noise > 0 else None
        self.prior = network.prior(network.outputs * index_dim)
        self.register_buffer("prior_theta", self.prior.init_prior())
        self.optimizer = optimizer(list(self.parameters()))

    def extra_repr(self) -> str:
        return f"index_dim={self.index_dim}, prior_scale={self.prior_scale}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.width, generator=generator, device=self.m.device, dtype=self.m.dtype)

    def central(self, n: int) -> Tensor:
        """Return index 0, whose function is the exact mean, as functions are linear in their index."""
        return self.m.new_zeros(1, self.width)

    @property
    def width(self) -> int:
        """Length of an index."""
        return self.index_dim + (self.log_d.numel() if self.log_d is not None else 0)

    def tags(self, n: int) -> Tensor:
        if not self.perturbation:
            return super().tags(n)
        return nn.functional.normalize(torch.randn(n, self.index_dim, device=self.m.device), dim=-1)

    def bootstrap(self, z: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
        weight, shift = super().bootstrap(z, tags)
        return weight, self.perturbation * z[:, : self.index_dim] @ tags.T if self.perturbation else shift

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        """Return the weights of the learned network, without the prior function: z [n, *] -> [n, P]."""
        w = self.head(z)
        return torch.cat([self.phi.expand(len(z), -1), w[..., :-1].flatten(1), w[..., -1]], 1)

    def head(self, z: Tensor) -> Tensor:
        """Return the head weights of each draw, m + L xi + d eps: z [n, *] -> [n, K, D + 1]."""
        mean = self.mean_head(z)
        return mean if self.log_d is None else mean + self.log_d.exp() * z[:, self.index_dim :].view_as(mean)

    def mean_head(self, z: Tensor) -> Tensor:
        """Return m + L xi, the mean of q(w | xi): z [n, *] -> [n, K, D + 1]."""
        flat = torch.addmm(self.m.flatten(), z[:, : self.index_dim], self.L.flatten(0, 1).T)
        return flat.view(-1, *self.m.shape)

    def prior_features(self, x: Tensor) -> Tensor:
        """Return beta p(x, a) / sqrt(M), with which f has the prior std beta: x [B, *] -> [B, A, M]."""
        p = self.prior.one(self.prior_theta, x).view(-1, self.network.outputs, self.index_dim)
        return p * (self.beta[:, None] / math.sqrt(self.index_dim))

    def compute(self, w: Tensor, xi: Tensor, x: Tensor) -> Tensor:
        """Evaluate f: head weights w [n, K, D + 1], xi [n, M] and x [B, *] -> [n, B, A].

        One matrix product serves all draws. Its innermost dimension is the batch, which compilers vectorize well.
        """
        phi = self.network.features(self.phi, x)
        flat = w.flatten(0, 1)
        out = torch.addmm(flat[:, -1:], flat[:, :-1], phi.T).view(*w.shape[:2], -1)
        prior = (xi @ self.prior_features(x).permute(2, 1, 0).flatten(1)).view(len(xi), self.network.outputs, -1)
        return self.network.combine(out.transpose(1, 2)) + prior.transpose(1, 2)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.compute(self.head(z), z[:, : self.index_dim], x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        w, phi = self.head(z), self.network.features(self.phi, x)
        learned = self.network.combine((w[..., :-1] * phi[:, None]).sum(-1) + w[..., -1])
        return learned + (self.prior_features(x) * z[:, None, : self.index_dim]).sum(-1)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        w, xi = self.head(z), z[:, : self.index_dim]

        def function(x: Tensor) -> Tensor:
            flat = x.flatten(0, 1)
            phi = self.network.features(self.phi, flat).unflatten(0, x.shape[:2])
            prior = self.prior_features(flat).unflatten(0, x.shape[:2])
            learned = torch.baddbmm(w[:, None, :, -1], phi, w[..., :-1].mT)
            return self.network.combine(learned) + (prior @ xi[:, None, :, None])[..., 0]

        return function

    # --- learn -------------------------------------------------------------------------------------------------

    def model(self, batch: Batch, z: Tensor) -> None:
        """Define the Pyro model, averaged over n draws, with the likelihood scaled from B to `size` observations."""
        n, B = batch.weight.shape
        xi = z[:, None, : self.index_dim]
        with poutine.scale(scale=1 / n), pyro.plate("draws", n, dim=-2):
            xi = pyro.sample("xi", dist.Normal(torch.zeros_like(xi), 1.0, validate_args=False).to_event(1))
            with poutine.scale(scale=self.temperature):
                prior = dist.Normal(self.m.new_zeros(n, 1, *self.m.shape), self.weight_scale, validate_args=False)
                w = pyro.sample("w", prior.to_event(2))
            y = self.likelihood(self.compute(w[:, 0], xi[:, 0], batch.x), batch.action)
            with pyro.plate("data", B, dim=-1), poutine.scale(scale=batch.weight * (batch.size / B)):
                pyro.sample("y", y.to_event(batch.y.dim() - 2), obs=batch.y)

    def guide(self, batch: Batch, z: Tensor) -> None:
        """Define the Pyro guide, whose sample is the draw with index z."""
        n = len(z)
        xi = z[:, None, : self.index_dim]
        with poutine.scale(scale=1 / n), pyro.plate("draws", n, dim=-2):
            pyro.sample("xi", IndexedNormal(torch.zeros_like(xi), torch.ones_like(xi), xi).to_event(1))
            with poutine.scale(scale=self.temperature):
                pyro.sample("w", self.conditional(z))

    def conditional(self, z: Tensor) -> dist.TorchDistribution:
        """Return q(w | xi), with batch shape [n, 1] and event shape [K, D + 1]; a point mass if d = 0."""
        if self.log_d is None:
            return dist.Delta(self.head(z)[:, None], event_dim=2, validate_args=False)
        eps = z[:, None, self.index_dim :].view(len(z), 1, *self.m.shape)
        mean = self.mean_head(z)[:, None]
        return IndexedNormal(mean, self.log_d.exp().expand_as(mean), eps).to_event(2)

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        bound, terms = elbo(self.model, self.guide, batch, z)
        return -bound / batch.size, {name: term / batch.size for name, term in terms.items()}

    def kl(self, z: Tensor) -> Tensor:
        if self.log_d is None:
            return super().kl(z)
        q = self.conditional(z)
        p = dist.Normal(torch.zeros_like(q.mean), self.weight_scale, validate_args=False).to_event(2)
        return torch.distributions.kl_divergence(q, p).mean()


class LinearHypermodel(Hypermodel):
    """The linear hypermodel: the head is m + L xi, with point estimates of m, L and phi; the index is z = xi, [n, M].

    It is `Hypermodel` with d = 0 and T = 0 (Dwaracherla et al., Hypermodels for Exploration, 2020).

    Arguments:
        network: a network with A outputs.
        index_dim: M.
        draws: n, the number of draws that an update trains.
        prior_scale: beta, the prior standard deviation of f in (scaled) return units.
        perturbation: sigma_z of the target perturbation sigma_z xi^T c, where c is a unit vector stored with each
            observation.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    def __init__(
        self,
        network: Network,
        index_dim: int = 4,
        draws: int = 20,
        prior_scale: float = 0.3,
        perturbation: float = 0.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__(
            network,
            index_dim,
            draws,
            prior_scale,
            noise=0.0,
            temperature=0.0,
            perturbation=perturbation,
            likelihood=likelihood,
            optimizer=optimizer,
        )

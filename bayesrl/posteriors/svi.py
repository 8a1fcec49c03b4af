"""Stochastic variational inference in Pyro without the per-step overhead of `pyro.infer.SVI`.

Pyro stays the definition: a model and a guide, with names, plates and scales. What changes is the evaluation: one trace
each, the KL in closed form, no validation and no device synchronisation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Generator, Tensor, nn
from torch.distributions import Independent, constraints, kl_divergence, register_kl

from bayesrl.likelihoods import Likelihood
from bayesrl.networks.network import Network
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.types import Batch
from bayesrl.priors import Prior


class IndexedNormal(dist.Normal):
    """A normal whose reparameterised draw uses given noise: equal noise, equal draw. The index of a guide's weights."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.noise = noise

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> IndexedNormal:
        return IndexedNormal(*(t.expand(batch_shape) for t in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.loc + self.scale * self.noise


def elbo(model: Callable, guide: Callable, *args) -> tuple[Tensor, dict[str, Tensor]]:
    """The evidence lower bound with analytic KL, a 0-d tensor, and its terms `nll` and `kl` (ELBO = -nll - kl).

    Equal to minus `pyro.infer.TraceMeanField_ELBO().differentiable_loss` for guides whose every site has a known KL to
    the model's (Kingma & Welling, 2014).
    """
    nll: Tensor | float = 0.0
    kl: Tensor | float = 0.0
    with pyro.validation_enabled(False):
        q = poutine.trace(guide).get_trace(*args)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args)
        # Pyro declares every site's `fn` a plain function; a sample site's is a distribution.
        guided: Mapping[str, Any] = q.nodes
        sites: Mapping[str, Any] = p.nodes
        for name, site in sites.items():
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            if site["is_observed"]:
                nll = nll - (site["scale"] * site["fn"].log_prob(site["value"])).sum()
            else:
                kl = kl + (guided[name]["scale"] * kl_divergence(guided[name]["fn"], site["fn"])).sum()
    return -(nll + kl), {"nll": nll, "kl": kl}  # type: ignore[dict-item, return-value]


class IndexedGaussian(dist.TorchDistribution):
    """A correlated Gaussian over vectors [P] whose reparameterised draw uses given noise: equal noise, equal draw.

    Subclasses say `spread`, `variance`, `logdet` and `distance`.

    Arguments:
        loc: mean, [P].
        noise: [*batch, M].
    """

    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, noise: Tensor) -> None:
        self.loc, self.noise = loc, noise
        super().__init__(noise.shape[:-1], loc.shape, validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> IndexedGaussian:
        new = copy.copy(self)
        IndexedGaussian.__init__(new, self.loc, self.noise.expand(*batch_shape, -1))
        return new

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.loc + self.spread(self.noise)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (self.distance(value - self.loc) + self.logdet + len(self.loc) * math.log(2 * math.pi))

    def spread(self, noise: Tensor) -> Tensor:
        """Deviation from the mean: standard normal noise [*, M] -> [*, P]."""
        raise NotImplementedError

    @property
    def variance(self) -> Tensor:
        """Diagonal of the covariance, [P]."""
        raise NotImplementedError

    @property
    def logdet(self) -> Tensor:
        """Log-determinant of the covariance, 0-d."""
        raise NotImplementedError

    def distance(self, deviation: Tensor) -> Tensor:
        """Squared Mahalanobis distance of deviations from the mean: [*, P] -> [*]."""
        raise NotImplementedError


@register_kl(IndexedGaussian, Independent)
def _kl_from_independent_normals(q: IndexedGaussian, p: Independent) -> Tensor:
    """KL(N(m, C) || N(loc, diag(s^2))), closed for every covariance whose diagonal and determinant are known."""
    loc, scale = p.base_dist.loc, p.base_dist.scale
    ratio = (q.variance + (q.loc - loc).square()) / scale.square() - 1 + 2 * scale.log()
    return 0.5 * (ratio.sum(-1) - q.logdet).expand(q.batch_shape)


class Variational(WeightSpace):
    """A Gaussian q over a network's weights, fitted by the evidence lower bound; the others are a point estimate.

        model:  theta ~ Normal(loc, diag(std^2))           the prior's loc and std
                y | x, a ~ likelihood(f(theta, x))         scaled by size / B
        guide:  theta ~ q, the draw that z names

    (Graves, Practical Variational Inference for Neural Networks, 2011; Blundell et al., Weight Uncertainty in Neural
    Networks, 2015.) A subclass adds its parameters and its optimiser, and says `width` and `q`.

    Arguments:
        network: body and head; A outputs.
        prior: network -> prior over its weights.
        draws: n, taught at each update.
        cover: the weights that are random: of the whole "network", or of its "head", where q has C = P or fewer.
        temperature: T, multiplies the KL.
        likelihood: output -> distribution of the target.
    """

    temperature: Tensor

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior],
        draws: int,
        cover: str,
        temperature: float,
        likelihood: Likelihood,
    ) -> None:
        super().__init__()
        if cover not in ("network", "head"):
            raise ValueError(
                f"got cover={cover}, wanted network (all weights are random) or head (only the last layer)"
            )
        if draws < 1 or temperature < 0:
            raise ValueError(f"got draws={draws}, temperature={temperature}, wanted 1 draw or more and no negative T")
        self.network, self.prior, self.draws, self.likelihood = network, prior(network), draws, likelihood
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.first = 0 if cover == "network" else network.body_size
        self.mu = nn.Parameter(network.init())

    def initial(self, init_scale: float) -> Tensor:
        """Where standard deviations start, [C]: a share of the prior's."""
        if not 0 < init_scale < math.inf:
            raise ValueError(f"got init_scale={init_scale}, wanted a positive share of the prior's standard deviation")
        return init_scale * self.prior.std()[self.first :].detach()

    @property
    def width(self) -> int:
        """M, the length of an index."""
        raise NotImplementedError

    def q(self, z: Tensor) -> dist.TorchDistribution:
        """The guide's distribution, batch [n, 1], event [C], whose draws are those that z [n, M] names."""
        raise NotImplementedError

    def p(self) -> dist.TorchDistribution:
        """The prior of the random weights, batch [], event [C]."""
        loc, std = self.prior.loc[self.first :], self.prior.std()[self.first :]
        return dist.Normal(loc, std, validate_args=False).to_event(1)

    def extra_repr(self) -> str:
        return f"{len(self.mu) - self.first:,} random, prior={self.prior}, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.width, generator=generator, device=self.mu.device, dtype=self.mu.dtype)

    def central(self, n: int) -> Tensor:
        """One, exactly, where only the head is random, in whose weights the output is linear."""
        if self.first == self.network.body_size:
            return self.mu.new_zeros(1, self.width)
        return super().central(n)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.joined(self.q(z).rsample()[:, 0])

    def joined(self, theta: Tensor) -> Tensor:
        """All weights from the random ones: [n, C] -> [n, P]."""
        return torch.cat([self.mu[: self.first].expand(len(theta), -1), theta], 1) if self.first else theta

    # --- learn -------------------------------------------------------------------------------------------------

    def model(self, batch: Batch, z: Tensor, out: Tensor | None = None) -> None:
        """The Pyro model, averaged over the n draws, the likelihood scaled from B to `size` observations.

        `out` [n, B, *] stands for the outputs of the drawn weights, where they have been drawn in another way.
        """
        n, B = batch.weight.shape
        with poutine.scale(scale=1 / n), pyro.plate("draws", n, dim=-2):
            with poutine.scale(scale=self.temperature):
                theta = pyro.sample("theta", self.p())
            if out is None:
                out = self.network(self.joined(theta[:, 0]), batch.x)
            y = self.likelihood(out, batch.action)
            with pyro.plate("data", B, dim=-1), poutine.scale(scale=batch.weight * (batch.size / B)):
                pyro.sample("y", y.to_event(batch.y.dim() - 2), obs=batch.y)

    def guide(self, batch: Batch, z: Tensor, out: Tensor | None = None) -> None:
        """The Pyro guide: its draw is the one that z names."""
        n = len(z)
        with poutine.scale(scale=self.temperature / n), pyro.plate("draws", n, dim=-2):
            pyro.sample("theta", self.q(z))

    def loss(self, batch: Batch, z: Tensor, out: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        bound, terms = elbo(self.model, self.guide, batch, z, out)
        return -bound / batch.size, {name: term / batch.size for name, term in terms.items()}

    def kl(self, z: Tensor) -> Tensor:
        return kl_divergence(self.q(z[:1]), self.p()).mean()

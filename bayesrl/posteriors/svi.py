"""Stochastic variational inference in Pyro without the overhead of `pyro.infer.SVI`.

Model and guide are ordinary Pyro programs with names, plates and scales. Only their evaluation differs: one trace of
each, the KL in closed form, no validation and no device synchronization.

Shapes: n draws, B batch, P weights, C random weights, M index.
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
    """A normal whose reparameterized sample uses the noise that it was constructed with, such as an epistemic index.

    Arguments:
        loc, scale, noise: tensors of one shape.
    """

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.noise = noise

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> IndexedNormal:
        return IndexedNormal(*(t.expand(batch_shape) for t in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.loc + self.scale * self.noise


def elbo(model: Callable, guide: Callable, *args: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the evidence lower bound with analytic KL, and its terms: ELBO = -nll - kl (Kingma & Welling, 2014).

    It is minus `pyro.infer.TraceMeanField_ELBO().differentiable_loss` for a guide with a closed-form KL at every site.

    Arguments:
        model, guide: Pyro programs.
        args: arguments of both.

    Returns:
        The bound, a 0-d tensor, and 0-d tensors by name, `nll` and `kl`.
    """
    nll: Tensor | float = 0.0
    kl: Tensor | float = 0.0
    with pyro.settings.context(validate_poutine=False):  # which would read scales, and refuse 0
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
    """A correlated Gaussian over vectors [C] whose reparameterized sample uses the noise of its constructor.

    Subclasses define `scale_noise`, `variance`, `logdet` and `mahalanobis`.

    Arguments:
        loc: mean, [C].
        noise: standard normal noise of the sample, [*batch, M].
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
        return self.loc + self.scale_noise(self.noise)

    def log_prob(self, value: Tensor) -> Tensor:
        return -0.5 * (self.mahalanobis(value - self.loc) + self.logdet + len(self.loc) * math.log(2 * math.pi))

    def scale_noise(self, noise: Tensor) -> Tensor:
        """Multiply noise by a root of the covariance: [*, M] -> [*, C]."""
        raise NotImplementedError

    @property
    def variance(self) -> Tensor:
        """Diagonal of the covariance, [C]."""
        raise NotImplementedError

    @property
    def logdet(self) -> Tensor:
        """Log-determinant of the covariance, 0-d."""
        raise NotImplementedError

    def mahalanobis(self, deviation: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance of deviations from the mean: [*, C] -> [*]."""
        raise NotImplementedError


@register_kl(IndexedGaussian, Independent)
def _kl_from_independent_normals(q: IndexedGaussian, p: Independent) -> Tensor:
    """Return KL(N(m, S) || N(loc, diag(s^2))), which needs only the diagonal and the determinant of S."""
    loc, scale = p.base_dist.loc, p.base_dist.scale
    ratio = (q.variance + (q.loc - loc).square()) / scale.square() - 1 + 2 * scale.log()
    return 0.5 * (ratio.sum(-1) - q.logdet).expand(q.batch_shape)


class Variational(WeightSpace):
    """Base class of Gaussian posteriors q over a network's weights that maximize the evidence lower bound.

        model:  theta ~ Normal(loc, diag(std^2))           the prior
                y | x, a ~ likelihood(f(theta, x))         scaled by size / B
        guide:  theta ~ q, the draw with index z

    (Graves, Practical Variational Inference for Neural Networks, 2011; Blundell et al., Weight Uncertainty in Neural
    Networks, 2015.) A subclass adds its parameters and its optimizer, and defines `width` and `q`.

    Arguments:
        network: the network whose weights are random; A outputs.
        prior: maps the network to the prior over its weights.
        draws: n, the number of draws that an update trains.
        cover: the random weights: those of the whole "network", C = P, or of its "head", with a point estimate of the
            others.
        temperature: T, the factor of the KL.
        likelihood: maps an output to the distribution of its target.
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
        """Return initial standard deviations, [C]: a share `init_scale` of the prior's."""
        if not 0 < init_scale < math.inf:
            raise ValueError(f"got init_scale={init_scale}, wanted a positive share of the prior's standard deviation")
        return init_scale * self.prior.std()[self.first :].detach()

    @property
    def width(self) -> int:
        """M, the length of an index."""
        raise NotImplementedError

    def q(self, z: Tensor) -> dist.TorchDistribution:
        """Return the guide's distribution with the samples of z [n, M]: batch shape [n, 1], event shape [C]."""
        raise NotImplementedError

    def p(self) -> dist.TorchDistribution:
        """Return the prior of the random weights: batch shape [], event shape [C]."""
        loc, std = self.prior.loc[self.first :], self.prior.std()[self.first :]
        return dist.Normal(loc, std, validate_args=False).to_event(1)

    def extra_repr(self) -> str:
        return f"{len(self.mu) - self.first:,} random, prior={self.prior}, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.width, generator=generator, device=self.mu.device, dtype=self.mu.dtype)

    def central(self, n: int) -> Tensor:
        """Return index 0 if only the head is random: functions are then linear in their index."""
        if self.first == self.network.body_size:
            return self.mu.new_zeros(1, self.width)
        return super().central(n)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.joined(self.q(z).rsample()[:, 0])

    def joined(self, theta: Tensor) -> Tensor:
        """Prepend the weights that are not random: [n, C] -> [n, P]."""
        return torch.cat([self.mu[: self.first].expand(len(theta), -1), theta], 1) if self.first else theta

    # --- learn -------------------------------------------------------------------------------------------------

    def model(self, batch: Batch, z: Tensor, out: Tensor | None = None) -> None:
        """Define the Pyro model, averaged over n draws, with the likelihood scaled from B to `size` observations.

        Arguments:
            batch: observations, and the targets of each draw.
            z: indices, [n, M].
            out: outputs [n, B, *] that replace those of the sampled weights.
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
        """Define the Pyro guide, whose sample is the draw with index z."""
        n = len(z)
        with poutine.scale(scale=self.temperature / n), pyro.plate("draws", n, dim=-2):
            pyro.sample("theta", self.q(z))

    def loss(self, batch: Batch, z: Tensor, out: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        bound, terms = elbo(self.model, self.guide, batch, z, out)
        return -bound / batch.size, {name: term / batch.size for name, term in terms.items()}

    def kl(self, z: Tensor) -> Tensor:
        return kl_divergence(self.q(z[:1]), self.p()).mean()

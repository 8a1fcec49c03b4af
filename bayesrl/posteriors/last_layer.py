"""`last_layer`: exact Bayesian linear regression of every output on features that gradient descent learns.

    y | x, k ~ Normal(phi(x)^T w_k, sigma_k^2)      phi: the body's features and 1
    w_k | sigma_k ~ Normal(0, sigma_k^2 L^-1)       L = sigma^2 diag(std^-2), the prior's std for sigma_k = sigma
    posterior:  Normal(m_k, sigma_k^2 V_k),   V_k = (L + (N/T) E[phi phi^T; k])^-1,   m_k = V_k (N/T) E[phi y; k]

With a `Gaussian` likelihood sigma_k = sigma is known. With a `LearnedGaussian` one, sigma_k^2 ~ InverseGamma(nu / 2,
nu sigma^2 / 2) a priori and InverseGamma(a_k, b_k) a posteriori:

    a_k = (nu + (N/T) E[1; k]) / 2,   b_k = (nu sigma^2 + (N/T) (E[y^2; k] - m_k^T E[phi y; k])) / 2

The moments E[.; k] are means over all data, with zeros for observations without a target of output k. They are
exponential averages over mini-batches, because features change; `refresh` computes them exactly. (Riquelme et al., Deep
Bayesian Bandits Showdown, 2018; Azizzadenesheli et al., Efficient Exploration through Bayesian Deep Q-Networks, 2018.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pyro.distributions as dist
import torch
from torch import Generator, Tensor, nn
from torch.distributions import kl_divergence

from bayesrl.likelihoods import Gaussian, LearnedGaussian, Likelihood
from bayesrl.likelihoods.student_t import unchecked_student_t
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.laplace import inverse_root
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.types import Batch
from bayesrl.priors import FanIn, Prior


class LastLayer(WeightSpace):
    """Bayesian linear regression on learned features; the index is z = [noise of w | noise of sigma_k], [n, M].

    M = K(D + 1), plus K if sigma_k is learned. A learned sigma_k scales the prior as well, which makes the regression
    exact, but also certain away from the data where the targets are nearly constant. For exploration use a known sigma.

    Arguments:
        network: body and head, not dueling; A outputs.
        prior: network -> prior over its weights, of which the head's is used.
        confidence: nu, the number of observations that the prior of sigma_k is worth.
        horizon: updates over which the moments are averaged.
        draws: n; an update learns the mean of the targets of n draws.
        temperature: T; the likelihood is raised to the power 1/T.
        likelihood: `Gaussian` for a known sigma, or `LearnedGaussian` for the prior scale of sigma_k.
        optimizer: maps parameters to their torch optimizer, for the features and the head that trains them.
    """

    temperature: Tensor
    updates: Tensor
    scale: Tensor
    gram: Tensor
    cross: Tensor
    square: Tensor
    share: Tensor

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior] = FanIn,
        confidence: float = 12.0,
        horizon: int = 100,
        draws: int = 10,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if horizon < 1 or draws < 1 or not temperature > 0 or not confidence > 2:
            raise ValueError(
                f"got confidence={confidence}, horizon={horizon}, draws={draws}, temperature={temperature}, wanted a "
                "confidence above 2, counts of 1 or more and a positive temperature"
            )
        if not isinstance(network.combine, nn.Identity):
            raise ValueError("got a dueling network, wanted outputs that are regressions of their own: network=mlp")
        if not isinstance(likelihood, Gaussian | LearnedGaussian):
            raise ValueError(
                f"got the likelihood {type(likelihood).__name__}, wanted gaussian or learned_gaussian, because the "
                "regression has no exact answer for others: choose another posterior where this likelihood is needed"
            )
        K, D = network.head_outputs, network.features_out + 1
        self.network, self.horizon, self.draws = network, horizon, draws
        self.theta = nn.Parameter(network.init())
        self.optimizer = optimizer([self.theta])
        if isinstance(likelihood, Gaussian):
            self.sigma, self.likelihood = likelihood.sigma, likelihood
        else:
            self.sigma = float(likelihood.log_sigma.detach().exp())
            self.likelihood = InverseGamma(K, self.sigma, confidence)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("updates", torch.zeros(()))
        self.register_buffer(
            "scale", unflatten_head(prior(network).std()[network.body_size :].detach(), K) / self.sigma
        )
        for name, shape in (("gram", (K, D, D)), ("cross", (K, D)), ("square", (K,)), ("share", (K,))):
            self.register_buffer(name, torch.zeros(shape))
        # Parameters that are not trained, so that a target network follows them.
        self.m = nn.Parameter(torch.zeros(K, D), requires_grad=False)
        self.root = nn.Parameter(torch.diag_embed(self.scale), requires_grad=False)

    @property
    def noise(self) -> InverseGamma | None:
        """Posterior of sigma_k, if it is learned."""
        return self.likelihood if isinstance(self.likelihood, InverseGamma) else None

    def extra_repr(self) -> str:
        return f"{self.m.numel():,} random, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, self.width, generator=generator, device=self.m.device, dtype=self.m.dtype)

    def central(self, n: int) -> Tensor:
        """Return index 0, whose function is the exact mean: the deviation from it is symmetric for every sigma_k."""
        return self.m.new_zeros(1, self.width)

    @property
    def width(self) -> int:
        """Length of an index."""
        return self.m.numel() + (len(self.m) if self.noise else 0)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        w = self.head(z)
        body = self.theta[: self.network.body_size].expand(len(z), -1)
        return torch.cat([body, w[..., :-1].flatten(1), w[..., -1]], 1)

    def head(self, z: Tensor) -> Tensor:
        """Return the head weights of each draw, m + sigma_k V^(1/2) eps: z [n, M] -> [n, K, D + 1]."""
        eps, rest = z[:, : self.m.numel()].view(-1, *self.m.shape), z[:, self.m.numel() :]
        sigma = self.noise.draw(rest)[..., None] if self.noise else self.sigma
        return self.m + sigma * torch.einsum("kij,nkj->nki", self.root, eps)

    def features(self, x: Tensor) -> Tensor:
        """Return [phi(x), 1]: x [B, *] -> [B, D + 1]."""
        return nn.functional.pad(self.network.features(self.theta, x), (0, 1), value=1.0)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        w = self.head(z)
        return (self.features(x) @ w.flatten(0, 1).T).view(-1, *w.shape[:2]).transpose(0, 1)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return (self.head(z) @ self.features(x)[..., None])[..., 0]

    def center(self, x: Tensor) -> Tensor:
        return self.features(x) @ self.m.T

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the features with a trained head, which follows them faster than the averages of m do."""
        out = Gaussian(self.sigma)(self.network.one(self.theta, batch.x)[None], batch.action)
        nll = -out.log_prob(batch.y)
        nll = (batch.weight * (nll.sum(2) if nll.dim() > 2 else nll)).mean()
        return nll, {"nll": nll}

    def learn(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        info = super().learn(batch, z)
        with torch.no_grad():
            self.updates += 1
            rate = (1 / self.updates).clamp(min=1 / self.horizon)
            for old, new in zip(self.statistics, self.moments(batch), strict=True):
                old.lerp_(new, rate)
            self.solve(batch.size)
        return info

    @torch.no_grad()
    def refresh(self, batches: Sequence[Batch]) -> None:
        """Compute the exact moments of all the data with the present features."""
        total = sum(len(batch.x) for batch in batches)
        for old in self.statistics:
            old.zero_()
        for batch in batches:
            for old, new in zip(self.statistics, self.moments(batch), strict=True):
                old.add_(new, alpha=len(batch.x) / total)
        self.solve(batches[0].size)

    @property
    def statistics(self) -> tuple[Tensor, ...]:
        """E[phi phi^T; k], [K, D + 1, D + 1]; E[phi y; k], [K, D + 1]; E[y^2; k], [K]; E[1; k], [K]."""
        return self.gram, self.cross, self.square, self.share

    def moments(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the statistics of one batch, for the mean of the targets over draws."""
        phi, B, K = self.features(batch.x), len(batch.x), len(self.m)
        weight = batch.weight.to(phi.dtype)
        each = weight if batch.y.dim() == 2 else weight[..., None]
        y = (each * batch.y).sum(0) / each.sum(0).clamp(min=torch.finfo(phi.dtype).tiny)  # [B] or [B, K]
        share = weight.mean(0)[:, None].expand(B, K)
        if batch.action is not None:
            y, share = y[:, None], share * (batch.action[:, None] == torch.arange(K, device=phi.device))
        weighted = share.T[..., None] * phi  # [K, B, D + 1]
        return weighted.mT @ phi / B, (share * y).T @ phi / B, (share * y.square()).mean(0), share.mean(0)

    def solve(self, size: Tensor) -> None:
        """Compute the posterior from the statistics of `size` observations (0-d), in double precision."""
        N = size.double() / self.temperature
        root = inverse_root(self.scale**-2, self.gram, N)
        cross, square, share = self.cross.double(), self.square.double(), self.share.double()
        m = (root @ (root.mT @ (N * cross)[..., None]))[..., 0]
        self.root.copy_(root)
        self.m.copy_(m)
        if self.noise:
            self.noise.learn(N * share, N * (square - (m * cross).sum(1)))

    def kl(self, z: Tensor) -> Tensor:
        precision = self.scale**-2
        variance = self.root.square().sum(2)  # diagonal of V
        logdet = 2 * self.root.diagonal(dim1=1, dim2=2).log().sum(1)
        squared = (self.noise.b / self.noise.a)[:, None] if self.noise else self.sigma**2
        kl = 0.5 * (((variance + self.m.square() / squared) * precision - 1 - precision.log()).sum() - logdet.sum())
        return kl + self.noise.kl() if self.noise else kl


class InverseGamma(Likelihood):
    """y | x, k ~ Normal(f(x), sigma_k^2) with sigma_k^2 ~ InverseGamma(a_k, b_k), marginally a Student-t.

    Arguments:
        outputs: K.
        sigma: prior scale.
        confidence: nu, the number of observations that the prior is worth.
    """

    prior: Tensor

    def __init__(self, outputs: int, sigma: float, confidence: float) -> None:
        super().__init__()
        prior = torch.tensor([confidence / 2, confidence / 2 * sigma**2])
        self.register_buffer("prior", prior)
        self.a, self.b = (nn.Parameter(value.repeat(outputs), requires_grad=False) for value in prior)

    def extra_repr(self) -> str:
        return f"{len(self.a)} outputs"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        a, b = (self.a, self.b) if action is None else (self.a[action], self.b[action])
        return unchecked_student_t(2 * a, self.parts(out, action)[..., 0], (b / a).sqrt())

    def variance(self, out: Tensor) -> Tensor:
        return (self.b / (self.a - 1)).expand_as(out)

    def draw(self, z: Tensor) -> Tensor:
        """Transform standard normal noise [n, K] to sigma_k; the cube root of a gamma variable is nearly normal.

        (Wilson & Hilferty, The Distribution of Chi-Square, 1931.)
        """
        cube_root = 1 - 1 / (9 * self.a) + z / (3 * self.a.sqrt())
        return (self.b / self.a).sqrt() * cube_root.clamp(min=0.1) ** -1.5

    def learn(self, count: Tensor, residual: Tensor) -> None:
        """Set the posterior after `count` [K] observations with a sum of squared residuals `residual` [K]."""
        a, b = self.prior.double()
        self.a.copy_(a + count / 2)
        self.b.copy_(b + residual.clamp(min=0) / 2)

    def kl(self) -> Tensor:
        """Return KL(posterior || prior) in nats, 0-d."""
        q, p = (dist.Gamma(a, b, validate_args=False) for a, b in ((self.a, self.b), self.prior))
        return kl_divergence(q, p).sum()


def unflatten_head(head: Tensor, outputs: int) -> Tensor:
    """Reshape flat head weights [K D + K] to [K, D + 1], the bias last."""
    return torch.cat([head[:-outputs].view(outputs, -1), head[-outputs:, None]], 1)

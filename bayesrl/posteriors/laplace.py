"""`laplace`, `laplace_diagonal`: a Gaussian around the most probable weights, with the curvature of the loss there.

    theta*  minimizes  -(1/N) sum_i log p(y_i | f(theta, x_i)) - (T/N) log Normal(theta; loc, diag(std^2))
    q(theta) = Normal(theta*, C),    C^-1 = diag(std^-2) + (N/T) E_i[J_i^T H_i J_i]

J is the Jacobian of the output with respect to the weights, and H the expected Hessian of the negative log-likelihood
with respect to the output; J^T H J is the generalized Gauss-Newton matrix, the Hessian without the network's own second
derivatives. `Laplace` uses the full matrix of the head's weights, `LaplaceDiagonal` the diagonal of the matrix of all
weights. (MacKay, A Practical Bayesian Framework for Backpropagation Networks, 1992; Daxberger et al., Laplace Redux,
2021.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.func import jacrev, vjp, vmap

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.types import Batch
from bayesrl.priors import FanIn, Prior


class LaplaceApproximation(WeightSpace):
    """Base class of both; the index z is the noise of the C random weights, the last ones of the network, [n, C].

    A subclass defines `random_weights`, `evaluate`, `contract`, `root`, `deviation` and `variance_and_logdet`.

    Arguments:
        network: the network whose weights are random; A outputs.
        prior: network -> prior over its weights, of fixed scales.
        rows: rows of a batch from which an update estimates the curvature; each takes one gradient for every output
            of its target.
        horizon: updates over which the curvature is averaged.
        temperature: T; the likelihood is raised to the power 1/T.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    temperature: Tensor
    updates: Tensor
    curvature: Tensor

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior] = FanIn,
        rows: int = 16,
        horizon: int = 1000,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if rows < 1 or horizon < 1 or not temperature > 0:
            raise ValueError(
                f"got rows={rows}, horizon={horizon}, temperature={temperature}, wanted 1 or more rows and updates, "
                "and a positive temperature"
            )
        self.network, self.prior, self.likelihood = network, prior(network), likelihood
        if next(self.prior.parameters(), None) is not None:
            raise ValueError(
                f"got the prior {type(self.prior).__name__}, wanted one of fixed scales: the most probable scales are "
                "zero, with all their weights"
            )
        self.rows, self.horizon, self.first = rows, horizon, network.size - self.random_weights(network)
        self.theta = nn.Parameter(network.init())
        self.optimizer = optimizer(list(self.parameters()))
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("updates", torch.zeros(()))
        none = self.theta.new_zeros(1, 1, self.random_weights(network), requires_grad=False)
        self.register_buffer("curvature", self.contract(none, none))
        # A parameter that is not trained, so that a target network follows it.
        self.factor = nn.Parameter(self.root(self.updates), requires_grad=False)

    @staticmethod
    def random_weights(network: Network) -> int:
        """Return C, the number of random weights."""
        raise NotImplementedError

    def evaluate(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the network with the random weights theta [C], at x [B, *] -> [B, A]."""
        raise NotImplementedError

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        """Return the stored part of sum_r J_r^T H_r J_r: J and H J, [rows, K, C] -> the shape of `curvature`."""
        raise NotImplementedError

    def root(self, size: Tensor) -> Tensor:
        """Return a root of the covariance for `size` observations (0-d)."""
        raise NotImplementedError

    def deviation(self, z: Tensor) -> Tensor:
        """Return the deviations of the random weights from theta*: z [n, C] -> [n, C]."""
        raise NotImplementedError

    def variance_and_logdet(self) -> tuple[Tensor, Tensor]:
        """Return the diagonal [C] and the log-determinant (0-d) of the covariance."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.network.size - self.first:,} random, prior={self.prior}, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        width = self.network.size - self.first
        return torch.randn(n, width, generator=generator, device=self.theta.device, dtype=self.theta.dtype)

    def central(self, n: int) -> Tensor:
        """Return index 0, whose function is the exact mean, as functions are linear in their index."""
        return self.theta.new_zeros(1, self.network.size - self.first)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.theta + nn.functional.pad(self.deviation(z), (self.first, 0))

    def center(self, x: Tensor) -> Tensor:
        """Return the output of theta*, which is the exact mean, as functions are linear in their index."""
        return self.network.one(self.theta, x)

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of theta*, averaged over the targets of all draws."""
        nll = -self.likelihood(self.network.one(self.theta, batch.x)[None], batch.action).log_prob(batch.y)
        nll = (batch.weight * nll.flatten(2).sum(2) if nll.dim() > 2 else batch.weight * nll).mean()
        penalty = 0.5 * ((self.theta - self.prior.loc) / self.prior.std()).square().sum()
        penalty = penalty * self.temperature / batch.size
        return nll + penalty, {"nll": nll}

    def learn(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        info = super().learn(batch, z)
        with torch.no_grad():
            self.updates += 1
            rate = (1 / self.updates).clamp(min=1 / self.horizon)
            self.curvature.lerp_(self.sum_curvature(batch, slice(self.rows)) / min(self.rows, len(batch.x)), rate)
            self.factor.copy_(self.root(batch.size))
        return info

    @torch.no_grad()
    def refresh(self, batches: Sequence[Batch]) -> None:
        """Compute the curvature of all the data at the present weights."""
        total = torch.zeros_like(self.curvature)
        for batch in batches:
            for first in range(0, len(batch.x), self.rows):
                total += self.sum_curvature(batch, slice(first, first + self.rows))
        self.curvature.copy_(total / sum(len(batch.x) for batch in batches))
        self.factor.copy_(self.root(batches[0].size))

    def sum_curvature(self, batch: Batch, rows: slice) -> Tensor:
        """Sum J^T H J over some rows of a batch -> the shape of `curvature`."""
        x, weight = batch.x[rows], batch.weight.mean(0)[rows]
        action = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch.action is None else batch.action[rows]

        def output(theta: Tensor, x: Tensor, action: Tensor) -> Tensor:
            out = self.evaluate(theta, x[None])
            return out[0] if batch.action is None else self.likelihood.parts(out[None], action[None])[0, 0]

        random = self.theta[self.first :]
        J = vmap(jacrev(output), in_dims=(None, 0, 0))(random, x, action)
        H = curvature(self.likelihood, vmap(output, in_dims=(None, 0, 0))(random, x, action))
        return self.contract(J, weight[:, None, None] * (H @ J))

    def precision(self) -> Tensor:
        """Return the prior precision of the random weights, [C]."""
        return self.prior.std()[self.first :].square().reciprocal()

    def kl(self, z: Tensor) -> Tensor:
        variance, logdet = self.variance_and_logdet()
        second = variance + (self.theta - self.prior.loc)[self.first :].square()
        precision = self.precision()
        return 0.5 * ((second * precision - 1 - precision.log()).sum() - logdet)


class Laplace(LaplaceApproximation):
    """A Gaussian over the head's weights with the full Gauss-Newton matrix; each update factors a C x C matrix."""

    @staticmethod
    def random_weights(network: Network) -> int:
        return network.head_size

    def evaluate(self, theta: Tensor, x: Tensor) -> Tensor:
        body = self.theta[: self.first].detach()
        return self.network.head(torch.cat([body, theta]), self.network.features(body, x))

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        return J.flatten(0, 1).T @ HJ.flatten(0, 1)

    def root(self, size: Tensor) -> Tensor:
        return inverse_root(self.precision(), self.curvature, size / self.temperature).to(self.curvature.dtype)

    def deviation(self, z: Tensor) -> Tensor:
        return z @ self.factor.T

    def variance_and_logdet(self) -> tuple[Tensor, Tensor]:
        return self.factor.square().sum(1), 2 * self.factor.diagonal().log().sum()


class LaplaceDiagonal(LaplaceApproximation):
    """A Gaussian over all weights with the diagonal of the Gauss-Newton matrix.

    The Gauss-Newton matrix is the Hessian of the network linearized at theta*, so that the draws are linearized too:
    f(theta*, x) + J(x) (theta_z - theta*) (Immer et al., Improving Predictions of Bayesian Neural Nets via Local
    Linearization, 2021).
    """

    @staticmethod
    def random_weights(network: Network) -> int:
        return network.size

    def evaluate(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.network.one(theta, x)

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        return (J * HJ).sum((0, 1))

    def root(self, size: Tensor) -> Tensor:
        return (self.precision() + self.curvature * (size / self.temperature)).rsqrt()

    def deviation(self, z: Tensor) -> Tensor:
        return z * self.factor

    def variance_and_logdet(self) -> tuple[Tensor, Tensor]:
        return self.factor.square(), 2 * self.factor.log().sum()

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.linear(self.deviation(z), x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return vmap(lambda deviation, row: self.linear(deviation[None], row[None])[0, 0])(self.deviation(z), x)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        deviation = self.deviation(z)
        return lambda x: vmap(lambda d, rows: self.linear(d[None], rows)[0])(deviation, x)

    def linear(self, deviation: Tensor, x: Tensor) -> Tensor:
        """Evaluate f(theta*, x) + J(x) deviation: deviations [n, P] and x [B, *] -> [n, B, A]."""
        out, pull = vjp(lambda theta: self.evaluate(theta, x), self.theta.detach())  # type: ignore[misc]
        # The transpose of the transpose is J, by reverse mode alone.
        _, push = vjp(pull, torch.zeros_like(out))  # type: ignore[misc]
        return out + vmap(lambda d: push((d,))[0])(deviation)


def curvature(likelihood: Likelihood, out: Tensor) -> Tensor:
    """Return the expected Hessian of -log p(y | out) with respect to the output, [rows, K] -> [rows, K, K].

    The expectation over the model's targets is a Gauss-Hermite quadrature with three nodes. It is exact for Gaussians,
    also with a predicted variance, and where the Hessian does not depend on the target, as for classes.
    """
    if likelihood.discrete:
        y, share = out.new_zeros(1, len(out), dtype=torch.int64), out.new_ones(1)
    else:
        reach = (3 * likelihood.variance(out)).sqrt() * out.new_tensor([-1.0, 0.0, 1.0])[:, None, None]
        y, share = likelihood.mean(out) + reach, out.new_tensor([1.0, 4.0, 1.0]) / 6

    def nll(out: Tensor, y: Tensor) -> Tensor:
        return -share @ likelihood(out.expand(len(y), 1, -1)).log_prob(y[:, None]).flatten(1).sum(1)

    return vmap(jacrev(jacrev(nll)), in_dims=(0, 1))(out, y)


def inverse_root(precision: Tensor, curvature: Tensor, count: Tensor) -> Tensor:
    """Return an upper triangular U with U U^T = (diag(precision) + count * curvature)^-1.

    U = L^-T of the Cholesky factor L in double precision. The factorization is not checked, because a check waits for
    the device; instead, a bound of the rounding error of `curvature` is added to its diagonal.

    Arguments:
        precision: prior precision, [*, C].
        curvature: mean Gauss-Newton matrix of an observation, [*, C, C].
        count: number of observations, 0-d.

    Returns:
        U, [*, C, C].
    """
    rounding = torch.finfo(curvature.dtype).eps * curvature.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    prior = torch.diag_embed((precision + count * rounding).double())
    L, _ = torch.linalg.cholesky_ex(prior + count.double() * curvature.double())
    identity = torch.eye(precision.shape[-1], dtype=L.dtype, device=L.device)
    return torch.linalg.solve_triangular(L.mT, identity.expand_as(L), upper=True)

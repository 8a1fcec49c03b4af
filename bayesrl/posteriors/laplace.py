"""`laplace`: the most probable weights by gradient descent, and around them a Gaussian as wide as the data leave it.

    theta*  minimises  -(1/N) sum_i log p(y_i | f(theta, x_i)) - (T/N) log Normal(theta; loc, diag(std^2))
    q(theta) = Normal(theta*, C),    C^-1 = diag(std^-2) + (N/T) E_i[J_i^T H_i J_i]

J is the Jacobian of the output in the weights, H the likelihood's expected curvature in the output; J^T H J, the
generalised Gauss-Newton matrix, is the Hessian but for the network's own curvature. `Laplace` keeps all of it,
for the head alone; `LaplaceDiagonal` its diagonal, for every weight. (MacKay, A Practical Bayesian Framework for
Backpropagation Networks, 1992; Daxberger et al., Laplace Redux, 2021.)
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
    """What both have in common; index z = noise of the C random weights, which are the network's last, [n, C].

    A subclass says `count`, `function`, `contract`, `root`, `deviation` and `spread`.

    Arguments:
        network: body and head; A outputs.
        prior: network -> prior over its weights, of fixed scales.
        rows: of a batch, from which an update takes the curvature; each costs a gradient for every number that its
            target is read from.
        horizon: updates over which the curvature is averaged.
        temperature: T; the data count 1/T against the prior.
        likelihood: output -> distribution of the target.
        optimizer: parameters -> torch optimiser.
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
        self.rows, self.horizon, self.first = rows, horizon, network.size - self.count(network)
        self.theta = nn.Parameter(network.init())
        self.optimizer = optimizer(list(self.parameters()))
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("updates", torch.zeros(()))
        none = self.theta.new_zeros(1, 1, self.count(network), requires_grad=False)
        self.register_buffer("curvature", self.contract(none, none))
        # Not trained, but a parameter, so that a target network follows it.
        self.factor = nn.Parameter(self.root(self.updates), requires_grad=False)

    @staticmethod
    def count(network: Network) -> int:
        """C, how many of the network's weights are random."""
        raise NotImplementedError

    def function(self, theta: Tensor, x: Tensor) -> Tensor:
        """The network's output at given random weights: [C] and x [B, *] -> [B, A]."""
        raise NotImplementedError

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        """What is kept of sum_r J_r^T H_r J_r: [rows, K, C] twice -> like `curvature`."""
        raise NotImplementedError

    def root(self, size: Tensor) -> Tensor:
        """A root of the covariance, given `size` observations (0-d)."""
        raise NotImplementedError

    def deviation(self, z: Tensor) -> Tensor:
        """Of the random weights from theta*: z [n, C] -> [n, C]."""
        raise NotImplementedError

    def spread(self) -> tuple[Tensor, Tensor]:
        """The covariance's diagonal [C] and log-determinant, 0-d."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.network.size - self.first:,} random, prior={self.prior}, temperature={float(self.temperature):g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        width = self.network.size - self.first
        return torch.randn(n, width, generator=generator, device=self.theta.device, dtype=self.theta.dtype)

    def central(self, n: int) -> Tensor:
        """One, exactly: every function is linear in its index."""
        return self.theta.new_zeros(1, self.network.size - self.first)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.theta + nn.functional.pad(self.deviation(z), (self.first, 0))

    def center(self, x: Tensor) -> Tensor:
        """Exact, because every draw is linear in z."""
        return self.network.one(self.theta, x)

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of theta*, which is taught the targets of every draw."""
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
            self.curvature.lerp_(self.measure(batch, slice(self.rows)) / min(self.rows, len(batch.x)), rate)
            self.factor.copy_(self.root(batch.size))
        return info

    @torch.no_grad()
    def refresh(self, batches: Sequence[Batch]) -> None:
        """The curvature of all the data, at the weights as they are."""
        total = torch.zeros_like(self.curvature)
        for batch in batches:
            for first in range(0, len(batch.x), self.rows):
                total += self.measure(batch, slice(first, first + self.rows))
        self.curvature.copy_(total / sum(len(batch.x) for batch in batches))
        self.factor.copy_(self.root(batches[0].size))

    def measure(self, batch: Batch, rows: slice) -> Tensor:
        """The sum of J^T H J over some rows of a batch -> like `curvature`."""
        x, weight = batch.x[rows], batch.weight.mean(0)[rows]
        action = torch.zeros(len(x), dtype=torch.int64, device=x.device) if batch.action is None else batch.action[rows]

        def output(theta: Tensor, x: Tensor, action: Tensor) -> Tensor:
            out = self.function(theta, x[None])
            return out[0] if batch.action is None else self.likelihood.parts(out[None], action[None])[0, 0]

        random = self.theta[self.first :]
        J = vmap(jacrev(output), in_dims=(None, 0, 0))(random, x, action)
        H = curvature(self.likelihood, vmap(output, in_dims=(None, 0, 0))(random, x, action))
        return self.contract(J, weight[:, None, None] * (H @ J))

    def precision(self) -> Tensor:
        """Of the prior of the random weights, [C]."""
        return self.prior.std()[self.first :].square().reciprocal()

    def kl(self, z: Tensor) -> Tensor:
        variance, logdet = self.spread()
        second = variance + (self.theta - self.prior.loc)[self.first :].square()
        precision = self.precision()
        return 0.5 * ((second * precision - 1 - precision.log()).sum() - logdet)


class Laplace(LaplaceApproximation):
    """The head's weights under the full Gauss-Newton matrix; a Cholesky factor of it, C x C, at every update."""

    @staticmethod
    def count(network: Network) -> int:
        return network.head_size

    def function(self, theta: Tensor, x: Tensor) -> Tensor:
        body = self.theta[: self.first].detach()
        return self.network.head(torch.cat([body, theta]), self.network.features(body, x))

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        return J.flatten(0, 1).T @ HJ.flatten(0, 1)

    def root(self, size: Tensor) -> Tensor:
        return inverse_root(self.precision(), self.curvature, size / self.temperature).to(self.curvature.dtype)

    def deviation(self, z: Tensor) -> Tensor:
        return z @ self.factor.T

    def spread(self) -> tuple[Tensor, Tensor]:
        return self.factor.square().sum(1), 2 * self.factor.diagonal().log().sum()


class LaplaceDiagonal(LaplaceApproximation):
    """Every weight by itself under the diagonal of the Gauss-Newton matrix.

    The matrix is that of the network made linear in its weights at theta*, and so are the draws: f(theta*, x) +
    J(x) (theta_z - theta*) (Immer et al., Improving Predictions of Bayesian Neural Nets via Local Linearization, 2021).
    """

    @staticmethod
    def count(network: Network) -> int:
        return network.size

    def function(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.network.one(theta, x)

    def contract(self, J: Tensor, HJ: Tensor) -> Tensor:
        return (J * HJ).sum((0, 1))

    def root(self, size: Tensor) -> Tensor:
        return (self.precision() + self.curvature * (size / self.temperature)).rsqrt()

    def deviation(self, z: Tensor) -> Tensor:
        return z * self.factor

    def spread(self) -> tuple[Tensor, Tensor]:
        return self.factor.square(), 2 * self.factor.log().sum()

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.linear(self.deviation(z), x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return vmap(lambda deviation, row: self.linear(deviation[None], row[None])[0, 0])(self.deviation(z), x)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        deviation = self.deviation(z)
        return lambda x: vmap(lambda d, rows: self.linear(d[None], rows)[0])(deviation, x)

    def linear(self, deviation: Tensor, x: Tensor) -> Tensor:
        """f(theta*, x) + J(x) deviation: [n, P] and x [B, *] -> [n, B, A]."""
        out, pull = vjp(lambda theta: self.function(theta, x), self.theta.detach())  # type: ignore[misc]
        # Twice transposed is J itself, by reverse mode alone.
        _, push = vjp(pull, torch.zeros_like(out))  # type: ignore[misc]
        return out + vmap(lambda d: push((d,))[0])(deviation)


def curvature(likelihood: Likelihood, out: Tensor) -> Tensor:
    """Expected Hessian of -log p(y | out) in the output, [rows, K] -> [rows, K, K].

    The expectation is over the model's own targets, by Gauss-Hermite quadrature on three of them: exact for Gaussians,
    also where the output gives their variance, and where the Hessian depends on no target, as for classes.
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
    """U, upper triangular, with U U^T = (diag(precision) + count curvature)^-1: [*, C], [*, C, C] and 0-d -> [*, C, C].

    U = L^-T of the Cholesky factor L, in double precision, and not checked, because a check waits for the device. What
    rounding may have taken from the least eigenvalue of `curvature` is given back instead.
    """
    rounding = torch.finfo(curvature.dtype).eps * curvature.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
    prior = torch.diag_embed((precision + count * rounding).double())
    L, _ = torch.linalg.cholesky_ex(prior + count.double() * curvature.double())
    identity = torch.eye(precision.shape[-1], dtype=L.dtype, device=L.device)
    return torch.linalg.solve_triangular(L.mT, identity.expand_as(L), upper=True)

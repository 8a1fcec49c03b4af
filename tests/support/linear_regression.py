"""Conjugate linear regression, whose exact posterior and evidence are known."""

import torch
from torch import Tensor, nn

from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Learner

# y = b + w x + noise, noise ~ Normal(0, 0.5^2), w, b ~ Normal(0, 1). The expected log-likelihood is quadratic in the
# weights, so that 2M draws +-sqrt(M) e_i, of mean 0 and covariance I, give the ELBO and its gradient without error.
# In double precision the optimum is found to 1e-6; the tolerances are the digits of the answers written here.

Y = torch.tensor([-0.9, -0.2, 0.1, 0.8, 1.1], dtype=torch.float64)
ORTHOGONAL = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
CORRELATED = torch.tensor([2.0, 2.2, 2.4, 2.6, 2.8], dtype=torch.float64)


class Itself(nn.Module):
    """A body without weights: one feature, the input."""

    features = 1

    def forward(self, x: Tensor) -> Tensor:
        return x


LINE = Network(Itself(), 1)  # weights [w, b]


def cubature(width: int) -> Tensor:
    """2M indices [2M, M] with the first three moments of the normal."""
    points = width**0.5 * torch.eye(width, dtype=torch.float64)
    return torch.cat([points, -points])


def regression(x: Tensor, n: int) -> Batch:
    return Batch(x[:, None], None, Y[:, None].expand(n, 5, 1), torch.ones(n, 5).double(), torch.tensor(5.0).double())


def optimum(posterior: Learner, x: Tensor) -> float:
    """Maximize the exact ELBO, and return it."""
    z = cubature(posterior.width)
    batch = regression(x, len(z))
    optimizer = torch.optim.LBFGS(posterior.parameters(), max_iter=1000, tolerance_grad=1e-9, tolerance_change=0,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = posterior.loss(batch, z)[0]
        loss.backward()
        return loss

    optimizer.step(closure)
    return -5 * closure().item()


def moments(posterior: Learner) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the weights, exact for draws that are linear in the index."""
    draws = posterior.weights(cubature(posterior.width)).detach()
    return draws.mean(0), draws.T.cov(correction=0)

"""Queries go where labels tell most, and not twice to the same place."""

import math
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from bayesrl.likelihoods import Categorical, Gaussian
from bayesrl.metrics.active_learning import greedy, highest, query
from bayesrl.networks import mlp
from bayesrl.optim import Adam
from bayesrl.posteriors import Hypermodel, Posterior


class Exact(Posterior):
    """Bayesian linear regression on random Fourier features of a length scale: w ~ N(0, I), known noise."""

    def __init__(self, length: float = 1.0, sigma: float = 0.1, features: int = 100) -> None:
        super().__init__()
        self.likelihood = Gaussian(sigma)
        self.omega, self.phase = torch.randn(features) / length, 2 * math.pi * torch.rand(features)
        self.condition(torch.zeros(0, 1), torch.zeros(0))

    def phi(self, x: Tensor) -> Tensor:
        return torch.cos(x * self.omega + self.phase) * (2 / len(self.omega)) ** 0.5

    def condition(self, x: Tensor, y: Tensor) -> None:
        phi, sigma = self.phi(x), self.likelihood.sigma
        root = torch.linalg.cholesky(torch.eye(len(self.omega)) + phi.T @ phi / sigma**2)
        self.w = torch.cholesky_solve((phi.T @ y)[:, None] / sigma**2, root)[:, 0]
        self.root = torch.linalg.inv(root)

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randn(n, len(self.omega), generator=generator)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return ((self.w + z @ self.root) @ self.phi(x).T)[..., None]

    def center(self, x: Tensor) -> Tensor:
        return (self.phi(x) @ self.w)[:, None]


class Drawn(Posterior):
    """Draws that are given, whatever the input says: x [B, 1] are numbers of columns."""

    def __init__(self, out: Tensor, likelihood: Gaussian | Categorical) -> None:
        super().__init__()
        self.out, self.likelihood = out, likelihood

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.arange(n)[:, None] % len(self.out)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.out[z[:, 0]][:, x[:, 0]]


# --- by formula ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 3])
def test_greedy_is_gaussian_conditioning(K: int) -> None:
    """The picks are those by C_ii - C_iS (C_SS + noise)^-1 C_Si, S all targets of the inputs already picked."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(20, 15, K, generator=generator, dtype=torch.float64) @ torch.randn(K, K).double()
    draws[:, 5:10] += draws[:, :5]
    noise = torch.rand(15, K, generator=generator, dtype=torch.float64) + 0.1
    F = (draws - draws.mean(0)).flatten(1)
    C, expected = F.T @ F / 20, []
    for _ in range(8):
        S = torch.tensor([i * K + c for i in expected for c in range(K)], dtype=torch.int64)
        inner = C[S][:, S] + noise.flatten()[S].diag()
        conditional = C.diagonal() - (C[:, S] @ torch.linalg.inv(inner) * C[:, S]).sum(1)
        gain = (1 + conditional.view(15, K) / noise).log().sum(1)
        gain[expected] = -math.inf
        expected.append(int(gain.argmax()))
    assert greedy(draws, noise, 8).tolist() == expected


def test_highest_is_the_order_of_the_epistemic_part() -> None:
    """By standard deviations of 3, 1, 4, 2 for numbers; for classes by mutual information, not by entropy."""
    sign = torch.tensor([-1.0, 1.0])[:, None, None]
    pool = torch.arange(4)[:, None]
    posterior = Drawn(sign * torch.tensor([3.0, 1.0, 4.0, 2.0])[:, None], Gaussian(0.1))
    assert highest(posterior, pool, 4).tolist() == [2, 0, 3, 1]
    unsure_of_the_label, unsure_of_the_draw = torch.zeros(2, 2), torch.tensor([[-2.0, 2.0], [2.0, -2.0]])
    classes = Drawn(torch.stack([unsure_of_the_label, unsure_of_the_draw], 1), Categorical(2))
    assert highest(classes, pool[:2], 1).tolist() == [1]
    assert query(classes, pool[:2], 1).tolist() == [1]


def test_queries_are_distinct() -> None:
    """Also where there is nothing left to learn: draws that are all the same."""
    pool = torch.arange(6)[:, None]
    posterior = Drawn(torch.zeros(3, 6, 1), Gaussian(0.1))
    for rule in (query, highest):
        assert sorted(rule(posterior, pool, 6).tolist()) == list(range(6))


def test_near_copies_are_picked_once() -> None:
    """With 20 copies of each of 5 inputs, 5 queries are one of each, and the 5 highest are copies of one."""
    torch.manual_seed(0)
    out = torch.randn(50, 5, 1) * torch.tensor([1.0, 1.1, 1.2, 1.3, 1.4])[:, None]
    pool = torch.arange(5).repeat_interleave(20)[:, None]
    posterior = Drawn(out, Gaussian(0.1))
    assert sorted(pool[query(posterior, pool, 5), 0].tolist()) == [0, 1, 2, 3, 4]
    assert len(set(pool[highest(posterior, pool, 5), 0].tolist())) == 1


# --- on regression ---------------------------------------------------------------------------------------------------


def gapped(*gaps: tuple[float, float], N: int = 80) -> tuple[Tensor, Tensor]:
    """y = sin(3 x) + N(0, 0.1^2) on [-2, 2] without the gaps."""
    x = 4 * torch.rand(1000, 1) - 2
    for low, high in gaps:
        x = x[(x[:, 0] < low) | (x[:, 0] > high)]
    x = torch.cat([x[: N - 2], torch.tensor([[-2.0], [2.0]])])
    return x, torch.sin(3 * x[:, 0]) + 0.1 * torch.randn(N)


def fitted(x: Tensor, y: Tensor) -> Hypermodel:
    network = mlp((1,), 1, hidden=[64, 64], prior=[64, 64])
    posterior = Hypermodel(network, draws=10, index_dim=8, prior_scale=1.0, optimizer=partial(Adam, lr=2e-3))
    posterior.fit(x, y, updates=400, progress=False)
    return posterior


@pytest.mark.parametrize("seed", range(3))
def test_queries_fall_in_the_gap(seed: int) -> None:
    """The gap is a quarter of the pool; the first query, and all of the 10 highest, fall into it."""
    torch.manual_seed(seed)
    posterior = fitted(*gapped((-0.5, 0.5)))
    pool = torch.linspace(-2, 2, 401)[:, None]
    assert pool[query(posterior, pool, 1), 0].abs() < 0.5
    assert (pool[highest(posterior, pool, 10), 0].abs() < 0.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_spreads_over_two_gaps(seed: int) -> None:
    """With a gap on each side, 2 queries are one in each; the 2 highest are neighbors."""
    torch.manual_seed(seed)
    posterior = Exact(length=0.4)
    posterior.condition(*gapped((-1.5, -0.5), (0.5, 1.5)))
    pool = torch.linspace(-2, 2, 401)[:, None]
    left, right = pool[query(posterior, pool, 2), 0].sort().values
    assert -1.5 < left < -0.5 and 0.5 < right < 1.5
    assert pool[highest(posterior, pool, 2), 0].diff().abs() < 0.05


def labels_needed(seed: int, active: bool) -> int:
    """Labels, 3 at a time, until the root mean square error on [-3, 3] is 0.2; 9 in 10 of the pool lie on [-3, -2]."""
    torch.manual_seed(seed)
    posterior, pool = Exact(), torch.cat([torch.rand(450, 1) - 3, 5 * torch.rand(51, 1) - 2])
    truth, grid = torch.randn(100), torch.linspace(-3, 3, 100)[:, None]
    y = posterior.phi(pool) @ truth + 0.1 * torch.randn(501)
    left = torch.ones(501, dtype=torch.bool)
    while left.any():
        rows = left.nonzero()[:, 0]
        left[rows[query(posterior, pool[rows], 3) if active else torch.randperm(len(rows))[:3]]] = False
        posterior.condition(pool[~left], y[~left])
        if (posterior.center(grid)[:, 0] - posterior.phi(grid) @ truth).square().mean().sqrt() < 0.2:
            break
    return int((~left).sum())


def test_fewer_labels_than_at_random() -> None:
    """Less than half as many labels on average over 20 seeds, and fewer in 18 of them at least.

    Of no use, queries would win 18 or more of 20 with probability 2e-4.
    """
    needed = torch.tensor([[labels_needed(seed, active) for active in (True, False)] for seed in range(20)])
    assert (needed[:, 0] < needed[:, 1]).sum() >= 18, needed
    assert needed[:, 0].sum() < 0.5 * needed[:, 1].sum(), needed


@pytest.mark.parametrize("rule", [query, highest])
@pytest.mark.parametrize(("k", "n"), [(0, 10), (5, 10), (2, 1)])
def test_arguments_are_checked(rule, k: int, n: int) -> None:
    posterior = Drawn(torch.randn(3, 4, 1), Gaussian(0.1))
    with pytest.raises(ValueError, match=f"got k={k}, n={n} for a pool of 4, wanted k from 1 to 4"):
        rule(posterior, torch.arange(4)[:, None], k, n)

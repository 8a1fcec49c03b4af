"""Laplace's Gaussian is the exact posterior where that is Gaussian, and the right approximation elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

from bayesrl.likelihoods import Categorical, Gaussian, Heteroscedastic, Histogram, LearnedGaussian, Likelihood, StudentT
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Laplace, LaplaceDiagonal, Learner
from bayesrl.posteriors.laplace import LaplaceApproximation, curvature
from bayesrl.priors import ARD, FanIn, Isotropic
from bayesrl.testing import Double, Indices, PosteriorContract


class TestLastLayer(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Laplace(network, rows=8)


class TestDiagonal(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return LaplaceDiagonal(network, rows=8)


class TestLastLayerInDouble(Double, TestLastLayer): ...


class TestDiagonalInDouble(Double, TestDiagonal): ...


class TestDiagonalOnIndices(Indices, TestDiagonal): ...


class TestDuelingLastLayer(TestLastLayer):
    outputs = 3

    def network(self) -> Network:
        return mlp(self.shape, self.outputs, hidden=[32, 32], dueling=True)


# --- exact answers ---------------------------------------------------------------------------------------------------


class Same(nn.Identity):
    """Features are the inputs."""

    features = 1


def line(x: list[float], y: list[float], method: type[LaplaceApproximation], **options: float) -> LaplaceApproximation:
    """y = w x + b with w, b ~ Normal(0, 1) and noise 0.5, learned to the end.

    The loss is a quadratic of curvatures 0.2 to 28, on which this descent gains a digit in 14 steps; 150 are made.
    """
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.12, momentum=0.7)
    posterior = method(
        Network(Same(), 1), prior=partial(Isotropic, scale=1.0), likelihood=Gaussian(0.5), optimizer=sgd, **options
    ).double()
    data = [torch.tensor(v, dtype=torch.float64) for v in (x, y)]
    posterior.fit(data[0][:, None], data[1], updates=150, every=150, progress=False)
    return posterior


A = ([-1.0, -0.5, 0.0, 0.5, 1.0], [-0.9, -0.2, 0.1, 0.8, 1.1])
B = ([2.0, 2.2, 2.4, 2.6, 2.8], [-0.9, -0.2, 0.1, 0.8, 1.1])


def moments(posterior: LaplaceApproximation) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (w, b), read off the draws: weights are affine in z."""
    z = torch.eye(2, dtype=torch.float64)
    root = posterior.weights(z) - posterior.theta
    return posterior.theta.detach(), (root.T @ root).detach()


@pytest.mark.parametrize("method", [Laplace, LaplaceDiagonal])
def test_conjugate_regression(method: type[LaplaceApproximation]) -> None:
    """Centered inputs make the posterior independent, so that the diagonal is exact too: to 1e-5, numbers by hand."""
    posterior = line(*A, method)
    mean, covariance = moments(posterior)
    assert mean.tolist() == pytest.approx([0.909091, 0.171429], abs=1e-5)
    assert covariance.flatten().tolist() == pytest.approx([0.090909, 0, 0, 0.047619], abs=1e-5)
    x = torch.tensor([[2.0]], dtype=torch.float64)
    assert posterior.mean(x).item() == pytest.approx(1.989610, abs=1e-5)
    root = posterior(torch.eye(2, dtype=torch.float64), x)[:, 0, 0] - posterior.center(x)[0, 0]
    assert root.square().sum().item() == pytest.approx(0.411255, abs=1e-5)


def test_correlated_regression() -> None:
    """Uncentered inputs: the full matrix knows the correlation, to 1e-5; the diagonal sees 1 / (1 + sum x^2 / sigma^2)
    and 1 / (1 + 5 / sigma^2) instead, a sixth of the exact variance of w and a fifteenth of that of b."""
    exact = moments(line(*B, Laplace))[1]
    assert exact.diagonal().tolist() == pytest.approx([0.123675, 0.693757], abs=1e-5)
    assert (exact[0, 1] / exact.diagonal().prod().sqrt()).item() == pytest.approx(-0.965070, abs=1e-5)
    diagonal = moments(line(*B, LaplaceDiagonal))[1]
    squares = sum(x**2 for x in B[0])
    assert diagonal.flatten().tolist() == pytest.approx([1 / (1 + 4 * squares), 0, 0, 1 / 21], abs=1e-9)


def test_temperature_divides_what_the_data_count() -> None:
    """T = 2 with noise 0.5 is T = 1 with variance 0.5: mean and covariance of A by the normal equations, to 1e-5."""
    mean, covariance = moments(line(*A, Laplace, temperature=2.0))
    x = torch.tensor([[v, 1.0] for v in A[0]], dtype=torch.float64)
    wanted = torch.linalg.inv(torch.eye(2) + x.T @ x / 0.5)
    assert torch.allclose(covariance, wanted, atol=1e-9)
    assert torch.allclose(mean, wanted @ x.T @ torch.tensor(A[1], dtype=torch.float64) / 0.5, atol=1e-5)


@pytest.mark.parametrize("dueling", [False, True])
def test_last_layer_is_the_hessian_of_a_classifier(dueling: bool) -> None:
    """The head is linear, so that nothing is left out: equal to autograd's Hessian of the summed NLL to 1e-9."""
    torch.manual_seed(0)
    network = mlp((3,), 4, hidden=[6, 5], dueling=dueling)
    posterior = Laplace(network, rows=4, likelihood=Categorical(4)).double()
    x, y = torch.randn(10, 3, dtype=torch.float64), torch.randint(4, (10,))
    one = torch.ones(1, 10, dtype=torch.float64)
    theta = posterior.theta.detach()

    def nll(head: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            network.one(torch.cat([theta[: network.body_size], head]), x), y, reduction="sum"
        )

    batches = [Batch(x[a:b], None, y[None, a:b], one[:, a:b], torch.tensor(10.0)) for a, b in [(0, 7), (7, 10)]]
    posterior.refresh(batches)
    assert torch.allclose(10 * posterior.curvature, hessian(nll, theta[network.body_size :]), atol=1e-9)
    diagonal = LaplaceDiagonal(network, rows=4, likelihood=Categorical(4)).double()
    diagonal.load_state_dict({**diagonal.state_dict(), "theta": theta})
    diagonal.refresh(batches)
    assert torch.allclose(diagonal.curvature[network.body_size :], posterior.curvature.diagonal(), atol=1e-9)


@pytest.mark.parametrize(
    ("likelihood", "wanted"),
    [
        (Gaussian(0.5), lambda out: 4 * torch.eye(2).expand(3, 2, 2)),
        (LearnedGaussian(0.5), lambda out: 4 * torch.eye(2).expand(3, 2, 2)),
        (Categorical(2), lambda out: torch.diag_embed(p := out.softmax(-1)) - p[:, :, None] * p[:, None]),
        (Histogram(-1, 1, 2), lambda out: torch.diag_embed(p := out.softmax(-1)) - p[:, :, None] * p[:, None]),
    ],
)
def test_curvature_is_the_closed_one(likelihood: Likelihood, wanted) -> None:  # type: ignore[no-untyped-def]
    """1 / sigma^2, and diag(p) - p p^T for classes and bins, to float32's 1e-5."""
    out = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(curvature(likelihood, out), wanted(out), atol=1e-5)


def test_curvature_where_the_output_gives_the_noise() -> None:
    """Fisher information of a Gaussian in (mean, log variance) is diag(1 / sigma^2, 1/2); the soft bounds of the
    variance take 1 % off the half. Student-t: (df + 1) / (df + 3) / scale^2, which three targets meet within 15 %."""
    H = curvature(Heteroscedastic(0.5), torch.zeros(1, 4))[0]
    assert torch.allclose(H, torch.diag(torch.tensor([4.0, 0.5, 4.0, 0.5])), atol=0.01)
    H = curvature(StudentT(4.0, 0.5), torch.zeros(1, 1))
    assert H.item() == pytest.approx(5 / 7 / 0.25, rel=0.15)


def test_running_curvature_becomes_that_of_the_data() -> None:
    """Weights that hardly move and batches that are all the data: `refresh` changes nothing, to 1e-4."""
    torch.manual_seed(0)
    posterior = LaplaceDiagonal(mlp((3,), 2, hidden=[8]), rows=20, optimizer=partial(torch.optim.SGD, lr=1e-12))
    batch = Batch(torch.randn(20, 3), None, torch.randn(1, 20, 2), torch.rand(1, 20), torch.tensor(20.0))
    for _ in range(5):
        posterior.learn(batch, posterior.index(1))
    before = posterior.factor.clone()
    posterior.refresh([batch])
    assert torch.allclose(before, posterior.factor, rtol=1e-4)
    assert (before < 0.99 * posterior.prior.std()).any()


def test_diagonal_draws_are_linear_in_the_index() -> None:
    """f_z = f* + J delta: affine in z, and the network's own derivative by central differences, to 1e-6."""
    torch.manual_seed(0)
    posterior = LaplaceDiagonal(mlp((3,), 2, hidden=[8])).double()
    x, z = torch.randn(5, 3, dtype=torch.float64), posterior.index(4)
    center, change = posterior.center(x), posterior(z, x) - posterior.center(x)
    assert torch.allclose(posterior(3 * z, x) - center, 3 * change)
    step = 1e-6 * posterior.deviation(z)
    two = posterior.network(posterior.theta + step, x) - posterior.network(posterior.theta - step, x)
    assert torch.allclose(change, two / 2e-6, atol=1e-6)


def test_a_target_network_follows_the_covariance() -> None:
    torch.manual_seed(0)
    posterior = Laplace(mlp((3,), 2, hidden=[8]))
    target, z, x = posterior.snapshot(), posterior.index(1), torch.randn(4, 3)
    posterior.learn(Batch(x, None, torch.randn(1, 4, 2), torch.ones(1, 4), torch.tensor(4.0)), z)
    with torch.no_grad():
        for old, new in zip(target.parameters(), posterior.parameters(), strict=True):
            old.copy_(new)
    assert torch.equal(target(z, x), posterior(z, x))


@pytest.mark.parametrize("method", [Laplace, LaplaceDiagonal])
def test_kl_is_the_gaussians_own(method: type[LaplaceApproximation]) -> None:
    posterior = line(*B, method)
    mean, covariance = moments(posterior)
    q = torch.distributions.MultivariateNormal(mean, covariance)
    p = torch.distributions.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    wanted = torch.distributions.kl_divergence(q, p).item()
    assert posterior.kl(posterior.index(1)).item() == pytest.approx(wanted, rel=1e-9)


def test_a_classifier_is_less_sure_far_from_its_data() -> None:
    """Two blobs at -1 and 1: at 20, the mean of the draws is nearer to undecided than the most probable weights'."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(10, 2) - 1, torch.randn(10, 2) + 1])
    y = torch.arange(20) // 10
    posterior = Laplace(mlp((2,), 2, hidden=[16]), likelihood=Categorical(2))
    posterior.fit(x, y, updates=300, progress=False)
    far = torch.tensor([[20.0, 20.0], [-20.0, -20.0]])
    sure, mean = posterior.center(far).softmax(-1).amax(-1), posterior.mean(far).amax(-1)
    assert (sure > 0.999).all() and (mean < 0.98).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 0}, "got rows=0"),
        ({"temperature": 0.0}, "positive temperature"),
        ({"prior": ARD}, "got the prior ARD"),
    ],
)
def test_errors_name_the_remedy(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Laplace(mlp((3,), 2, hidden=[8]), **options)


def test_prior_is_the_start() -> None:
    """Before anything is learned, draws have the prior's standard deviations."""
    network = mlp((3,), 2, hidden=[8])
    for posterior in (Laplace(network, prior=FanIn), LaplaceDiagonal(network, prior=FanIn)):
        std = posterior.variance_and_logdet()[0].sqrt()
        assert torch.allclose(std, FanIn(network).std()[posterior.first :])

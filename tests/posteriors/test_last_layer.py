"""Bayesian linear regression on features is exact, whatever way the data come."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Gamma, MultivariateNormal, StudentT, kl_divergence

from bayesrl import likelihoods
from bayesrl.likelihoods import Gaussian, LearnedGaussian, Likelihood
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors import Batch, LastLayer, Learner
from bayesrl.posteriors.last_layer import InverseGamma
from bayesrl.priors import Isotropic
from bayesrl.testing import Double, Indices, PosteriorContract


class TestKnownNoise(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return LastLayer(network)


class TestLearnedNoise(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return LastLayer(network, likelihood=LearnedGaussian(0.1))


class TestKnownNoiseInDouble(Double, TestKnownNoise): ...


class TestLearnedNoiseInDouble(Double, TestLearnedNoise): ...


class TestKnownNoiseOnIndices(Indices, TestKnownNoise): ...


# --- exact answers ---------------------------------------------------------------------------------------------------


class Same(nn.Identity):
    """Features are the inputs."""

    features = 1


def line(x: list[float], y: list[float], likelihood: Likelihood = Gaussian(0.5), **options: float) -> LastLayer:
    """y = w x + b with w, b ~ Normal(0, 1) at noise 0.5, after two updates, which are two too many, and `refresh`."""
    torch.manual_seed(0)
    posterior = LastLayer(
        Network(Same(), 1), prior=partial(Isotropic, scale=1.0), likelihood=likelihood, **options
    ).double()
    data = [torch.tensor(v, dtype=torch.float64) for v in (x, y)]
    posterior.fit(data[0][:, None], data[1], updates=2, batch_size=3, progress=False)
    return posterior


A = ([-1.0, -0.5, 0.0, 0.5, 1.0], [-0.9, -0.2, 0.1, 0.8, 1.1])
B = ([2.0, 2.2, 2.4, 2.6, 2.8], [-0.9, -0.2, 0.1, 0.8, 1.1])


def covariance(posterior: LastLayer) -> Tensor:
    """Moments of (w, b) given sigma."""
    return posterior.sigma**2 * posterior.root[0] @ posterior.root[0].T


@pytest.mark.parametrize(("likelihood", "confidence"), [(Gaussian(0.5), 12.0), (LearnedGaussian(0.5), 1e12)])
def test_conjugate_regression(likelihood: Likelihood, confidence: float) -> None:
    """Numbers by hand to 1e-5, with sigma known and with sigma as good as known."""
    posterior = line(*A, likelihood, confidence=confidence)
    assert posterior.m[0].tolist() == pytest.approx([0.909091, 0.171429], abs=1e-5)
    assert covariance(posterior).flatten().tolist() == pytest.approx([0.090909, 0, 0, 0.047619], abs=1e-5)
    x = torch.tensor([[2.0]], dtype=torch.float64)
    assert posterior.mean(x).item() == pytest.approx(1.989610, abs=1e-5)
    z = torch.eye(2, posterior.index(1).shape[1], dtype=torch.float64)
    assert (posterior(z, x) - posterior.center(x)).square().sum().item() == pytest.approx(0.411255, abs=1e-5)
    other = line(*B, likelihood, confidence=confidence)
    assert covariance(other).diagonal().tolist() == pytest.approx([0.123675, 0.693757], abs=1e-5)
    correlation = covariance(other)[0, 1] / covariance(other).diagonal().prod().sqrt()
    assert correlation.item() == pytest.approx(-0.965070, abs=1e-5)


def test_learned_noise_by_hand() -> None:
    """Normal-inverse-gamma on A: every quantity from its textbook formula, to 1e-9."""
    posterior = line(*A, LearnedGaussian(0.5), confidence=4.0)
    x = torch.tensor([[v, 1.0] for v in A[0]], dtype=torch.float64)
    y = torch.tensor(A[1], dtype=torch.float64)
    precision = 0.25 * torch.eye(2, dtype=torch.float64) + x.T @ x
    mean = torch.linalg.solve(precision, x.T @ y)
    a, b = 2 + 5 / 2, 2 * 0.25 + 0.5 * (y @ y - mean @ precision @ mean)
    noise = posterior.likelihood
    assert isinstance(noise, InverseGamma)
    assert torch.allclose(posterior.m[0], mean, atol=1e-9)
    assert torch.allclose(posterior.root[0] @ posterior.root[0].T, torch.linalg.inv(precision), atol=1e-9)
    assert [noise.a.item(), noise.b.item()] == pytest.approx([a, b.item()], abs=1e-9)
    at = torch.tensor([2.0, 1.0], dtype=torch.float64)
    leverage = (at @ torch.linalg.solve(precision, at)).item()
    prediction = posterior.predict(at[None, :1], 100_000)
    variance = b.item() / (a - 1)
    assert prediction.aleatoric.item() == pytest.approx(variance, abs=1e-9)
    # Of 100,000 draws of a Student-t with 9 degrees of freedom, whose kurtosis is 4.2, a standard error is 0.6 %.
    assert prediction.epistemic.item() == pytest.approx(variance * leverage, rel=0.03)


def test_evidence_is_the_product_of_predictions() -> None:
    """log p(y) of Normal-inverse-gamma in closed form is the sum of each point's Student-t given those before it."""
    a0, b0, L = 2.0, 2 * 0.25, 0.25
    total = 0.0
    for i in range(len(A[0])):
        at = torch.tensor([A[0][i], 1.0], dtype=torch.float64)
        if i:
            posterior = line(A[0][:i], A[1][:i], LearnedGaussian(0.5), confidence=4.0)
            V, noise = posterior.root[0] @ posterior.root[0].T, posterior.likelihood
            assert isinstance(noise, InverseGamma)
            mean, a, b = at @ posterior.m[0], noise.a[0], noise.b[0]
        else:
            V, mean, a, b = torch.eye(2).double() / L, at.new_zeros(()), at.new_tensor(a0), at.new_tensor(b0)
        total += StudentT(2 * a, mean, (b / a * (1 + at @ V @ at)).sqrt()).log_prob(at.new_tensor(A[1][i])).item()
    posterior = line(*A, LearnedGaussian(0.5), confidence=4.0)
    noise = posterior.likelihood
    assert isinstance(noise, InverseGamma)
    a, b = noise.a.item(), noise.b.item()
    ratio = 2 * posterior.root[0].diagonal().log().sum().item() + 2 * math.log(L)
    gammas = math.lgamma(a) - math.lgamma(a0) + a0 * math.log(b0) - a * math.log(b)
    assert total == pytest.approx(gammas + 0.5 * ratio - 2.5 * math.log(2 * math.pi), abs=1e-9)


def test_draws_of_the_noise_have_its_distribution() -> None:
    """A draw of sigma at noise z is its quantile at that of z: the error of the cube root's normality is below 0.004
    at the prior's 12 degrees of freedom, and 0.001 after 100 observations."""
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    for count, tolerance in [(0, 0.004), (100, 0.001)]:
        noise = InverseGamma(1, 0.3, 12.0).double()
        noise.learn(torch.tensor([float(count)]), torch.tensor([5.0]))
        gamma = noise.b / noise.draw(z).square()
        assert (torch.special.gammainc(noise.a, gamma) - torch.special.ndtr(z)).abs().max() < tolerance


def test_temperature_divides_what_the_data_count() -> None:
    """T = 2 with noise 0.5 is T = 1 with variance 0.5."""
    posterior, other = line(*A, temperature=2.0), line(*A, Gaussian(0.5**0.5))
    assert torch.allclose(posterior.m, other.m)
    assert torch.allclose(covariance(posterior), covariance(other))


# --- moments ---------------------------------------------------------------------------------------------------------


def batch(B: int = 12, K: int = 2, n: int = 1, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(B, 3, generator=generator), torch.randn(n, B, generator=generator)
    return Batch(x, torch.arange(B) % K, y, torch.ones(n, B), torch.tensor(float(B)))


def test_every_output_learns_from_its_own_observations() -> None:
    """Taught actions 0, 1, 0, ... output k is the regression on every second row, by the normal equations."""
    torch.manual_seed(0)
    posterior, data = LastLayer(mlp((3,), 2, hidden=[8]), likelihood=Gaussian(0.3)), batch()
    posterior.refresh([data])
    phi, std = posterior.features(data.x), posterior.scale * 0.3
    for k in range(2):
        rows = phi[k::2]
        precision = torch.diag(std[k] ** -2) + rows.T @ rows / 0.09
        assert torch.allclose(posterior.m[k], torch.linalg.solve(precision, rows.T @ data.y[0, k::2] / 0.09), atol=1e-4)
        V = 0.09 * posterior.root[k] @ posterior.root[k].T
        assert torch.allclose(V, torch.linalg.inv(precision), atol=1e-4)


def test_targets_are_averaged_over_draws_and_weighted() -> None:
    """Three draws' targets count as their weighted mean, and observations as their mean weight."""
    torch.manual_seed(0)
    one, other = (LastLayer(mlp((3,), 2, hidden=[8])) for _ in range(2))
    other.load_state_dict(one.state_dict())
    data = batch(n=3)._replace(weight=torch.rand(3, 12))
    mean = (data.weight * data.y).sum(0) / data.weight.sum(0)
    one.refresh([data])
    other.refresh([data._replace(y=mean[None], weight=data.weight.mean(0)[None])])
    assert torch.allclose(one.m, other.m, atol=1e-5)
    assert torch.allclose(one.root, other.root, atol=1e-5)


def test_old_moments_are_forgotten_within_the_horizon() -> None:
    """The mean of up to 5 batches, and then a fifth of the difference at each update: features stand still."""
    torch.manual_seed(0)
    still = partial(torch.optim.SGD, lr=1e-12)
    posterior = LastLayer(mlp((3,), 2, hidden=[8]), horizon=5, optimizer=still)
    old, new = batch(seed=1), batch(seed=2)
    for data in [old] * 3 + [new] * 6:
        posterior.learn(data, posterior.index(1))
    a, b = posterior.moments(old)[0], posterior.moments(new)[0]
    share = 3 / 5 * 0.8**4  # after 5 updates three fifths are old
    assert torch.allclose(posterior.gram, share * a + (1 - share) * b, atol=1e-5)


def test_certainty_has_no_end_and_no_nan() -> None:
    """A million observations of one input, in single precision: certain there, the prior's everywhere across."""
    torch.manual_seed(0)
    posterior = LastLayer(mlp((3,), 2, hidden=[64]))
    x = torch.randn(1, 3).expand(32, 3)
    for _ in range(20):
        posterior.learn(Batch(x, None, torch.ones(1, 32, 2), torch.ones(1, 32), torch.tensor(1e6)), posterior.index(1))
    assert posterior.root.isfinite().all()
    assert posterior.predict(x[:1]).epistemic.max() < 1e-6
    assert posterior.predict(-x[:1]).epistemic.min() > 1e-3


def test_features_and_regression_fit_a_sine() -> None:
    """100 points of sin(3x) + N(0, 0.3^2) on (-1, 1): in between within 0.2, three standard errors of 20 points' mean;
    beyond three times less sure; the noise is found within a third, four standard errors of 100 points' deviation."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 100)[:, None]
    y = torch.sin(3 * x[:, 0]) + 0.3 * torch.randn(100)
    posterior = LastLayer(
        mlp((1,), 1, hidden=[32, 32]), likelihood=LearnedGaussian(0.1), optimizer=partial(Adam, lr=3e-3)
    )
    posterior.fit(x, y, updates=300, progress=False)
    inside, outside = (posterior.predict(torch.tensor(v)[:, None]) for v in ([-0.5, 0.0, 0.5], [-3.0, 3.0]))
    assert (inside.mean[:, 0] - torch.sin(3 * torch.tensor([-0.5, 0.0, 0.5]))).abs().max() < 0.2
    assert outside.epistemic.min() > 9 * inside.epistemic.max()
    assert inside.aleatoric.sqrt().mean().item() == pytest.approx(0.3, abs=0.1)


# --- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", [Gaussian(0.5), LearnedGaussian(0.5)])
def test_kl_is_the_gaussians_own(likelihood: Likelihood) -> None:
    """Given sigma it is between two Gaussians; where sigma is learned, at the mean of 1 / sigma^2, in which it is
    linear, and with the gammas' own."""
    posterior = line(*B, likelihood)
    root, m = posterior.root[0], posterior.m[0]
    q = MultivariateNormal(m / posterior.sigma, root @ root.T)
    p = MultivariateNormal(torch.zeros(2).double(), torch.diag(posterior.scale[0] ** 2))
    got, wanted = posterior.kl(posterior.index(1)), kl_divergence(q, p)
    if isinstance(noise := posterior.likelihood, InverseGamma):
        expected = posterior.sigma**2 * noise.a / noise.b
        wanted = wanted + 0.5 * (expected - 1) * (m / posterior.sigma / posterior.scale[0]).square().sum()
        wanted = wanted + kl_divergence(Gamma(noise.a, noise.b), Gamma(*noise.prior)).sum()
    assert got.item() == pytest.approx(wanted.item(), rel=1e-9)


def test_a_target_network_follows_the_posterior() -> None:
    torch.manual_seed(0)
    posterior = LastLayer(mlp((3,), 2, hidden=[8]), likelihood=LearnedGaussian(0.1))
    target, z, data = posterior.snapshot(), posterior.index(2), batch()
    posterior.learn(data, z)
    with torch.no_grad():
        for old, new in zip(target.parameters(), posterior.parameters(), strict=True):
            old.copy_(new)
    assert torch.equal(target(z, data.x), posterior(z, data.x))
    assert torch.equal(target.predict(data.x).aleatoric, posterior.predict(data.x).aleatoric)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"likelihood": likelihoods.StudentT()}, "got the likelihood StudentT, wanted gaussian or learned_gaussian"),
        ({"confidence": 2.0}, "a confidence above 2"),
        ({"horizon": 0}, "got confidence=12.0, horizon=0"),
    ],
)
def test_errors_name_the_remedy(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LastLayer(mlp((3,), 2, hidden=[8]), **options)


def test_dueling_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="got a dueling network"):
        LastLayer(mlp((3,), 2, hidden=[8, 8], dueling=True))

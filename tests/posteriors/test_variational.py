"""Variational posteriors over a network's weights: the contract, exact answers, and Pyro's own numbers."""

import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn

from bayesrl.likelihoods import Gaussian
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, FullRank, Learner, LowRank, MeanField
from bayesrl.posteriors.guided import FixedNoise
from bayesrl.posteriors.mean_field import NotReparameterizableError
from bayesrl.testing import Double, Indices, PosteriorContract
from support.linear_regression import CORRELATED, LINE, ORTHOGONAL, Itself, cubature, moments, optimum


class TestMeanField(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return MeanField(network)


class TestMeanFieldInDouble(Double, TestMeanField): ...


class TestMeanFieldOnIndices(Indices, TestMeanField): ...


class TestLowRank(Double, PosteriorContract):
    def make(self, network: Network) -> Learner:
        return LowRank(network)


class TestFullRank(PosteriorContract):
    """A random head with a point estimate of the body."""

    def make(self, network: Network) -> Learner:
        return FullRank(network, draws=4)


class TestFullRankOfAllWeights(Double, PosteriorContract):
    def network(self) -> Network:
        return mlp(self.shape, self.outputs, hidden=[16], prior=[16])

    def make(self, network: Network) -> Learner:
        return FullRank(network, cover="network")


# --- exact answers: conjugate regression -------------------------------------------------------------------------


def make(kind: type, **options: object) -> Learner:
    torch.manual_seed(0)
    return kind(LINE, likelihood=Gaussian(0.5), **options).double()


FAMILIES = [(MeanField, {}), (LowRank, {"rank": 1}), (LowRank, {"rank": 2}), (FullRank, {})]


@pytest.mark.parametrize(("kind", "options"), FAMILIES)
def test_orthogonal_design_is_exact(kind: type, options: dict) -> None:
    """The posterior is independent, so that every family holds it: the ELBO is the log evidence, the KL to it 0."""
    posterior = make(kind, **options)
    assert optimum(posterior, ORTHOGONAL) == pytest.approx(-4.416140, abs=1e-6)
    mean, covariance = moments(posterior)
    assert mean.tolist() == pytest.approx([0.909091, 0.171429], abs=1e-5)
    assert covariance.flatten().tolist() == pytest.approx([0.090909, 0, 0, 0.047619], abs=1e-5)
    out = posterior(cubature(2 if kind is not LowRank else posterior.width), torch.tensor([[2.0]]).double())
    assert out.mean().item() == pytest.approx(1.989610, abs=1e-5)
    assert out.var(correction=0).item() == pytest.approx(0.411255, abs=1e-5)


@pytest.mark.parametrize(("kind", "options"), FAMILIES[1:])
def test_correlated_design_is_exact(kind: type, options: dict) -> None:
    """Correlation -0.965: families that hold correlations reach the log evidence, and the covariance itself."""
    posterior = make(kind, **options)
    assert optimum(posterior, CORRELATED) == pytest.approx(-7.604296, abs=1e-6)
    (w, c), (_, b) = moments(posterior)[1].tolist()
    assert (b, w) == pytest.approx((0.693757, 0.123675), abs=1e-5)
    assert c / (w * b) ** 0.5 == pytest.approx(-0.965070, abs=1e-5)


def test_mean_field_pays_for_correlation() -> None:
    """Its variances are the inverses of the precision's diagonal, its ELBO 1.339445 nats below the log evidence."""
    posterior = make(MeanField)
    assert optimum(posterior, CORRELATED) == pytest.approx(-8.943740, abs=1e-6)
    assert moments(posterior)[1].diagonal().tolist() == pytest.approx([0.008489, 0.047619], abs=1e-6)


# --- the objective and its gradient --------------------------------------------------------------------------------

KINDS = [(MeanField, {"draws": 3}), (MeanField, {"cover": "head"}), (LowRank, {"rank": 3}), (FullRank, {})]


def problem(posterior: Learner, n: int = 3, B: int = 10) -> tuple[Batch, Tensor]:
    weight, size = torch.rand(n, B).double(), torch.tensor(500.0).double()
    x, y = torch.randn(B, 3).double(), torch.randn(n, B).double()
    return Batch(x, torch.randint(2, (B,)), y, weight, size), posterior.index(n)


def stirred(posterior: Learner) -> Learner:
    """With parameters away from their special starting values."""
    with torch.no_grad():
        for p in posterior.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return posterior


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_loss_and_gradient_are_pyros_own(kind: type, options: dict) -> None:
    """`loss` is `TraceMeanField_ELBO` of the same model and guide, per observation, to rounding in double precision."""
    torch.manual_seed(0)
    posterior = stirred(kind(mlp((3,), 2, hidden=[8]), temperature=0.3, **options).double())
    batch, z = problem(posterior)
    ours = posterior.loss(batch, z)[0]
    theirs = TraceMeanField_ELBO().differentiable_loss(posterior.model, posterior.guide, batch, z) / 500
    assert torch.allclose(ours, theirs, rtol=1e-12)
    parameters = list(posterior.parameters())
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kind", "options"), KINDS[1:])
def test_density_and_divergence_are_torchs(kind: type, options: dict) -> None:
    """Draws, log-density and KL equal those of a dense multivariate normal with the same covariance."""
    torch.manual_seed(0)
    posterior = stirred(kind(mlp((3,), 2, hidden=[8]), **options).double())
    first, z = posterior.first, posterior.index(4)
    origin = posterior.weights(torch.zeros(1, posterior.width).double())
    root = (posterior.weights(torch.eye(posterior.width).double()) - origin)[:, first:].T  # draws are mu + root z
    dense = torch.distributions.MultivariateNormal(origin[0, first:], root @ root.T)
    value, q, p = torch.randn(4, 1, dense.event_shape[0]).double(), posterior.q(z), posterior.p()
    assert torch.allclose(posterior.weights(z)[:, first:], origin[:, first:] + z @ root.T)
    assert torch.allclose(q.log_prob(value), dense.log_prob(value))
    prior = torch.distributions.MultivariateNormal(p.mean, p.variance.diag())
    assert torch.allclose(posterior.kl(z), torch.distributions.kl_divergence(dense, prior))


def test_local_reparameterization_is_the_same_objective_with_less_noise() -> None:
    """On a linear layer, 8 inputs and 32 observations: 400 estimates each, of 4 draws.

    Loss and gradient, known from cubature, are met within 5 standard errors, which are 1 % of the loss, of which the
    noise of the weights makes 13 %; the gradient's variance is less than a quarter of that with drawn weights.
    """
    torch.manual_seed(0)
    body = Itself()
    body.features = 8
    posterior = MeanField(Network(body, 1), init_scale=0.5, likelihood=Gaussian(1.0)).double()
    x, y = torch.randn(32, 8).double(), torch.randn(32, 1).double()

    def estimate(z: Tensor, out: Tensor | None = None) -> Tensor:
        n = len(z)
        batch = Batch(x, None, y.expand(n, 32, 1), torch.ones(n, 32).double(), torch.tensor(32.0).double())
        loss = posterior.loss(batch, z, out)[0]
        return torch.cat([loss[None], *torch.autograd.grad(loss, [posterior.mu, posterior.log_sigma])]).detach()

    exact = estimate(cubature(9))
    local = torch.stack([estimate(posterior.index(4), posterior.local_reparameterization(x, 4)) for _ in range(400)])
    drawn = torch.stack([estimate(posterior.index(4)) for _ in range(400)])
    assert ((local.mean(0) - exact).abs() < 5 * local.std(0) / 20).all()
    assert local.std(0)[0] / 20 < 0.003 * exact[0]
    assert local.var(0)[1:].sum() < 0.25 * drawn.var(0)[1:].sum()


@pytest.mark.parametrize("cover", ["network", "head"])
@pytest.mark.parametrize("options", [{}, {"categories": 9}, {"dueling": True}, {"normalize": True}])
def test_local_reparameterization_draws_the_same_outputs(options: dict, cover: str) -> None:
    """At one input, 20,000 draws of both kinds: means within 5 standard errors, variances within 10 % (6 of theirs)."""
    torch.manual_seed(0)
    posterior = MeanField(mlp((2,), 2, hidden=[6, 6], **options), init_scale=0.3, cover=cover)
    x = torch.randint(9, (1, 2)) if "categories" in options else torch.randn(1, 2)
    with torch.no_grad():
        local, drawn = posterior.local_reparameterization(x, 20_000)[:, 0], posterior(posterior.index(20_000), x)[:, 0]
    assert ((local.mean(0) - drawn.mean(0)).abs() < 5 * drawn.std(0) * (2 / 20_000) ** 0.5).all()
    assert torch.allclose(local.var(0), drawn.var(0), rtol=0.1)


def test_networks_without_a_local_reparameterization_learn_by_draws() -> None:
    """A cell that is used at two steps: `fit_step` is `learn`."""

    class Twice(nn.Module):
        features = 3

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).tanh())

    torch.manual_seed(0)
    one, other = (MeanField(Network(Twice(), 2), likelihood=Gaussian(0.5)).double() for _ in range(2))
    other.load_state_dict(one.state_dict())
    batch, z = problem(one)
    with pytest.raises(NotReparameterizableError):
        one.local_reparameterization(batch.x, 3)
    assert one.fit_step(batch, z)["loss"] == other.learn(batch, z)["loss"]
    assert torch.equal(one.mu, other.mu)


def test_full_rank_refuses_what_is_too_large() -> None:
    network = mlp((4,), 2)
    with pytest.raises(ValueError, match=r"17410 random weights, .* 4.52 GiB .* wanted 3000 or fewer.*low_rank, or"):
        FullRank(network, cover="network")
    with pytest.raises(ValueError, match="got 258 random weights"):
        FullRank(network, limit=200)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MeanField, {"cover": "body"}, "wanted network"),
        (MeanField, {"init_scale": 0.0}, "wanted a positive share"),
        (LowRank, {"draws": 0}, "wanted 1 draw"),
        (LowRank, {"rank": 0}, "wanted 1 or more"),
        (FullRank, {"temperature": -1.0}, "no negative T"),
    ],
)
def test_wrong_arguments_are_refused(kind: type, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(mlp((3,), 2, hidden=[8]), **options)


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.LogNormal, dist.Uniform, dist.Gumbel])
def test_noise_is_transported(family: type) -> None:
    """20,000 draws named by normal noise have its own distribution: Kolmogorov distance below 0.0115 (1 %)."""
    torch.manual_seed(0)
    law = family(torch.tensor(0.5), torch.tensor(2.0))
    with FixedNoise(torch.randn(20_000)):
        draws = law.expand([20_000]).rsample()
    u = law.cdf(draws).sort().values
    assert (u - torch.linspace(0, 1, 20_000)).abs().max() < 0.0115

"""The posteriors obey the contract, and what each says of itself."""

import math

import pyro
import pytest
import torch
from pyro.infer import SVI, TraceMeanField_ELBO

from bayesrl.likelihoods import Gaussian
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Ensemble, Hypermodel, Learner, LinearHypermodel, Point
from bayesrl.posteriors.svi import elbo
from bayesrl.testing import Double, Indices, PosteriorContract


class TestPoint(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Point(network)


class TestEnsemble(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Ensemble(network, members=5)


@pytest.mark.parametrize(("n", "count"), [(3, 3), (5, 5), (12, 5)])
def test_central_indices_of_few_functions_name_each_once(n: int, count: int) -> None:
    torch.manual_seed(0)
    posterior = Ensemble(mlp((3,), 2, hidden=[16]), members=5)
    z, x = posterior.central(n), torch.randn(4, 3)
    assert len(z.unique()) == len(z) == count
    if count == 5:
        torch.testing.assert_close(posterior(z, x).mean(0), posterior.center(x))


class TestHypermodel(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Hypermodel(network)


class TestLinearHypermodel(PosteriorContract):
    """d = 0, T = 0: the linear hypermodel of the literature."""

    def make(self, network: Network) -> Learner:
        return LinearHypermodel(network)


class TestDuelingHypermodel(TestHypermodel):
    outputs = 3

    def network(self) -> Network:
        return mlp(self.shape, self.outputs, hidden=[32, 32], dueling=True)


class TestHypermodelOnIndices(Indices, TestHypermodel): ...


class TestHypermodelInDouble(Double, TestHypermodel): ...


class TestEnsembleInDouble(Double, TestEnsemble): ...


class TestPointInDouble(Double, TestPoint): ...


def test_the_linear_hypermodel_is_without_noise_and_temperature() -> None:
    made = []
    for posterior in (Hypermodel(mlp((3,), 2), noise=0.0, temperature=0.0), LinearHypermodel(mlp((3,), 2))):
        made.append((sorted(posterior.state_dict()), posterior.width, float(posterior.temperature)))
    assert made[0] == made[1]


def problem(posterior: Hypermodel, n: int = 6, B: int = 10) -> tuple[Batch, torch.Tensor]:
    z = posterior.index(n)
    batch = Batch(torch.randn(B, 3), torch.randint(2, (B,)), torch.randn(n, B), torch.rand(n, B), torch.tensor(500.0))
    return batch, z


@pytest.mark.parametrize(("noise", "temperature"), [(0.05, 1.0), (0.3, 0.25), (0.0, 1.0)])
def test_elbo_is_pyros_own(noise: float, temperature: float) -> None:
    """The synchronization-free ELBO and its gradients equal `TraceMeanField_ELBO` on the same model and guide."""
    torch.manual_seed(0)
    posterior = Hypermodel(mlp((3,), 2, hidden=[16]), noise=noise, temperature=temperature).double()
    batch, z = problem(posterior)
    batch = Batch(batch.x.double(), batch.action, batch.y.double(), batch.weight.double(), batch.size.double())
    ours = -elbo(posterior.model, posterior.guide, batch, z)[0]
    theirs = TraceMeanField_ELBO().differentiable_loss(posterior.model, posterior.guide, batch, z)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    parameters = list(posterior.parameters())
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_model_and_guide_run_under_stock_svi() -> None:
    """They are ordinary Pyro programs: 200 steps of `pyro.infer.SVI` lower the loss."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    posterior = Hypermodel(mlp((3,), 2, hidden=[16]))
    batch, z = problem(posterior)

    def guide(batch: Batch, z: torch.Tensor) -> None:
        pyro.module("posterior", posterior)
        posterior.guide(batch, z)

    svi = SVI(posterior.model, guide, pyro.optim.Adam({"lr": 1e-2}), TraceMeanField_ELBO())
    losses = [svi.step(batch, z) for _ in range(200)]
    assert losses[-1] < 0.5 * losses[0]
    pyro.clear_param_store()


def test_elbo_terms_by_hand() -> None:
    """KL of Normal(mu, d^2) from Normal(0, s^2) summed over weights, averaged over draws; nll scaled by size / B."""
    torch.manual_seed(0)
    s, d, T, sigma = 0.7, 0.3, 0.5, 0.2
    posterior = Hypermodel(
        mlp((3,), 2, hidden=[8]), weight_scale=s, noise=d, temperature=T, likelihood=Gaussian(sigma)
    ).double()
    batch, z = problem(posterior)
    batch = Batch(batch.x.double(), batch.action, batch.y.double(), batch.weight.double(), batch.size.double())
    bound, terms = elbo(posterior.model, posterior.guide, batch, z)
    mu = posterior.m + torch.einsum("kdm,nm->nkd", posterior.L, z[:, :4])
    kl = ((d**2 + mu**2) / (2 * s**2) - 0.5 - math.log(d / s)).sum((1, 2)).mean()
    f = posterior(z, batch.x)[:, torch.arange(10), batch.action]
    nll = (f - batch.y) ** 2 / (2 * sigma**2) + math.log(sigma) + 0.5 * math.log(2 * math.pi)
    assert torch.allclose(terms["kl"], T * kl)
    assert torch.allclose(terms["nll"], (batch.weight * nll).sum(1).mean() * 500 / 10)
    assert torch.allclose(bound, -terms["nll"] - terms["kl"])
    assert torch.allclose(posterior.kl(z), kl)


@pytest.mark.parametrize("categories", [0, 30])
def test_prior_has_standard_deviation_beta(categories: int) -> None:
    """Over random priors and inputs the prior of f has sd beta: 40 priors of 4 indices, within 15 %."""
    torch.manual_seed(0)
    x = torch.arange(30)[:, None] if categories else torch.randn(100, 5)
    values = []
    for _ in range(40):
        posterior = Hypermodel(mlp(x.shape[1:], 3, categories, hidden=[64, 64]), prior_scale=2.0)
        xi = torch.randn(50, 4)
        values.append(torch.einsum("bam,nm->nba", posterior.prior_features(x), xi).flatten())
    assert torch.cat(values).std() == pytest.approx(2.0, rel=0.15)


@pytest.mark.slow
def test_uncertainty_falls_where_there_is_data_and_stays_elsewhere() -> None:
    """With targets of 0 on x > 0, the std of the draws there is a fifth of that at x < -1, or less."""
    torch.manual_seed(0)
    posterior = Hypermodel(mlp((1,), 1, hidden=[64, 64]))
    x = torch.rand(128, 1) * 2
    for _ in range(1500):
        z = posterior.index(20)
        posterior.learn(Batch(x, None, torch.zeros(20, 128, 1), torch.ones(20, 128), torch.tensor(128.0)), z)
    z = posterior.index(200)
    seen = posterior(z, torch.linspace(0.2, 1.8, 20)[:, None]).std(0).mean()
    unseen = posterior(z, torch.linspace(-3, -1, 20)[:, None]).std(0).mean()
    assert seen < 0.2 * unseen


def test_perturbation_is_linear_in_the_index() -> None:
    torch.manual_seed(0)
    posterior = Hypermodel(mlp((3,), 2, hidden=[8]), noise=0.0, perturbation=0.3)
    z, tags = posterior.index(5), posterior.tags(7)
    _, shift = posterior.bootstrap(z, tags)
    assert torch.allclose(tags.norm(dim=1), torch.ones(7))
    assert torch.allclose(shift, 0.3 * z @ tags.T)


def test_perturbation_and_noise_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="both stand for the same"):
        Hypermodel(mlp((3,), 2, hidden=[8]), noise=0.1, perturbation=0.3)


def test_ensemble_index_is_stratified() -> None:
    torch.manual_seed(0)
    posterior = Ensemble(mlp((3,), 2, hidden=[8]), members=5)
    assert sorted(posterior.index(10)[:5, 0].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(posterior.index(10)[5:, 0].tolist()) == [0, 1, 2, 3, 4]


def test_ensemble_masks_teach_only_their_members() -> None:
    torch.manual_seed(0)
    posterior = Ensemble(mlp((3,), 2, hidden=[8]), members=3, mask=0.5)
    z = torch.tensor([[2], [0], [1]])
    tags = torch.tensor([[True, False, True], [False, False, True]])
    weight, _ = posterior.bootstrap(z, tags)
    assert weight.tolist() == [[1, 1], [1, 0], [0, 0]]
    before = posterior.theta.detach().clone()
    tags = torch.tensor([[True, False, False]] * 4)
    weight, _ = posterior.bootstrap(z, tags)
    posterior.learn(
        Batch(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(3, 4), weight, torch.tensor(4.0)), z
    )
    moved = (posterior.theta - before).abs().sum(1) > 0
    assert moved.tolist() == [True, False, False]


def test_mask_rate() -> None:
    """10,000 masks at rate 0.3 within 5 standard errors, 0.023."""
    torch.manual_seed(0)
    tags = Ensemble(mlp((3,), 2, hidden=[8]), members=5, mask=0.3).tags(2000)
    assert tags.float().mean().item() == pytest.approx(0.3, abs=0.023)


@pytest.mark.parametrize("mask", [0.0, 1.5])
def test_mask_out_of_range_is_refused(mask: float) -> None:
    with pytest.raises(ValueError, match="wanted a probability"):
        Ensemble(mlp((3,), 2, hidden=[8]), mask=mask)

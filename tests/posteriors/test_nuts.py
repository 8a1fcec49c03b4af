"""The reference: exact posteriors within Monte Carlo error, and the part of the contract that needs no learning."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bayesrl.likelihoods import Categorical, Gaussian
from bayesrl.metrics.diagnostics import ess_bulk, rhat
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import NUTS, Posterior
from bayesrl.posteriors import nuts as module
from bayesrl.priors import Isotropic
from bayesrl.testing import Double, DrawsContract, Indices


class TestNUTS(DrawsContract):
    def make(self, network: Network) -> Posterior:
        return NUTS(network, chains=2, samples=50)


class TestNUTSInDouble(Double, TestNUTS): ...


class TestNUTSOnIndices(Indices, TestNUTS): ...


Y = torch.tensor([-0.9, -0.2, 0.1, 0.8, 1.1], dtype=torch.float64)
NEAR = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)[:, None]
FAR = torch.tensor([2.0, 2.2, 2.4, 2.6, 2.8], dtype=torch.float64)[:, None]


class Features(nn.Identity):
    """No body: a linear model, weights [slope, intercept]."""

    features = 1


def linear(x: Tensor, temperature: float = 1.0, warmup: int = 150, samples: int = 400) -> NUTS:
    """Conjugate regression with weights ~ N(0, I) and noise 0.5, fitted; the options of the sampler are for T = 1."""
    torch.manual_seed(0)
    posterior = NUTS(
        Network(Features(), 1),
        chains=1,
        warmup=warmup,
        samples=samples,
        prior=Isotropic,
        temperature=temperature,
        likelihood=Gaussian(0.5),
    ).double()
    assert posterior.fit(x, Y, progress=False) == [0]
    return posterior


def agrees(draws: Tensor, mean: Tensor, variance: Tensor) -> None:
    """draws [1, S, *] against [*]: means within 4 standard errors, variances too, and enough effective draws."""
    ess = ess_bulk(draws)
    assert (rhat(draws) < 1.05).all()
    assert (ess > 100).all()
    flat = draws.flatten(0, 1)
    assert ((flat.mean(0) - mean).abs() < 4 * (variance / ess).sqrt()).all()
    assert ((flat.var(0) / variance - 1).abs() < 4 * (2 / ess.clamp(max=len(flat))).sqrt()).all()


def test_conjugate_regression() -> None:
    """400 draws, ESS of 150 and more: 4 standard errors are 0.33 of a standard deviation, and 46 % of a variance."""
    posterior = linear(NEAR)
    agrees(
        posterior.theta.unflatten(0, (1, 400)),
        torch.tensor([0.909091, 0.171429]).double(),
        torch.tensor([0.090909, 0.047619]).double(),
    )
    f = posterior.chains(torch.tensor([[2.0]]).double())
    agrees(f[..., 0, 0], torch.tensor(1.989610).double(), torch.tensor(0.411255).double())


@pytest.mark.slow
def test_conjugate_regression_with_correlated_weights() -> None:
    """400 draws of slope and intercept with correlation -0.965, whose standard error is 0.006 at an ESS of 150."""
    posterior = linear(FAR)
    mean = torch.linalg.solve(
        4 * design(FAR).T @ design(FAR) + torch.eye(2).double(), 4 * design(FAR).T @ Y
    )  # 1 / 0.25 = 4
    agrees(posterior.theta.unflatten(0, (1, 400)), mean, torch.tensor([0.123675, 0.693757]).double())
    assert float(torch.corrcoef(posterior.theta.T)[0, 1]) == pytest.approx(-0.965070, abs=0.02)


def design(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x)], 1)


def test_temperature_multiplies_the_variance() -> None:
    """T = 0.1 on 300 draws: variances of a tenth, within the tolerance of `agrees`, which T = 0.2 would break."""
    posterior = linear(NEAR, temperature=0.1, warmup=100, samples=300)
    agrees(
        posterior.theta.unflatten(0, (1, 300)),
        torch.tensor([0.909091, 0.171429]).double(),
        torch.tensor([0.0090909, 0.0047619]).double(),
    )


def test_fit_is_deterministic_and_moves_every_chain() -> None:
    torch.manual_seed(0)
    one = NUTS(mlp((1,), 3, hidden=[4]), chains=2, warmup=5, samples=4, likelihood=Categorical(3)).double()
    other, before = copy.deepcopy(one), one.theta.clone()
    for posterior in (one, other):
        torch.manual_seed(1)
        posterior.fit(NEAR, torch.tensor([0, 0, 1, 2, 2]), progress=False)
    assert torch.equal(one.theta, other.theta)
    assert not (one.theta == before).any(1).any()
    assert not torch.equal(one.theta[:4], one.theta[4:])


def test_before_fit_draws_are_of_the_prior() -> None:
    """500 draws of 50 weights, standardized: variance 1 within 4 %, 4.5 standard errors."""
    torch.manual_seed(0)
    posterior = NUTS(mlp((3,), 2, hidden=[8]), chains=1, samples=500)
    eps = (posterior.theta - posterior.prior.loc) / posterior.prior.std()
    assert float(eps.var()) == pytest.approx(1, abs=0.04)


def test_index_names_every_draw_once() -> None:
    z = NUTS(mlp((3,), 2, hidden=[8]), chains=2, samples=5).index(20)[:, 0]
    assert sorted(z[:10].tolist()) == sorted(z[10:].tolist()) == list(range(10))


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="wanted 10000 or fewer: use SGMCMC"):
        NUTS(mlp((3,), 2, hidden=[128, 128]))
    posterior = NUTS(Network(Features(), 1)).double()
    monkeypatch.setattr(module, "LARGEST", 4)
    with pytest.raises(ValueError, match="got 5 observations"):
        posterior.fit(NEAR, Y)


@pytest.mark.parametrize(("name", "value"), [("chains", 0), ("warmup", 0), ("samples", 3), ("temperature", 0.0)])
def test_wrong_arguments_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        NUTS(mlp((3,), 2, hidden=[8]), **{name: value})  # type: ignore[arg-type]

"""A posterior given by any Pyro program: the contract, exact answers, and Pyro's own numbers."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from pyro.nn import PyroModule, PyroParam
from torch import Tensor, nn

from bayesrl.likelihoods import Gaussian
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, Guided, Learner
from bayesrl.posteriors.guided import FixedNoise, local_parameters
from bayesrl.testing import PosteriorContract
from support.linear_regression import CORRELATED, cubature, optimum


class Net(PyroModule):
    """A network with standard priors on its weights, scaled by fan-in, as an ordinary Pyro program."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", network.layout.fan_in.rsqrt())

    def forward(self, x: Tensor) -> Tensor:
        theta = pyro.sample("theta", dist.Normal(torch.zeros_like(self.scale), self.scale).to_event(1))
        return self.network.one(theta, x)


class TestGuided(PosteriorContract):
    """A network under an AutoNormal guide."""

    def make(self, network: Network) -> Learner:
        model = Net(network)
        guide = AutoNormal(model, init_loc_fn=init_to_value(values={"theta": network.init()}), init_scale=0.02)
        return Guided(model, guide, torch.zeros(1, *self.shape))


class Line(nn.Module):
    """Bayesian linear regression: an intercept and a slope with standard normal priors."""

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(())
        b = pyro.sample("b", dist.Normal(zero, 1.0))
        w = pyro.sample("w", dist.Normal(zero, 1.0))
        return b + w * x


class Correlated(PyroModule):
    """Its guide: w, and then b given w."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))
        self.scale = PyroParam(torch.ones(2), constraint=dist.constraints.positive)
        self.slope = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(self.loc[0], self.scale[0]))
        pyro.sample("b", dist.Normal(self.loc[1] + self.slope * w, self.scale[1]))


def test_a_pyro_program_reaches_the_exact_posterior() -> None:
    """log p - log q is quadratic in the guide's noise, so that cubature is exact here too; correlation -0.965."""
    torch.manual_seed(0)
    posterior = Guided(Line(), Correlated(), torch.zeros(1, 1), likelihood=Gaussian(0.5)).double()
    assert posterior.width == 2
    assert optimum(posterior, CORRELATED) == pytest.approx(-7.604296, abs=1e-6)
    at = posterior(cubature(2), torch.tensor([[0.0], [1.0]]).double()).detach()[..., 0]  # b, b + w
    assert at[:, 0].var(correction=0).item() == pytest.approx(0.693757, abs=1e-5)
    assert (at[:, 1] - at[:, 0]).var(correction=0).item() == pytest.approx(0.123675, abs=1e-5)


def test_guided_loss_is_pyros_own() -> None:
    """`Trace_ELBO` of the program with its targets, at the same noise, and its gradient."""
    torch.manual_seed(0)
    model = Net(mlp((3,), 1, hidden=[8]))
    with pyro.settings.context(module_local_params=True):
        guide = AutoNormal(model, init_scale=0.1)
    posterior = Guided(model, guide, torch.zeros(1, 3), likelihood=Gaussian(0.5)).double()
    x, y, z = torch.randn(6, 3).double(), torch.randn(6, 1).double(), posterior.index(1)

    def observed(x: Tensor) -> None:
        f = model(x)
        with pyro.plate("data", 6):
            pyro.sample("y", dist.Normal(f, 0.5).to_event(1), obs=y)

    batch = Batch(x, None, y[None], torch.ones(1, 6).double(), torch.tensor(6.0).double())
    ours = posterior.loss(batch, z)[0]
    with local_parameters(), FixedNoise(z[0]):
        theirs = Trace_ELBO().differentiable_loss(observed, guide, x) / 6
    assert torch.allclose(ours, theirs, rtol=1e-12)
    parameters = list(posterior.parameters())
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_two_guides_of_one_class_are_apart() -> None:
    """Teaching one leaves the other, Pyro's store and its settings alone."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    one, other = (Guided(m := Net(mlp((1,), 1, hidden=[8])), AutoNormal(m), torch.zeros(1, 1)) for _ in range(2))
    before = [p.clone() for p in other.parameters()]
    one.fit(torch.randn(20, 1), torch.randn(20), updates=5, progress=False)
    assert all(torch.equal(p, q) for p, q in zip(before, other.parameters(), strict=True))
    assert not pyro.get_param_store().keys()
    assert not pyro.settings.get("module_local_params")


def gamma(x: Tensor) -> None:
    pyro.sample("w", dist.Gamma(torch.tensor(2.0), 1.0))
    pyro.sample("b", dist.Normal(torch.tensor(0.0), 1.0))


def shared(x: Tensor) -> None:
    pyro.sample("w", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))
    pyro.sample("b", dist.Normal(torch.tensor(0.0), 1.0))


def half(x: Tensor) -> None:
    pyro.sample("w", dist.Normal(torch.tensor(0.0), 1.0))


@pytest.mark.parametrize(
    ("guide", "message"),
    [(gamma, "got 'w' ~ Gamma in the guide"), (shared, r"got pyro.param\('loc'\)"), (half, "a guide without 'b'")],
)
def test_guides_that_an_index_cannot_name_are_refused(guide: object, message: str) -> None:
    pyro.clear_param_store()
    with pytest.raises(ValueError, match=message):
        Guided(Line(), guide, torch.zeros(1, 1))
    pyro.clear_param_store()

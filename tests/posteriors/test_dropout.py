"""Masks that belong to an index: what they leave out, in every kind of network, and what they cost."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.posteriors import Batch, ConcreteDropout, Dropout, Learner
from bayesrl.priors import Isotropic
from bayesrl.testing import Double, Indices, PosteriorContract, Sequences


class TestDropout(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return Dropout(network, draws=5)


class TestDropoutOnIndices(Indices, TestDropout): ...


class TestDropoutOnSequences(Sequences, TestDropout): ...


class TestConcreteDropout(PosteriorContract):
    def make(self, network: Network) -> Learner:
        return ConcreteDropout(network, draws=5)


class TestConcreteDropoutInDouble(Double, TestConcreteDropout): ...


def parts(network: Network, theta: Tensor) -> dict[str, Tensor]:
    """The body's weights by name, and the head's."""
    body = dict(zip([n for n, _ in network._shapes], theta[: network.body_size].split(network._sizes), strict=True))
    named = {name: body[name].view(shape) for name, shape in network._shapes}
    head = theta[network.body_size :]
    cut = network.head_outputs * network.features_out
    return named | {"head": head[:cut].view(network.head_outputs, -1), "bias": head[cut:]}


def test_a_mask_silences_hidden_units_of_an_mlp() -> None:
    """By hand: h * mask / keep after every ReLU; the observation and all biases whole."""
    torch.manual_seed(0)
    posterior = Dropout(mlp((3,), 2, hidden=[5, 4]), keep=0.6).double()
    x, z = torch.randn(6, 3).double(), posterior.index(8)
    assert z.shape == (8, 9)
    w = parts(posterior.network, posterior.theta)
    mask = (z < 0.6) / 0.6
    for k in range(8):
        h = torch.relu(x @ w["1.weight"].T + w["1.bias"]) * mask[k, :5]
        h = torch.relu(h @ w["3.weight"].T + w["3.bias"]) * mask[k, 5:]
        assert torch.allclose(posterior(z, x)[k], h @ w["head"].T + w["bias"], rtol=1e-6)


class Convolutions(nn.Sequential):
    features = 16

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())


def test_a_mask_silences_channels_of_a_convolution() -> None:
    """3 channels between two convolutions, and 16 numbers before the head."""
    torch.manual_seed(0)
    network = Network(Convolutions(), 2)
    posterior = Dropout(network, keep=0.6).double()
    x, z = torch.randn(5, 2, 4, 4).double(), posterior.index(8)
    assert z.shape == (8, 19)
    w = parts(network, posterior.theta)
    mask = (z < 0.6) / 0.6
    for k in range(8):
        h = torch.relu(nn.functional.conv2d(x, w["0.weight"], w["0.bias"], padding=1)) * mask[k, :3, None, None]
        h = torch.relu(nn.functional.conv2d(h, w["2.weight"], w["2.bias"])).flatten(1) * mask[k, 3:]
        assert torch.allclose(posterior(z, x)[k], h @ w["head"].T + w["bias"], rtol=1e-6)


class Cell(nn.Module):
    """h <- tanh(A x_t + B h) over [B, steps, 2]."""

    features = 4

    def __init__(self) -> None:
        super().__init__()
        self.input, self.state = nn.Linear(2, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = torch.tanh(self.input(x[:, t]) + self.state(h))
        return h


def test_a_mask_silences_the_same_units_at_every_time_step() -> None:
    torch.manual_seed(0)
    network = Network(Cell(), 2)
    posterior = Dropout(network, keep=0.6).double()
    x, z = torch.randn(5, 3, 2).double(), posterior.index(8)
    assert z.shape == (8, 8)  # the state as the cell's input, and as the head's
    w = parts(network, posterior.theta)
    mask = (z < 0.6) / 0.6
    for k in range(8):
        h = torch.zeros(5, 4).double()
        for t in range(3):
            state = (h * mask[k, :4]) @ w["state.weight"].T + w["state.bias"]
            h = torch.tanh(x[:, t] @ w["input.weight"].T + w["input.bias"] + state)
        assert torch.allclose(posterior(z, x)[k], (h * mask[k, 4:]) @ w["head"].T + w["bias"], rtol=1e-6)


def test_mean_and_variance_over_all_masks() -> None:
    """One hidden layer, all 2^5 masks with their probabilities: mean f(theta), variance (1 - keep) / keep sum (w h)^2.

    (Wager, Wang & Liang, Dropout Training as Adaptive Regularization, 2013.)
    """
    torch.manual_seed(0)
    network = mlp((3,), 1, hidden=[5])
    posterior = Dropout(network, keep=0.7).double()
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5))).double()
    p = (0.7**masks * 0.3 ** (1 - masks)).prod(1)
    x = torch.randn(4, 3).double()
    out = posterior(1 - masks, x)[..., 0]  # z = 0 keeps a unit, z = 1 drops it
    mean = p @ out
    assert torch.allclose(mean, network.one(posterior.theta, x)[:, 0], rtol=1e-6)
    w = parts(network, posterior.theta)
    h = torch.relu(x @ w["1.weight"].T + w["1.bias"])
    assert torch.allclose(p @ (out - mean).square(), 0.3 / 0.7 * (h * w["head"]).square().sum(1), rtol=1e-6)


def test_share_kept() -> None:
    """2,000 draws of 12 units at keep = 0.8: within 4.5 standard errors of 0.0026; a unit's masks do not repeat."""
    torch.manual_seed(0)
    posterior = Dropout(mlp((3,), 2, hidden=[8, 4]), keep=0.8)
    mask = posterior.mask(posterior.index(2000))
    assert float(mask.mean()) == pytest.approx(0.8, abs=0.012)
    assert (torch.corrcoef(mask.T) - torch.eye(12)).abs().max() < 0.1  # 4.5 standard errors of 0.022


def test_divergence_is_the_expected_log_prior_less_the_entropy() -> None:
    """Against all 2^5 masks: E[-log p(weights)] - entropy of the masks, and T / size of it in the loss."""
    torch.manual_seed(0)
    network = mlp((3,), 1, hidden=[5])
    posterior = Dropout(network, keep=0.7, temperature=0.3, prior=lambda n: Isotropic(n, 0.4)).double()
    masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5))).double()
    p = (0.7**masks * 0.3 ** (1 - masks)).prod(1)
    normal = torch.distributions.Normal(torch.zeros(26).double(), 0.4)
    log_prior = normal.log_prob(posterior.weights(1 - masks)).sum(1)
    constant = 26 * 0.5 * math.log(2 * math.pi)
    exact = -(p @ log_prior) - constant + p @ p.log()
    assert posterior.divergence().item() == pytest.approx(exact.item(), rel=1e-6)
    z = posterior.index(3)
    batch = Batch(torch.randn(4, 3).double(), None, torch.randn(3, 4, 1).double(), torch.ones(3, 4).double(),
                  torch.tensor(50.0).double())  # fmt: skip
    loss, terms = posterior.loss(batch, z)
    assert (loss - terms["nll"]).item() == pytest.approx(0.3 / 50 * exact.item(), rel=1e-6)


def test_concrete_masks_are_nearly_the_hard_ones() -> None:
    """4 of 5 of 50,000 masks agree within 0.1, and their mean is within 0.02 of `keep`."""
    torch.manual_seed(0)
    network = mlp((3,), 2, hidden=[50])
    hard, soft = Dropout(network, keep=0.8), ConcreteDropout(network, keep=0.8).requires_grad_(False)
    z = hard.index(1000)
    assert float((hard.mask(z) - soft.mask(z)).abs().lt(0.1).float().mean()) > 0.8
    assert float(soft.mask(z).mean()) == pytest.approx(0.8, abs=0.02)
    edge = soft.mask(torch.tensor([[0.0] * 25 + [1.0] * 25]))
    assert edge.isfinite().all() and edge[:, :25].min() > 0.99 and edge[:, 25:].max() < 0.01


def trained(weight: float, layers: int = 2) -> ConcreteDropout:
    """300 updates on observations that count `weight`, of a function that the network holds easily."""
    torch.manual_seed(0)
    posterior = ConcreteDropout(mlp((1,), 1, hidden=[16] * (layers - 1)), keep=0.8, draws=4,
                                optimizer=lambda p: torch.optim.Adam(p, lr=0.02))  # fmt: skip
    x = torch.linspace(-1, 1, 32)[:, None]
    for _ in range(300):
        z = posterior.index(4)
        posterior.learn(Batch(x, None, x.expand(4, 32, 1), torch.full((4, 32), weight), torch.tensor(32.0)), z)
    return posterior


def test_concrete_rate_without_data_is_a_half() -> None:
    """Without data, weights go to the prior's mean and masks to their greatest entropy."""
    posterior = trained(0.0, layers=3)
    assert torch.allclose(posterior.keep, torch.tensor(0.5), atol=0.02)
    assert posterior.theta.abs().max() < 0.05


def test_concrete_rate_falls_with_data() -> None:
    """Dropping costs fit: much data raise `keep` above where it started, in the only layer that is dropped."""
    assert trained(100.0).keep.min() > 0.9


def test_without_hidden_units_it_is_one_function() -> None:
    class Features(nn.Identity):
        features = 3

    posterior = Dropout(Network(Features(), 2))
    assert posterior.degenerate and posterior.index(4).shape == (4, 0)
    assert torch.equal(posterior.weights(posterior.index(4)), posterior.theta.expand(4, -1))


@pytest.mark.parametrize(("name", "value"), [("keep", 0.0), ("keep", 1.0), ("draws", 0), ("temperature", -1.0)])
def test_wrong_arguments_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Dropout(mlp((3,), 2, hidden=[8]), **{name: value})  # type: ignore[arg-type]

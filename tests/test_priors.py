"""Scales of weights, and of the functions they make."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from bayesrl.likelihoods import Gaussian
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors import MeanField
from bayesrl.priors import ARD, FanIn, Isotropic, PerLayer, Prior


def functions(prior: Prior, network: Network, x: torch.Tensor, n: int) -> torch.Tensor:
    """n functions of the prior, [n, B, A]."""
    with torch.no_grad():
        return network(prior.loc + prior.std() * torch.randn(n, network.size), x)


def layered(layers: int, width: int) -> Network:
    return mlp((8,), 1, hidden=[width] * (layers - 1))


@pytest.mark.parametrize("gain", [1.0, 0.7])
@pytest.mark.parametrize("layers", [2, 4, 7])
def test_functions_of_fan_in_are_of_order_one(layers: int, gain: float) -> None:
    """Second moment q: q_1 = gain^2 (1 + 1), q_l+1 = gain^2 (q_l / 2 + 1) behind a ReLU; 2 at every depth for gain 1.

    6,000 functions at one input of second moment 1, within 15 %: 4 standard errors or more, as each layer of 32 ReLUs
    multiplies the output's kurtosis, from 3, by 1 + 5 / 32 at most.
    """
    torch.manual_seed(0)
    network = layered(layers, 32)
    x = torch.randn(1, 8)
    x = x / x.square().mean().sqrt()
    expected = gain**2 * 2
    for _ in range(layers - 1):
        expected = gain**2 * (expected / 2 + 1)
    out = functions(FanIn(network, gain), network, x, 6000)
    assert out.square().mean().item() == pytest.approx(expected, rel=0.15)
    if gain == 1:
        assert expected == 2


def test_unit_weights_are_not_of_order_one() -> None:
    """The same with every weight from N(0, 1), where q_1 = 8 + 1, q_2 = 32 q_1 / 2 + 1 = 145."""
    torch.manual_seed(0)
    network = layered(2, 32)
    x = torch.ones(1, 8)
    out = functions(Isotropic(network), network, x, 6000)
    assert out.square().mean().item() == pytest.approx(145, rel=0.15)


def test_scales_by_the_layout() -> None:
    """3-4-2: [4 x 3 weights, 4 biases, 2 x 4 head weights, 2 biases], each in its place."""
    network = mlp((3,), 2, hidden=[4])
    std = FanIn(network, 0.5).std()
    assert torch.allclose(std[:12], torch.tensor(0.5 / math.sqrt(3)))
    assert torch.allclose(std[12:16], torch.tensor(0.5))
    assert torch.allclose(std[16:24], torch.tensor(0.25))
    assert torch.allclose(std[24:], torch.tensor(0.5))
    layers = PerLayer(network, [2.0, 3.0]).std()
    assert torch.allclose(layers, std / 0.5 * torch.tensor([2.0] * 16 + [3.0] * 10))
    assert torch.equal(Isotropic(network, 0.3).std(), torch.full((26,), 0.3))
    assert torch.equal(FanIn(network).loc, torch.zeros(26))


def test_gains_of_normalization_are_around_one() -> None:
    body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU())
    body.features = 4  # type: ignore[assignment]
    prior = FanIn(Network(body, 2))
    assert prior.loc.tolist() == [0.0] * 16 + [1.0] * 4 + [0.0] * 14
    assert prior.std()[16:24].tolist() == [1.0] * 8


@pytest.mark.parametrize("kind", [Isotropic, FanIn, lambda n: PerLayer(n, [1.0, 1.0]), ARD])
def test_precision_follows(kind: type) -> None:
    prior = kind(mlp((3,), 2, hidden=[4])).double()
    assert prior.loc.dtype == prior.std().dtype == torch.float64


# --- relevance -------------------------------------------------------------------------------------------------------


def test_relevance_scales_its_feature_alone() -> None:
    network = mlp((3,), 2, hidden=[4])
    prior, fixed = ARD(network), FanIn(network).std()
    assert torch.equal(prior.std(), fixed)
    assert prior.relevance.tolist() == [1.0] * 3
    with torch.no_grad():
        prior.log_relevance[1] = math.log(0.1)
    factor = (prior.std() / fixed).detach()
    assert torch.allclose(factor[:12].view(4, 3), torch.tensor([[1.0, 0.1, 1.0]]).expand(4, 3))
    assert torch.equal(factor[12:], torch.ones(14))


def test_relevance_goes_where_the_evidence_is() -> None:
    """Weights N(mu, d^2) held fixed: the KL's least is at a prior variance of mean(mu^2 + d^2) over each feature."""
    network = mlp((3,), 2, hidden=[64])
    prior = ARD(network)
    scale = torch.tensor([1.0, 0.1, 0.01])
    torch.manual_seed(0)
    mu, d = torch.zeros(network.size), 0.005
    mu[:192] = (torch.randn(64, 3) * scale).flatten()
    optimizer = Adam(prior.parameters(), lr=0.05)
    for _ in range(500):
        kl = (prior.std().log() + (mu**2 + d**2) / (2 * prior.std() ** 2)).sum()
        optimizer.zero_grad()
        kl.backward()
        optimizer.step()
    best = ((mu[:192].view(64, 3) ** 2).mean(0) + d**2).sqrt() * math.sqrt(3)
    assert torch.allclose(prior.relevance, best, rtol=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_relevance_finds_the_feature_that_counts(seed: int) -> None:
    """y = sin(x_0) + noise with 5 useless features: a mean-field posterior gives x_0 more than 4 times any other's."""
    torch.manual_seed(seed)
    x = torch.randn(200, 6)
    posterior = MeanField(
        mlp((6,), 1, hidden=[32]), prior=ARD, likelihood=Gaussian(0.2), optimizer=partial(Adam, lr=1e-2)
    )
    posterior.fit(x, torch.sin(x[:, 0]) + 0.2 * torch.randn(200), updates=600, progress=False)
    relevance = posterior.prior.relevance
    assert relevance[0] > 4 * relevance[1:].max()


def test_relevance_of_channels_and_categories() -> None:
    """The features of a convolution are its channels, those of indices its categories."""
    body = nn.Sequential(nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten())
    body.features = 4 * 9  # type: ignore[assignment]
    assert len(ARD(Network(body, 2)).relevance) == 3
    assert len(ARD(mlp((1,), 2, categories=5, hidden=[4])).relevance) == 6  # and the index that stands for none


def test_relevance_needs_features() -> None:
    body = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 4))
    body.features = 4  # type: ignore[assignment]
    with pytest.raises(ValueError, match="got a network that begins with '0'"):
        ARD(Network(body, 2))


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("kind", [Isotropic, FanIn, ARD, lambda n, s: PerLayer(n, [1.0, s])])
def test_scales_are_checked(kind: type, scale: float) -> None:
    with pytest.raises(ValueError, match=f"got a prior scale of {scale}, wanted a positive"):
        kind(mlp((3,), 2, hidden=[4]), scale)


def test_a_scale_for_each_layer() -> None:
    with pytest.raises(ValueError, match="got 3 prior scales, wanted 2: one for each layer"):
        PerLayer(mlp((3,), 2, hidden=[4]))

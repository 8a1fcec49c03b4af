"""Networks are pure functions of one flat vector."""

import pytest
import torch
from torch import nn

from bayesrl.modules import MLP, Dueling, OneHotLinear
from bayesrl.network import Network, mlp


def test_flat_vector_is_the_module() -> None:
    """f(theta, x) equals the plain module with the same weights."""
    torch.manual_seed(0)
    network = mlp((4,), 3, hidden=[8, 5])
    assert network.size == 4 * 8 + 8 + 8 * 5 + 5 + 5 * 3 + 3
    theta = network.init()
    layers = [nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(5, 3)]
    nn.utils.vector_to_parameters(theta, [p for layer in layers for p in layer.parameters()])
    x = torch.randn(6, 4)
    expected = layers[2](layers[1](layers[0](x).relu()).relu())
    assert torch.allclose(network.one(theta, x), expected, atol=1e-6)


def test_draws_and_pairs() -> None:
    torch.manual_seed(0)
    network = mlp((4,), 3, hidden=[8])
    theta = torch.stack([network.init() for _ in range(5)])
    x = torch.randn(5, 4)
    every = network(theta, x)
    assert every.shape == (5, 5, 3)
    for i in range(5):
        assert torch.allclose(every[i], network.one(theta[i], x), atol=1e-6)
        assert torch.allclose(network.paired(theta, x)[i], every[i, i], atol=1e-6)


def test_init_is_the_layers_own() -> None:
    """Uniform within 1/sqrt(fan_in) for a dense layer, N(0, std^2) for a one-hot one (4,000 weights, 5 %)."""
    torch.manual_seed(0)
    dense = mlp((100,), 2, hidden=[40]).init()[:4000]
    assert dense.abs().max() <= 0.1
    assert dense.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    onehot = mlp((1,), 2, categories=100, hidden=[40]).init()[:4000]
    assert onehot.std().item() == pytest.approx(0.1, rel=0.05)


def test_dueling_by_hand() -> None:
    out = Dueling()(torch.tensor([[10.0, 1.0, 2.0, 6.0]]))
    assert out.tolist() == [[8.0, 9.0, 13.0]]


def test_dueling_mean_is_the_value() -> None:
    torch.manual_seed(0)
    network = mlp((4,), 3, hidden=[8, 8], dueling=True)
    assert network.head_outputs == 4
    theta, x = network.init(), torch.randn(6, 4)
    phi = network.features(theta, x)
    weight = theta[network.body_size : network.size - 4].view(4, 16)
    value = phi @ weight[0] + theta[network.size - 4]
    assert torch.allclose(network.one(theta, x).mean(-1), value, atol=1e-6)


def test_prior_differs_between_one_hot_inputs() -> None:
    """Two ReLU layers leave two one-hot inputs a correlation of .494 (arc-cosine kernel, Cho & Saul, 2009).

    So half of the second moment, which is 1, lies between inputs: 300 priors, within 10 %.
    """
    torch.manual_seed(0)
    network = mlp((1,), 1, categories=100, hidden=[256, 256])
    x = torch.arange(100)[:, None]
    out = torch.stack([network.one(network.init_prior(), x) for _ in range(300)])
    assert out.square().mean().item() == pytest.approx(1.0, rel=0.1)
    assert (out.var(1).mean() / out.square().mean()).item() == pytest.approx(0.506, rel=0.1)


def test_nothing_trains_inside() -> None:
    network = mlp((4,), 3, hidden=[8])
    theta = network.init().requires_grad_()
    network.one(theta, torch.randn(2, 4)).sum().backward()
    assert theta.grad is not None
    assert theta.grad.abs().sum() > 0


def test_batchnorm_is_refused() -> None:
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    body.features = 8  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"nn.LayerNorm"):
        Network(body, 2)


@pytest.mark.parametrize(("hidden", "dueling"), [([], False), ([0], False), ([8], True)])
def test_widths_are_checked(hidden: list[int], dueling: bool) -> None:
    with pytest.raises(ValueError, match="layer widths"):
        mlp((4,), 2, hidden=hidden, dueling=dueling)


def test_indices_are_the_product_with_the_binary_vector() -> None:
    """Two ones, one, and none of five: the rows' sum plus the bias; the row of nothing never moves."""
    torch.manual_seed(0)
    layer = OneHotLinear(5, 4)
    dense = torch.tensor([[0, 1.0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    index = torch.tensor([[1, 3], [2, 5], [5, 5]])
    assert torch.allclose(layer(index), dense @ layer.weight[:5] + layer.bias, atol=1e-6)
    layer(index).square().sum().backward()
    assert layer.weight.grad[5].tolist() == [0.0] * 4


def test_index_inputs_have_one_lookup() -> None:
    body = MLP((1,), [8, 8], categories=9)
    assert [type(m) for m in body if hasattr(m, "weight")] == [OneHotLinear, nn.Linear]

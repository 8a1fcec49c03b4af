"""Networks are pure functions of one flat vector."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from bayesrl.networks import cnn, mlp, recurrent, residual
from bayesrl.networks.layers import GRU, MLP, Dueling, OneHotLinear
from bayesrl.networks.network import Network
from bayesrl.rl.observation_windows import window


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
    """Two ReLU layers leave two one-hot inputs a correlation of 0.494 (arc-cosine kernel, Cho & Saul, 2009).

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


# --- layout --------------------------------------------------------------------------------------------------------

# name, then for each run of weights: how many, fan-in, whether gains, and the units that they multiply (None: -1).
LAYOUTS = {
    "mlp": (
        lambda: mlp((2,), 3, hidden=[4]),
        [("1", [(8, 2, False, (0, 1)), (4, 1, False, None)]), ("head", [(12, 4, False, (2, 5)), (3, 1, False, None)])],
    ),
    "LayerNorm": (
        lambda: mlp((2,), 1, hidden=[3], normalize=True),
        [
            ("1", [(6, 2, False, (0, 1)), (3, 1, False, None)]),
            ("2", [(3, 1, True, None), (3, 1, False, None)]),
            ("head", [(3, 3, False, (2, 4)), (1, 1, False, None)]),
        ],
    ),
    "indices, their row of nothing too": (
        lambda: mlp((1,), 2, categories=3, hidden=[5]),
        [("1", [(20, 1, False, (0, 3)), (5, 1, False, None)]), ("head", [(10, 5, False, (4, 8)), (2, 1, False, None)])],
    ),
    "two numbers for each of a value and three advantages": (
        lambda: mlp((2,), 3, size=2, hidden=[3, 4], dueling=True),
        [
            ("body.1", [(6, 2, False, (0, 1)), (3, 1, False, None)]),
            ("streams.0", [(24, 3, False, (2, 4)), (8, 1, False, None)]),
            ("head", [(64, 8, False, (5, 12)), (8, 1, False, None)]),
        ],
    ),
    "convolution": (
        lambda: cnn((4, 4, 2), 1, convolutions=[[3, 2, 2, 0]], hidden=[5]),
        [
            ("0", [(24, 8, False, (0, 1)), (3, 1, False, None)]),
            ("3", [(60, 12, False, (2, 13)), (5, 1, False, None)]),
            ("head", [(5, 5, False, (14, 18)), (1, 1, False, None)]),
        ],
    ),
    "residual": (
        lambda: residual((2,), 1, width=3, blocks=1, expansion=2),
        [
            ("1", [(6, 2, False, (0, 1)), (3, 1, False, None)]),
            ("2.layers.0", [(3, 1, True, None), (3, 1, False, None)]),
            ("2.layers.1", [(18, 3, False, (2, 4)), (6, 1, False, None)]),
            ("2.layers.3", [(18, 6, False, (5, 10)), (3, 1, False, None)]),
            ("3", [(3, 1, True, None), (3, 1, False, None)]),
            ("head", [(3, 3, False, (11, 13)), (1, 1, False, None)]),
        ],
    ),
    "recurrent, its flag no feature": (
        lambda: recurrent((2,), 1, history=3, units=2, hidden=[4], cell=GRU),
        [
            ("encoder.1", [(8, 2, False, (0, 1)), (4, 1, False, None)]),
            ("cell.input", [(24, 4, False, (2, 5)), (6, 1, False, None)]),
            ("cell.state", [(12, 2, False, (6, 7)), (6, 1, False, None)]),
            ("readout.0", [(6, 1, True, None), (6, 1, False, None)]),
            ("readout.1", [(24, 6, False, (8, 13)), (4, 1, False, None)]),
            ("head", [(4, 4, False, (14, 17)), (1, 1, False, None)]),
        ],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_by_hand(name: str) -> None:
    make, layers = LAYOUTS[name]
    network = make()
    layout, at = network.layout, 0
    assert layout.names == [layer for layer, _ in layers] and layout.layers == len(layers)
    for number, (_, runs) in enumerate(layers):
        for count, fan_in, gain, units in runs:
            part = slice(at, at + count)
            assert (layout.layer[part] == number).all() and (layout.fan_in[part] == fan_in).all()
            assert (layout.gain[part] == gain).all()
            first, last = units or (-1, -1)
            assert sorted(set(layout.unit[part].tolist())) == list(range(first, last + 1))
            assert torch.equal(layout.feature[part], layout.unit[part] if number == 0 else torch.full((count,), -1))
            at += count
    assert at == network.size and layout.units == layers[-1][1][0][3][1] + 1


def test_weights_multiply_the_unit_that_layout_says() -> None:
    """In order: a dense matrix by columns, a kernel by channels, a table of indices by rows."""
    assert mlp((2,), 1, hidden=[3]).layout.unit[:6].tolist() == [0, 1, 0, 1, 0, 1]
    assert cnn((4, 4, 2), 1, convolutions=[[1, 2, 2, 0]]).layout.unit[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert mlp((1,), 1, categories=2, hidden=[2]).layout.unit[:6].tolist() == [0, 0, 1, 1, 2, 2]


def test_gains_are_where_the_fresh_weights_are_one() -> None:
    for network in (mlp((2,), 1, normalize=True), residual((2,), 1), recurrent((2,), 1)):
        assert (network.init()[network.layout.gain] == 1).all() and network.layout.gain.sum() > 0


# --- builders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "shape", "history"),
    [(residual((2,), 3), (2,), 1), (cnn((6, 5, 1), 3), (6, 5, 1), 1), (recurrent((2,), 3, history=5), (5, 3), 5)],
    ids=["residual", "cnn", "recurrent"],
)
def test_prior_functions_take_the_same_inputs(network: Network, shape: tuple[int, ...], history: int) -> None:
    prior, x = network.prior(7), torch.ones(4, *shape)
    assert network.history == prior.history == history
    assert network.one(network.init(), x).shape == (4, 3) and prior.one(prior.init_prior(), x).shape == (4, 7)


@pytest.mark.parametrize("build", [mlp, residual, recurrent])
def test_builders_take_indices_and_sizes(build: Callable) -> None:
    """Builders take the same arguments as `mlp`: indices of ones among 9, two numbers for each of three outputs."""
    network = build((2,), 3, categories=9, size=2)
    x = torch.randint(10, (4, 2))
    if build is recurrent:
        x = window(x[:, None].expand(-1, 24, -1), torch.ones(4, 24))
    assert network.one(network.init(), x).shape == (4, 6)


def test_a_recurrent_network_sees_images() -> None:
    network = recurrent((6, 5, 1), 3, history=4, convolutions=[[4, 3, 1, 1]], hidden=[8], units=8)
    assert network.layout.names[0] == "encoder.0"
    assert network(torch.stack([network.init() for _ in range(2)]), torch.ones(3, 4, 31)).shape == (2, 3, 3)

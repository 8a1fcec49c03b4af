"""Bodies against torch's own layers, and the second moment of random features."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bayesrl.networks import cnn, mlp, recurrent, residual
from bayesrl.networks.layers import CNN, GRU, MLP, MinGRU, Recurrent, ResidualMLP, Streams, chrono_bias, init_prior_
from bayesrl.networks.network import Network

CONVOLUTIONS = [[8, 3, 1, 1], [6, 3, 2, 0]]


def flags(B: int, W: int, real: int) -> Tensor:
    """[B, W, 1]: the last `real` steps are the episode's."""
    return (torch.arange(W) >= W - real).float().expand(B, W)[..., None]


# --- recurrent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [1, 4, 9])
def test_gru_is_torchs_from_the_first_real_step(real: int) -> None:
    """With `chrono_bias` added to its update gates' biases; single precision sums in another order: 1e-6."""
    torch.manual_seed(0)
    cell, torchs = GRU(5, 7), nn.GRU(5, 7, batch_first=True)
    with torch.no_grad():
        for name, p in (("ih", cell.input), ("hh", cell.state)):
            getattr(torchs, f"weight_{name}_l0").copy_(p.weight)
            getattr(torchs, f"bias_{name}_l0").copy_(p.bias)
        torchs.bias_hh_l0[7:14] += chrono_bias(9, 7, torch.ones(1))
        x = torch.randn(11, 9, 5)
        out = cell(x, flags(11, 9, real))
        assert torch.allclose(out, torchs(x[:, 9 - real :])[1][0], atol=1e-6)


@pytest.mark.parametrize("real", [1, 4, 9])
def test_min_gru_is_its_recursion(real: int) -> None:
    torch.manual_seed(0)
    cell, x = MinGRU(5, 7), torch.randn(11, 9, 5)
    new, gate = cell.input(x).chunk(2, -1)
    u, h = torch.sigmoid(gate + chrono_bias(9, 7, x)), torch.zeros(11, 7)
    for t in range(9 - real, 9):
        h = u[:, t] * h + (1 - u[:, t]) * new[:, t].tanh()
    assert torch.allclose(cell(x, flags(11, 9, real)), h, atol=1e-6)


def test_units_forget_after_one_step_to_the_whole_window() -> None:
    """A gate of tau / (1 + tau) halves a state in about 0.7 tau steps; tau = 1, 2, 3, 4 of W = 5."""
    assert torch.allclose(chrono_bias(5, 4, torch.ones(1)).sigmoid(), torch.tensor([1 / 2, 2 / 3, 3 / 4, 4 / 5]))


@pytest.mark.parametrize("cell", [GRU, MinGRU])
@pytest.mark.parametrize("categories", [0, 9])
def test_what_fills_the_window_before_the_episode_changes_nothing(cell: Callable, categories: int) -> None:
    torch.manual_seed(0)
    network = recurrent((2,), 3, categories, history=6, units=8, hidden=[8], cell=cell)
    numbers = torch.randint(9, (4, 6, 2)) if categories else torch.randn(4, 6, 2)
    other = torch.randint(9, (4, 6, 2)) if categories else 10 * torch.randn(4, 6, 2)
    real = flags(4, 6, 2).to(numbers.dtype)
    theta = torch.stack([network.init() for _ in range(3)])
    window, spoiled = (torch.cat([real, torch.where(real > 0, numbers, fill)], -1) for fill in (0 * other, other))
    assert torch.equal(network(theta, window), network(theta, spoiled))
    changed = torch.cat([real, torch.where(flags(4, 6, 2) - flags(4, 6, 1) > 0, other, numbers)], -1)
    assert not torch.allclose(network(theta, window), network(theta, changed), atol=1e-3), "it remembers nothing"


def test_other_inputs_than_windows_are_refused() -> None:
    network = recurrent((2,), 3, history=6, units=8, hidden=[8])
    with pytest.raises(ValueError, match=r"got inputs \[4, 2\], wanted windows \['B', 6, 3\] .*: ask an agent"):
        network.one(network.init(), torch.randn(4, 2))


# --- feed-forward --------------------------------------------------------------------------------------------------


def test_cnn_is_convolutions_on_channels_first() -> None:
    torch.manual_seed(0)
    body, x = CNN((7, 6, 2), CONVOLUTIONS, [5]), torch.randn(4, 7, 6, 2)
    (w1, b1), (w2, b2), (w3, b3) = ((m.weight, m.bias) for m in body if hasattr(m, "weight"))
    out = nn.functional.conv2d(x.permute(0, 3, 1, 2), w1, b1, padding=1).relu()
    out = nn.functional.conv2d(out, w2, b2, stride=2).relu().flatten(1)
    assert torch.allclose(body(x), (out @ w3.T + b3).relu(), atol=1e-6)


def test_the_network_of_atari() -> None:
    """84 x 84 x 4 gives 64 maps of 7 x 7, 3,136 numbers, and 1,684,128 weights before the head (Mnih et al., 2015)."""
    network = cnn((84, 84, 4), 6, convolutions=[[32, 8, 4, 0], [64, 4, 2, 0], [64, 3, 1, 0]], hidden=[512])
    assert network.body_size == 4 * 64 * 32 + 32 + 32 * 16 * 64 + 64 + 64 * 9 * 64 + 64 + 3136 * 512 + 512 == 1_684_128


def test_residual_blocks_by_hand() -> None:
    torch.manual_seed(0)
    body, x = ResidualMLP((3,), width=4, blocks=1, expansion=2), torch.randn(5, 3)
    first, norm, inner, outer, _ = (m for m in body.modules() if hasattr(m, "weight"))
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    h = x @ first.weight.T + first.bias
    centered = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * norm.weight
    h = h + (centered @ inner.weight.T + inner.bias).relu() @ outer.weight.T + outer.bias
    expected = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert inner.weight.shape == (8, 4)
    assert torch.allclose(body(x), expected, atol=1e-5)


def test_normalized_layers_do_not_see_the_size_of_their_input() -> None:
    """Without biases x and 3 x give the same features, up to LayerNorm's 1e-5 in the variance."""
    torch.manual_seed(0)
    body = MLP((3,), [16, 8], normalize=True)
    with torch.no_grad():
        for layer in (m for m in body if isinstance(m, nn.Linear)):
            layer.weight.mul_(10)
            layer.bias.zero_()
        x = torch.randn(5, 3)
        assert torch.allclose(body(x), body(3 * x), atol=1e-3)
        assert body(x).abs().max() > 1


BODIES = {
    "mlp": lambda: MLP((4,), [16, 8]),
    "normalized": lambda: MLP((4,), [16, 8], normalize=True),
    "residual": lambda: ResidualMLP((4,), 8, 2),
    "cnn": lambda: CNN((6, 5, 2), CONVOLUTIONS, [8]),
    "gru": lambda: Recurrent(MLP((4,), [8]), GRU(8, 6), 6, (4,), 8, 5),
    "min_gru": lambda: Recurrent(CNN((6, 5, 2), CONVOLUTIONS, [8]), MinGRU(8, 6), 6, (6, 5, 2), 8, 5),
}
INPUTS = {"cnn": (6, 5, 2), "gru": (5, 5), "min_gru": (5, 61)}


@pytest.mark.parametrize("name", BODIES)
def test_batched_over_weights_is_one_after_another(name: str) -> None:
    torch.manual_seed(0)
    bodies = [BODIES[name]() for _ in range(3)]
    weights = {k: torch.stack([dict(b.named_parameters())[k] for b in bodies]) for k, _ in bodies[0].named_parameters()}
    x = torch.randn(7, *INPUTS.get(name, (4,)))
    every = vmap(lambda w: functional_call(bodies[0], w, (x,)))(weights)
    assert every.shape == (3, 7, 8)
    assert torch.allclose(every, torch.stack([body(x) for body in bodies]), atol=1e-5)


# --- random features -----------------------------------------------------------------------------------------------


def moments(network: Network, x: Tensor) -> tuple[float, float]:
    """Second moments of features and outputs, over 150 random functions and the inputs."""
    weights = torch.stack([network.init_prior() for _ in range(150)])
    features = torch.stack([network.features(w, x) for w in weights])
    return features.square().mean().item(), vmap(network.head)(weights, features).square().mean().item()


@pytest.mark.parametrize(
    ("network", "shape", "rectified"),
    [
        (mlp((4,), 10, hidden=[32, 32]), (4,), True),
        (mlp((4,), 10, hidden=[32, 32], normalize=True), (4,), True),
        (mlp((4,), 10, hidden=[32, 32], dueling=True), (4,), True),
        (residual((4,), 10, width=32), (4,), False),
        (cnn((7, 7, 3), 10, convolutions=[[16, 3, 1, 0], [16, 3, 2, 0]], hidden=[32]), (7, 7, 3), True),
    ],
    ids=["mlp", "normalized", "dueling", "residual", "cnn"],
)
def test_prior_functions_have_unit_second_moment(network: Network, shape: tuple[int, ...], rectified: bool) -> None:
    """Over 150 functions and 20 standardized inputs, features 1, or 1/2 after a ReLU, and outputs 1: within 15 %.

    A standard error is 4 % (1,500 outputs, alike over inputs). A dueling head adds a value to an advantage, less the
    mean of ten of them: 1 + 9/10.
    """
    torch.manual_seed(0)
    features, outputs = moments(network, torch.randn(20, *shape))
    assert features == pytest.approx(0.5 if rectified else 1.0, rel=0.15)
    assert outputs == pytest.approx(1.0 if network.head_outputs == 10 else 1.9, rel=0.2)


@pytest.mark.parametrize("cell", [GRU, MinGRU])
@pytest.mark.parametrize("real", [1, 8])
def test_recurrent_prior_functions_have_unit_second_moment(cell: Callable, real: int) -> None:
    """At an episode's first step and with the window full, as LayerNorm sees to: within 15 %."""
    torch.manual_seed(0)
    network = recurrent((4,), 10, history=8, units=16, hidden=[32], cell=cell)
    features, outputs = moments(network, torch.cat([flags(20, 8, real), torch.randn(20, 8, 4)], -1))
    assert features == pytest.approx(0.5, rel=0.15)
    assert outputs == pytest.approx(1.0, rel=0.15)


def test_random_features_are_fresh_everywhere() -> None:
    """Every matrix is drawn anew; biases are zero but for the first layer's; gains of LayerNorm are 1."""
    torch.manual_seed(0)
    for make in BODIES.values():
        body = Streams(make(), 4)
        before = {name: p.detach().clone() for name, p in body.named_parameters()}
        init_prior_(body)
        biases = [p for name, p in body.named_parameters() if name.endswith("bias")]
        assert biases[0].abs().min() > 0 and all(p.abs().max() == 0 for p in biases[1:])
        for name, p in body.named_parameters():
            if name.endswith("weight"):
                assert (p != before[name]).any() if p.dim() > 1 else (p == 1).all(), name


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: cnn((4,), 2), r"got observations of shape \[4\], wanted an image \[H, W, C\]: use network=mlp"),
        (lambda: cnn((2, 84, 84), 2, convolutions=[[8, 5, 1, 0]]), r"channels last.* sides that hold"),
        (lambda: cnn((8, 8, 1), 2, convolutions=[[8, 3]]), r"wanted \[channels, kernel, stride, padding\]"),
        (lambda: cnn((8, 8, 1), 2, hidden=[]), "layer widths"),
        (lambda: residual((4,), 2, blocks=0), "wanted 1 or more of each"),
        (lambda: recurrent((4,), 2, history=1), "wanted 2 or more observations: use network=mlp"),
        (lambda: recurrent((4,), 2, units=0), "got units=0, wanted 1 or more"),
        (lambda: recurrent((4,), 2, hidden=[]), "layer widths"),
    ],
)
def test_networks_that_do_not_fit_are_refused(make: Callable, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

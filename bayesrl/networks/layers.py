"""Network bodies: `torch.nn` modules that map an observation to features.

A body has the attribute `features`, the width D of its output; `rectified = False` if its features have not passed a
ReLU; and `history = W` if an input is a window of W observations. Its layers are modules, including activations, in the
order of evaluation, and have the method `reset_parameters`, with which `Network.init` draws initial weights.

Shapes: B batch, D features, W window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class OneHotLinear(nn.Module):
    """A linear layer on binary vectors, which are passed as the indices of their ones: [B, k] -> [B, units].

    It sums k rows of its matrix instead of computing a matrix product. The index `categories` selects zeros.
    Weights start from N(0, std^2): with the usual scale 1/sqrt(width) the bias would outweigh a single row.

    Arguments:
        categories: length of the binary vector.
        units: width of the output.
        std: initial standard deviation of a weight.
    """

    def __init__(self, categories: int, units: int, std: float = 0.1) -> None:
        super().__init__()
        self.categories, self.std = categories, std
        self.weight = nn.Parameter(torch.empty(categories + 1, units))
        self.bias = nn.Parameter(torch.empty(units))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.weight[self.categories] = 0

    def init_prior_(self) -> None:
        nn.init.normal_(self.weight[:-1])

    def forward(self, x: Tensor) -> Tensor:
        rows = nn.functional.embedding(x, self.weight, padding_idx=self.categories)
        return (rows * (x != self.categories)[..., None]).sum(
            -2
        ) + self.bias  # masked, because a sampled row is not zero


class MLP(nn.Sequential):
    """A multilayer perceptron with an activation after every layer: [B, *] -> [B, hidden[-1]].

    Arguments:
        shape: shape of one input.
        hidden: layer widths.
        categories: length of the binary vector, where inputs are the indices of its ones; else 0.
        normalize: whether LayerNorm precedes every activation (Ba et al., 2016).
        activation: such as `nn.ReLU`, or the smooth `nn.SiLU`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden: Sequence[int],
        categories: int = 0,
        normalize: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        _check_widths(hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for width, units in pairwise([0, *hidden]):
            layers += [nn.Linear(width, units) if width else _first(shape, units, categories)]
            layers += [nn.LayerNorm(units), activation()] if normalize else [activation()]
        super().__init__(*layers)
        self.features = hidden[-1]


class ResidualMLP(nn.Sequential):
    """Residual blocks x + W_2 relu(W_1 LayerNorm(x)) between a linear layer and a LayerNorm: [B, *] -> [B, width].

    Q-learning with it is stable at widths and update rates at which an MLP diverges (Lee et al., SimBa, 2025).

    Arguments:
        shape: shape of one input.
        width: D.
        blocks: number of residual blocks.
        expansion: width inside a block, in units of D.
        categories: length of the binary vector, where inputs are the indices of its ones; else 0.
    """

    rectified = False

    def __init__(
        self, shape: Sequence[int], width: int = 128, blocks: int = 2, expansion: int = 4, categories: int = 0
    ) -> None:
        if min(width, blocks, expansion) < 1:
            raise ValueError(f"got width={width}, blocks={blocks}, expansion={expansion}, wanted 1 or more of each")
        inside = [_Residual(width, expansion * width) for _ in range(blocks)]
        super().__init__(nn.Flatten(), _first(shape, width, categories), *inside, nn.LayerNorm(width))
        self.features = width


class _Residual(nn.Module):
    """A residual block: [B, width] -> [B, width]."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class CNN(nn.Sequential):
    """Convolutions and a multilayer perceptron, with a ReLU after every layer: [B, *shape] -> [B, hidden[-1]].

    Arguments:
        shape: shape of one image, [height, width, channels].
        convolutions: channels, kernel, stride and padding of each.
        hidden: widths of the dense layers.
    """

    def __init__(self, shape: Sequence[int], convolutions: Sequence[Sequence[int]], hidden: Sequence[int]) -> None:
        _check_widths(hidden)
        if len(shape) != 3:
            raise ValueError(f"got observations of shape {list(shape)}, wanted an image [H, W, C]: use network=mlp")
        if not convolutions or any(len(c) != 4 or min(c[:3]) < 1 or c[3] < 0 for c in convolutions):
            raise ValueError(
                f"got convolutions={[list(c) for c in convolutions]}, wanted [channels, kernel, stride, padding] of "
                "one or more, such as [[16, 3, 1, 1]]"
            )
        *size, channels = shape
        layers: list[nn.Module] = []
        for units, kernel, stride, padding in convolutions:
            size = [(side + 2 * padding - kernel) // stride + 1 for side in size]
            if min(size) < 1:
                raise ValueError(
                    f"got images of shape {list(shape)}, channels last, wanted sides that hold the convolutions "
                    f"{[list(c) for c in convolutions]}: use network=cnn, or smaller kernels"
                )
            layers += [nn.Conv2d(channels, units, kernel, stride, padding), nn.ReLU()]
            channels = units
        super().__init__(*layers, *MLP((channels, *size), hidden))
        self.features = hidden[-1]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(-1, 1))


class GRU(nn.Module):
    """A gated recurrent unit over a window: inputs [B, W, D], flags [B, W, 1] -> the last state [B, units].

        r, u = sigmoid(A x + C h);   n = tanh(A' x + r * C' h);   h' = flag * (u * h + (1 - u) * n)

    (Cho et al., 2014.) It is `nn.GRU` in operations that can be batched over weights, with the same order of gates, and
    with `chrono_bias` added.

    Arguments:
        inputs: D.
        units: width of the state.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.input, self.state = nn.Linear(inputs, 3 * units), nn.Linear(units, 3 * units)

    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        W, units = x.shape[-2], self.state.in_features
        gates = self.input(x) + nn.functional.pad(chrono_bias(W, units, x), (units, units))
        h = x.new_zeros(x.shape[0], units)
        for t in range(W):
            state = self.state(h)
            r, u = torch.sigmoid(gates[:, t, : 2 * units] + state[:, : 2 * units]).chunk(2, -1)
            n = torch.tanh(gates[:, t, 2 * units :] + r * state[:, 2 * units :])
            h = flag[:, t] * (n + u * (h - n))
        return h


class MinGRU(nn.Module):
    """A gated unit with gates that depend on the input alone: [B, W, D], flags [B, W, 1] -> last state [B, units].

        n = tanh(A x);   u = sigmoid(A' x);   h' = u * h + (1 - u) * n   =>   h_W = sum_t (1 - u_t) n_t prod_{s > t} u_s

    All steps are computed in parallel, about twice as fast as in `GRU`, and the captured graph does not grow with W.
    (Feng et al., Were RNNs All We Needed?, 2024; with tanh: Bradbury et al., Quasi-Recurrent Neural Networks, 2017.)

    Arguments:
        inputs: D.
        units: width of the state.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 2 * units)

    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        new, gate = self.input(x).chunk(2, -1)
        gate = gate + chrono_bias(x.shape[-2], gate.shape[-1], x)
        log_u = nn.functional.logsigmoid(gate)
        log_product = log_u.flip(1).cumsum(1).flip(1) - log_u  # over all later steps
        return (flag * new.tanh() * torch.sigmoid(-gate) * log_product.exp()).sum(1)


def chrono_bias(W: int, units: int, like: Tensor) -> Tensor:
    """Return a bias of update gates, [units]: log(tau) with tau from 1 to W - 1, for memories of about tau steps.

    (Tallec & Ollivier, Can Recurrent Neural Networks Warp Time?, 2018, who initialize the learned bias with it.)
    """
    return torch.linspace(1, W - 1, units, device=like.device, dtype=like.dtype).log()


class Recurrent(nn.Module):
    """A gated cell over a window of observations: [B, W, 1 + prod(shape)] -> [B, width].

        e_t = encoder(obs_t);   h = cell(e_1, ..., e_W);   features = relu(linear(LayerNorm([h, e_W])))

    Each row of a window begins with a flag, 1 for an observation and 0 for padding before the episode's first one. The
    state is zero until the episode begins, so that padding has no effect.

    Arguments:
        encoder: a body for one observation.
        cell: maps inputs [B, W, encoder.features] and flags [B, W, 1] to a state [B, units].
        units: width of the state.
        shape: shape of one observation.
        width: D.
        history: W.
    """

    def __init__(
        self, encoder: nn.Module, cell: nn.Module, units: int, shape: Sequence[int], width: int, history: int
    ) -> None:
        super().__init__()
        if history < 2:
            raise ValueError(f"got history={history}, wanted 2 or more observations: use network=mlp for one")
        self.encoder, self.cell = encoder, cell
        both: int = units + encoder.features  # type: ignore[assignment, operator]
        self.readout = nn.Sequential(nn.LayerNorm(both), nn.Linear(both, width), nn.ReLU())
        self.shape, self.features, self.history = tuple(shape), width, history

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (wanted := (self.history, 1 + math.prod(self.shape))):
            raise ValueError(
                f"got inputs {list(x.shape)}, wanted windows {['B', *wanted]} of observations after their flags: "
                "ask an agent that keeps them, or use network=mlp"
            )
        encoded = self.encoder(x[..., 1:].reshape(-1, *self.shape)).unflatten(0, x.shape[:2])
        h = self.cell(encoded, x[..., :1].to(encoded.dtype))
        return self.readout(torch.cat([h, encoded[:, -1]], -1))


class Streams(nn.Module):
    """Value and advantage streams on one body, for a dueling head: [B, *] -> [B, 2 width].

    Arguments:
        body: the body that both share.
        width: D, the width of each stream; the value stream comes first.
    """

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.streams = nn.Sequential(nn.Linear(body.features, 2 * width), nn.ReLU())  # type: ignore[arg-type]
        self.features, self.history = 2 * width, getattr(body, "history", 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.streams(self.body(x))


class Dueling(nn.Module):
    """Combine V and advantages to Q = V + adv - mean(adv): [..., 1 + A] -> [..., A] (Wang et al., 2016).

    Arguments:
        size: adjacent numbers for each of them; inputs are [..., (1 + A) size].
    """

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = size

    def forward(self, out: Tensor) -> Tensor:
        value, advantage = out.unflatten(-1, (-1, self.size)).tensor_split([1], -2)
        return (value + advantage - advantage.mean(-2, keepdim=True)).flatten(-2)


def init_prior_(body: nn.Module) -> nn.Module:
    """Draw random-feature weights in place, with which standardized inputs give features of second moment 1.

    Features that have passed a ReLU have a second moment of 1/2. After a ReLU, weights are drawn from N(0, 2 / fan_in)
    (He et al., 2015), otherwise from N(0, 1 / fan_in), and biases are zero. The first layer's weights and biases are
    drawn from N(0, 1 / (fan_in + 1)). A layer may define its own `init_prior_`. Residual blocks add second moments.
    """
    first, rectified = True, False
    for module in body.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if isinstance(module, nn.ReLU | nn.LayerNorm):
            rectified = isinstance(module, nn.ReLU)
        elif callable(own := getattr(module, "init_prior_", None)):
            with torch.no_grad():
                own()
            first = rectified = False
        elif isinstance(weight, Tensor) and weight.dim() > 1:
            fan_in = weight[0].numel()
            std = ((2 if rectified else 1) / (fan_in + first)) ** 0.5
            nn.init.normal_(weight, std=std)
            if isinstance(bias, Tensor):
                nn.init.normal_(bias, std=std) if first else nn.init.zeros_(bias)
            first = rectified = False
    return body


def _first(shape: Sequence[int], units: int, categories: int) -> nn.Module:
    """Return the layer on the observation: on [B, prod(shape)] numbers, or on indices [B, k]."""
    return OneHotLinear(categories, units) if categories else nn.Linear(math.prod(shape), units)


def _check_widths(hidden: Sequence[int]) -> None:
    if not hidden or min(hidden) < 1:
        raise ValueError(f"got hidden={list(hidden)}, wanted one or more positive layer widths, such as [128, 128]")

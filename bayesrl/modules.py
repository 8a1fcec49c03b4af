"""Network bodies: plain `torch.nn` modules from an observation to features.

A body may carry two facts the rest relies on: `features`, the width D of its output, and `reset_parameters` on its
layers, from which `Network.init` draws fresh weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class OneHotLinear(nn.Linear):
    """A first layer for sparse binary inputs, weights from N(0, std^2) whatever the input's width.

    The usual 1/sqrt(width) would scale a one-hot input of 400 entries by 1/20 and leave nothing but the bias.
    """

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        self.std = std
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)
        nn.init.zeros_(self.bias)


class MLP(nn.Sequential):
    """A multilayer perceptron: [B, *] -> [B, hidden[-1]], ReLU after every layer."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int], sparse: bool = False, std: float = 0.1) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"got hidden={list(hidden)}, wanted one or more positive layer widths, such as [128, 128]")
        width = math.prod(shape)
        layers: list[nn.Module] = [nn.Flatten()]
        for i, units in enumerate(hidden):
            layers += [OneHotLinear(width, units, std) if sparse and i == 0 else nn.Linear(width, units), nn.ReLU()]
            width = units
        super().__init__(*layers)
        self.features = width


class Streams(nn.Module):
    """Two streams on one body, for a dueling head: [B, *] -> [B, 2 width], value features before advantage features."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.streams = nn.Sequential(nn.Linear(body.features, 2 * width), nn.ReLU())  # type: ignore[arg-type]
        self.features = 2 * width

    def forward(self, x: Tensor) -> Tensor:
        return self.streams(self.body(x))


class Dueling(nn.Module):
    """Value and advantages to Q-values: [..., 1 + A] -> [..., A], Q = V + adv - mean(adv) (Wang et al., 2016)."""

    def forward(self, out: Tensor) -> Tensor:
        value, advantage = out[..., :1], out[..., 1:]
        return value + advantage - advantage.mean(-1, keepdim=True)


def init_prior_(body: nn.Module) -> nn.Module:
    """Fresh random-feature weights in place, so that standardised inputs give outputs of second moment 2 or less.

    Weights are drawn from N(0, 2 / fan_in) (He et al., 2015) without bias; the first layer, which sees no ReLU before
    it, from N(0, 1 / (fan_in + 1)) with the bias as one more input, or N(0, 1) for one-hot inputs.
    """
    first = True
    for module in body.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            continue
        bias = getattr(module, "bias", None)
        fan_in = weight[0].numel()
        sparse = isinstance(module, OneHotLinear)
        std = (1.0 if sparse else (fan_in + 1) ** -0.5) if first else (2 / fan_in) ** 0.5
        nn.init.normal_(weight, std=std)
        if isinstance(bias, Tensor):
            nn.init.normal_(bias, std=std) if first and not sparse else nn.init.zeros_(bias)
        first = False
    return body

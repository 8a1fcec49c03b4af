"""Network bodies: plain `torch.nn` modules from an observation to features.

A body may carry two facts the rest relies on: `features`, the width D of its output, and `reset_parameters` on its
layers, from which `Network.init` draws fresh weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class OneHotLinear(nn.Module):
    """A linear layer on binary vectors of `categories` entries, given as indices of their ones: [B, k] -> [B, units].

    Costs k rows instead of a product with the whole matrix. The index `categories` points to a row of zeros that
    stays zero. Weights start from N(0, std^2): the usual 1/sqrt(width) would leave nothing of a one-hot but the bias.
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

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.embedding(x, self.weight, padding_idx=self.categories).sum(-2) + self.bias


class MLP(nn.Sequential):
    """A multilayer perceptron: [B, *] -> [B, hidden[-1]], ReLU after every layer.

    Arguments:
        shape: of one input.
        hidden: layer widths.
        categories: where inputs are indices of ones, the length of the binary vector they point into.
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[int], categories: int = 0) -> None:
        if not hidden or min(hidden) < 1:
            raise ValueError(f"got hidden={list(hidden)}, wanted one or more positive layer widths, such as [128, 128]")
        first = OneHotLinear(categories, hidden[0]) if categories else nn.Linear(math.prod(shape), hidden[0])
        layers: list[nn.Module] = [nn.Flatten(), first, nn.ReLU()]
        for width, units in pairwise(hidden):
            layers += [nn.Linear(width, units), nn.ReLU()]
        super().__init__(*layers)
        self.features = hidden[-1]


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
    """Value and advantages to Q-values: [..., 1 + A] -> [..., A], Q = V + adv - mean(adv) (Wang et al., 2016).

    Arguments:
        size: numbers for each of them, side by side.
    """

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = size

    def forward(self, out: Tensor) -> Tensor:
        value, advantage = out.unflatten(-1, (-1, self.size)).tensor_split([1], -2)
        return (value + advantage - advantage.mean(-2, keepdim=True)).flatten(-2)


def init_prior_(body: nn.Module) -> nn.Module:
    """Fresh random-feature weights in place, so that standardised inputs give outputs of second moment 2 or less.

    Weights are drawn from N(0, 2 / fan_in) (He et al., 2015) without bias; the first layer, which sees no ReLU before
    it, from N(0, 1 / (fan_in + 1)) with the bias as one more input, or N(0, 1) for one-hot inputs.
    """
    first = True
    for module in body.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
        if isinstance(module, OneHotLinear):
            with torch.no_grad():
                module.weight[:-1].normal_()
            first = False
            continue
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            continue
        fan_in = weight[0].numel()
        std = (fan_in + 1) ** -0.5 if first else (2 / fan_in) ** 0.5
        nn.init.normal_(weight, std=std)
        if isinstance(bias, Tensor):
            nn.init.normal_(bias, std=std) if first else nn.init.zeros_(bias)
        first = False
    return body

"""A network as a pure function of one flat weight vector and a batch.

A `torch.nn` module defines the computation, and `functional_call` makes its weights an argument, so that a posterior
can treat them as one random variable. Shapes: n draws, B batch, E environments, A outputs, P weights, D features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bayesrl.networks.layers import Dueling, OneHotLinear, init_prior_


class WeightLayout(NamedTuple):
    """Position of each of the P weights in the network.

    Attributes:
        layer: number of the weight's layer, the head last, [P] int64.
        fan_in: number of inputs that the layer sums, 1 for biases and gains, [P].
        unit: number of the layer input that the weight multiplies, counted over all layers, -1 for biases and gains,
            [P] int64.
        feature: number of the observation feature that the weight multiplies (for images the channel, for indices the
            category), -1 outside the first layer, [P] int64.
        gain: whether the weight is the gain of a normalization, [P] bool.
        names: names of the layers.
        units: total number of layer inputs.
    """

    layer: Tensor
    fan_in: Tensor
    unit: Tensor
    feature: Tensor
    gain: Tensor
    names: list[str]
    units: int

    @property
    def layers(self) -> int:
        """Number of layers, including the head."""
        return len(self.names)


class Network:
    """f(theta, x): a body to D features, one linear head, and an optional fixed combination of the head's outputs.

    The weight vector is theta = [body weights | head weights]; the head's weights are its [outputs, D] matrix and then
    its bias. A network holds no trained weights: its module is a prototype for shapes and for initial weights.

    Arguments:
        body: a module [B, *] -> [B, D] with an attribute `features` = D and without buffers that change (no BatchNorm).
        outputs: A, the length of the network's output for one input.
        dueling: whether the head predicts a value and A advantages, which are combined to A outputs.
        prior: the body of frozen prior functions; by default the same body.
        size: numbers for each output, where a likelihood takes more than one; the network returns [A * size].

    Attributes:
        history: W, the number of observations in an input; a window [B, W, *] if greater than 1.
    """

    def __init__(
        self, body: nn.Module, outputs: int, dueling: bool = False, prior: nn.Module | None = None, size: int = 1
    ) -> None:
        if next((m for m in body.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)), None) is not None:
            raise ValueError("got a body with BatchNorm, wanted a pure function of its weights: use nn.LayerNorm")
        self.outputs = outputs * size
        self.features_out: int = body.features  # type: ignore[assignment]
        self.history: int = getattr(body, "history", 1)
        self.head_outputs = (outputs + 1 if dueling else outputs) * size
        self.combine = Dueling(size) if dueling else nn.Identity()
        self._prior_body = body if prior is None else prior
        self._body = copy.deepcopy(body).requires_grad_(False)
        self._shapes = [(name, p.shape) for name, p in self._body.named_parameters()]
        self._sizes = [math.prod(shape) for _, shape in self._shapes]
        self.body_size = sum(self._sizes)
        self._head_sizes = [self.head_outputs * self.features_out, self.head_outputs]
        self.head_size = sum(self._head_sizes)
        self.size = self.body_size + self.head_size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size:,} weights, {self.features_out} features, {self.outputs} outputs)"

    def prior(self, outputs: int) -> Network:
        """Return the network of a frozen prior function; its weights come from `init_prior`."""
        return Network(self._prior_body, outputs)

    @cached_property
    def layout(self) -> WeightLayout:
        """Position of each weight, for priors by layer, masks by unit and relevance by feature."""
        head = nn.Linear(self.features_out, self.head_outputs, device="meta")
        modules = [(n, m) for n, m in self._body.named_modules() if [*m.parameters(recurse=False)]]
        columns: list[list[Tensor]] = []
        units = 0
        for number, (_, module) in enumerate([*modules, ("head", head)]):
            sums = isinstance(module, nn.Linear | nn.Conv2d | OneHotLinear)
            for name, p in module.named_parameters(recurse=False):
                fan_in, unit, gain = 1, torch.full(p.shape, -1), name == "weight" and not sums
                if name == "weight" and isinstance(module, OneHotLinear):
                    unit = torch.arange(len(p))[:, None].expand_as(p)  # one of k rows is looked up: fan-in 1
                elif name == "weight" and sums:
                    fan_in = p[0].numel()
                    unit = torch.arange(p.shape[1]).view(1, -1, *(1 for _ in p.shape[2:])).expand(p.shape)
                used = int(unit.max()) + 1
                feature = unit if number == 0 else torch.full(p.shape, -1)
                numbers = (torch.full(p.shape, number), torch.full(p.shape, float(fan_in)))
                shifted = torch.where(unit >= 0, unit + units, -1)
                columns.append([t.flatten() for t in (*numbers, shifted, feature, torch.full(p.shape, gain))])
                units += used
        joined = [torch.cat(parts) for parts in zip(*columns, strict=True)]
        return WeightLayout._make([*joined, [name for name, _ in modules] + ["head"], units])

    def init(self) -> Tensor:
        """Draw initial weights with the layers' own initialization, [P]."""
        body = copy.deepcopy(self._body)
        for module in body.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        head = nn.Linear(self.features_out, self.head_outputs)
        return self._flat(body, head.weight, head.bias)

    def init_prior(self) -> Tensor:
        """Draw the weights of a random function whose outputs have unit variance over standardized inputs, [P]."""
        body = init_prior_(copy.deepcopy(self._body))
        square = 0.5 if getattr(body, "rectified", True) else 1.0  # second moment of a feature
        weight = torch.randn(self.head_outputs, self.features_out) / (square * self.features_out) ** 0.5
        return self._flat(body, weight, torch.zeros(self.head_outputs))

    def _flat(self, body: nn.Module, *head: Tensor) -> Tensor:
        return torch.cat([p.detach().flatten() for p in (*body.parameters(), *head)])

    def features(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate the body: theta [P] or [body_size], x [B, *] -> [B, D]."""
        return self._features(theta[: self.body_size].split(self._sizes), x)

    def head(self, theta: Tensor, phi: Tensor) -> Tensor:
        """Evaluate the linear head and the combination: theta [P], phi [B, D] -> [B, A]."""
        weight, bias = theta[self.body_size :].split(self._head_sizes)
        return self._head(weight, bias, phi)

    def one(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate one function on a batch: theta [P], x [B, *] -> [B, A]."""
        # A single split of theta, so that its gradient is a single concatenation.
        *body, weight, bias = theta.split([*self._sizes, *self._head_sizes])
        return self._head(weight, bias, self._features(body, x))

    def _features(self, parts: Sequence[Tensor], x: Tensor) -> Tensor:
        weights = {name: part.view(shape) for (name, shape), part in zip(self._shapes, parts, strict=True)}
        return functional_call(self._body, weights, (x,), tie_weights=False)

    def _head(self, weight: Tensor, bias: Tensor, phi: Tensor) -> Tensor:
        return self.combine(torch.addmm(bias, phi, weight.view(self.head_outputs, self.features_out).T))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate every function on every input: theta [n, P], x [B, *] -> [n, B, A]."""
        if len(theta) == 1:  # a matrix product is faster than a batch of one
            return self.one(theta[0], x)[None]
        return vmap(self.one, in_dims=(0, None))(theta, x)

    def each(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate function i on batch i: theta [n, P], x [n, B, *] -> [n, B, A]."""
        return vmap(self.one)(theta, x)

    def paired(self, theta: Tensor, x: Tensor) -> Tensor:
        """Evaluate function i on input i: theta [E, P], x [E, *] -> [E, A]."""
        return vmap(lambda t, row: self.one(t, row[None])[0])(theta, x)

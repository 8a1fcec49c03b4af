"""Priors over the weights of a network: independent Gaussians, with one class for each choice of their scales.

A prior belongs to one network and has a mean `loc` and a standard deviation `std()`, both [P]. The natural scale of a
weight falls with the fan-in of its layer: weights from N(0, 1) on 128 inputs give functions of size 11, not 1 (Neal,
Bayesian Learning for Neural Networks, 1996). Shapes: P weights, D features of an observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bayesrl.networks.network import Network


class Prior(nn.Module):
    """theta ~ Normal(loc, std^2), independent; loc is 1 for the gains of LayerNorm and 0 elsewhere.

    Arguments:
        network: the network whose P weights the prior is over.
        std: standard deviations, [P].
    """

    loc: Tensor
    base: Tensor

    def __init__(self, network: Network, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", network.layout.gain.to(std.dtype))
        self.register_buffer("base", std)

    def std(self) -> Tensor:
        """Return the standard deviations, [P]."""
        return self.base


class Isotropic(Prior):
    """A prior with one standard deviation for all weights.

    Arguments:
        network: the network whose P weights the prior is over.
        scale: standard deviation of a weight.
    """

    def __init__(self, network: Network, scale: float = 1.0) -> None:
        super().__init__(network, torch.full((network.size,), _scale(scale)))
        self.scale = scale

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


class FanIn(Prior):
    """A prior with variance gain^2 / fan_in, so that functions have the same size at every width.

    Biases and the gains of LayerNorm count as weights with a fan-in of 1. A dense layer maps inputs with the second
    moment q to outputs with the second moment gain^2 (q + 1), and a ReLU halves it: over standardized inputs and with
    gain 1 the second moment is 2 at every depth.

    Arguments:
        network: the network whose P weights the prior is over.
        gain: standard deviation at a fan-in of 1.
    """

    def __init__(self, network: Network, gain: float = 1.0) -> None:
        super().__init__(network, _scale(gain) * network.layout.fan_in.rsqrt())
        self.gain = gain

    def extra_repr(self) -> str:
        return f"gain={self.gain}"


class PerLayer(Prior):
    """A prior with variance scale^2 / fan_in, where each layer has its own scale.

    A normalization with weights of its own counts as a layer.

    Arguments:
        network: the network whose P weights the prior is over.
        scales: one for each layer, in the order of evaluation, the head last.
    """

    def __init__(self, network: Network, scales: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        layers = network.layout.layers
        if len(scales) != layers:
            raise ValueError(f"got {len(scales)} prior scales, wanted {layers}: one for each layer, the head last")
        chosen = torch.tensor([_scale(s) for s in scales])[network.layout.layer]
        super().__init__(network, chosen * network.layout.fan_in.rsqrt())
        self.scales = list(scales)

    def extra_repr(self) -> str:
        return f"scales={self.scales}"


class ARD(FanIn):
    """Automatic relevance determination: the scale of each observation feature's weights is learned (Neal, 1996).

    The log-scales are learned by type-II maximum likelihood, with the same objective as the posterior, so that a
    feature that explains nothing loses its weights together with their scale.

    Arguments:
        network: the network whose P weights the prior is over; its first layer must sum features.
        gain: initial standard deviation at a fan-in of 1.
    """

    feature: Tensor

    def __init__(self, network: Network, gain: float = 1.0) -> None:
        super().__init__(network, gain)
        feature = network.layout.feature
        if feature.max() < 0:
            raise ValueError(f"got a network that begins with {network.layout.names[0]!r}, wanted weights on features")
        self.register_buffer("feature", feature)
        self.log_relevance = nn.Parameter(torch.zeros(int(feature.max()) + 1))

    def std(self) -> Tensor:
        return self.base * torch.where(self.feature < 0, 1.0, self.log_relevance[self.feature.clamp(min=0)].exp())

    @property
    def relevance(self) -> Tensor:
        """Prior scale of each observation feature relative to its initial value, [D]."""
        return self.log_relevance.detach().exp()


def _scale(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"got a prior scale of {value}, wanted a positive number")
    return float(value)

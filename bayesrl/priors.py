"""Priors over the weights of a network: independent Gaussians, one object per way to choose their scales.

A prior is made for one network and gives `loc` and `std()`, both [P]. A weight's natural scale falls with the number of
inputs it is summed with: N(0, 1) weights on 128 inputs make functions of size 11, not 1 (Neal, Bayesian Learning for
Neural Networks, 1996).
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
        network: whose weights it is of.
    """

    loc: Tensor
    base: Tensor

    def __init__(self, network: Network, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("loc", network.layout.gain.to(std.dtype))
        self.register_buffer("base", std)

    def std(self) -> Tensor:
        """Standard deviations, [P]."""
        return self.base


class Isotropic(Prior):
    """Every weight of the same scale.

    Arguments:
        network: whose weights it is of.
        scale: standard deviation of a weight.
    """

    def __init__(self, network: Network, scale: float = 1.0) -> None:
        super().__init__(network, torch.full((network.size,), _scale(scale)))


class FanIn(Prior):
    """Variance gain^2 / fan_in, so that functions have the same size at every width.

    Biases, and gains of LayerNorm, count as weights of fan-in 1. A dense layer makes a second moment of gain^2 (q + 1)
    from inputs of second moment q, a ReLU halves it: over standardised inputs that is 2 at every depth for gain 1.

    Arguments:
        network: whose weights it is of.
        gain: standard deviation at fan-in 1.
    """

    def __init__(self, network: Network, gain: float = 1.0) -> None:
        super().__init__(network, _scale(gain) * network.layout.fan_in.rsqrt())


class PerLayer(Prior):
    """A scale for each layer, in the order of evaluation, the head last; variance scale^2 / fan_in inside a layer.

    Normalisations with weights of their own count as layers.

    Arguments:
        network: whose weights it is of.
        scales: one for each layer.
    """

    def __init__(self, network: Network, scales: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        layers = network.layout.layers
        if len(scales) != layers:
            raise ValueError(f"got {len(scales)} prior scales, wanted {layers}: one for each layer, the head last")
        chosen = torch.tensor([_scale(s) for s in scales])[network.layout.layer]
        super().__init__(network, chosen * network.layout.fan_in.rsqrt())


class ARD(FanIn):
    """Automatic relevance determination: the scale of each observation feature's weights is learned (Neal, 1996).

    Type-II maximum likelihood: the objective is optimised over the log-scales too, so that the weights of a feature
    that explains nothing are drawn to zero with their scale. Needs a first layer that sums features.

    Arguments:
        network: whose weights it is of.
        gain: standard deviation at fan-in 1, where learning starts.
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
        """Each observation feature's prior scale relative to its start, [features]."""
        return self.log_relevance.detach().exp()


def _scale(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"got a prior scale of {value}, wanted a positive number")
    return float(value)

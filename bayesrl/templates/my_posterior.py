"""MyPosterior: a distribution over the weights of one network."""

from functools import partial

import torch
from bayesrl.likelihoods import Gaussian
from bayesrl.optim import Adam
from bayesrl.posteriors import WeightSpace
from torch import nn


class MyPosterior(WeightSpace):
    """Weights theta + scale z with z ~ N(0, I): a Gaussian of a fixed width around a learned mean.

    A posterior defines `index` and `weights`: until the next update an index z always selects the same function.

    Arguments:
        network: f(theta, x), with P weights.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
        scale: standard deviation of every weight.
    """

    draws = 5  # number of draws that an update trains

    def __init__(self, network, likelihood=None, optimizer=None, scale=0.03):
        super().__init__()
        if scale < 0:
            raise ValueError(f"got scale={scale}, wanted 0 or more: give posterior.scale")
        self.network, self.likelihood, self.scale = network, likelihood or Gaussian(0.1), scale
        self.theta = nn.Parameter(network.init())
        self.optimizer = (optimizer or partial(Adam, lr=5e-4))(list(self.parameters()))

    def index(self, n, generator=None):
        """Draw n indices, [n, P]."""
        return torch.randn(n, len(self.theta), generator=generator, device=self.theta.device, dtype=self.theta.dtype)

    def weights(self, z):
        """Return the weights of each draw: [n, P] -> [n, P]."""
        return self.theta + self.scale * z

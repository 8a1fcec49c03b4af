"""`point`: a single function, the degenerate posterior; with temporal-difference targets it is DQN.

    minimize  mean_i weight_i (-log p(y_i | f_theta(x_i)))

(Mnih et al., Human-level control through deep reinforcement learning, 2015.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import WeightSpace


class Point(WeightSpace):
    """A point estimate of the weights; the index z is empty, [n, 0].

    Arguments:
        network: a network with A outputs.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    degenerate = True

    def __init__(
        self,
        network: Network,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        self.network, self.likelihood = network, likelihood
        self.theta = nn.Parameter(network.init())
        self.optimizer = optimizer(list(self.parameters()))

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.empty(n, 0, device=self.theta.device)

    # --- forward -----------------------------------------------------------------------------------------------

    def weights(self, z: Tensor) -> Tensor:
        return self.theta.expand(len(z), -1)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        out = self.network.one(self.theta, x)
        return out.expand(len(z), *out.shape)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network.one(self.theta, x)

    def center(self, x: Tensor) -> Tensor:
        return self.network.one(self.theta, x)

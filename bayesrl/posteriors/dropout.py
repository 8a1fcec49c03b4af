"""`dropout`, `concrete_dropout`: each draw drops random hidden units, the same ones whenever its index is used.

    z ~ Uniform(0, 1) for every hidden unit;   mask_u = 1[z_u < keep]
    weights of draw z:  theta * mask_u / keep          u: the unit that a weight multiplies
    minimize  mean over draws (-log p(y | f_z(x))) + T / size * KL
    KL ~ sum (theta - loc)^2 / (2 std^2 keep) - sum_u H(keep)        keep = 1 for weights of units that are not dropped

Dropping a unit sets its column of the next layer's weights to zero, so that one rule serves every network: a
convolution loses a channel, and a recurrent cell loses the same units at every step. Biases, gains and the weights on
the observation are never dropped. (Gal & Ghahramani, Dropout as a Bayesian Approximation, 2016; A Theoretically
Grounded Application of Dropout in Recurrent Neural Networks, 2016.) The KL is, up to a constant, that of a mixture of
narrow Gaussians at 0 and at theta / keep: the expected square of the draws' weights, which is weight decay, minus the
entropy H of the masks, a constant while `keep` is fixed. The family is small: away from the data the uncertainty is
limited by theta and `keep`, and does not return to the prior's.

`ConcreteDropout` learns `keep` for each layer by gradient descent: the step z < keep is relaxed to
sigmoid((logit(keep) - logit(z)) / temperature) (Gal, Hron & Kendall, Concrete Dropout, 2017), here with `softness` as
that temperature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.learner import WeightSpace
from bayesrl.posteriors.types import Batch
from bayesrl.priors import FanIn, Prior


class Dropout(WeightSpace):
    """One weight vector and random masks; the index z is uniform, [n, U] for U hidden units.

    Arguments:
        network: the network whose weights are random; A outputs.
        keep: probability that a hidden unit is not dropped; its initial value where it is learned.
        draws: n, the number of draws that an update trains.
        prior: maps the network to the prior over its weights.
        temperature: T, the factor of the KL.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
    """

    temperature: Tensor
    unit: Tensor
    layer: Tensor
    keep: Tensor

    def __init__(
        self,
        network: Network,
        keep: float = 0.9,
        draws: int = 20,
        prior: Callable[[Network], Prior] = FanIn,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__()
        if not 0 < keep < 1 or draws < 1 or temperature < 0:
            raise ValueError(
                f"got keep={keep}, draws={draws}, temperature={temperature}, wanted a probability in (0, 1), 1 draw or "
                "more and no negative temperature"
            )
        self.network, self.draws, self.likelihood, self.prior = network, draws, likelihood, prior(network)
        layout = network.layout
        hidden = (layout.unit >= 0) & (layout.feature < 0)
        units, number = layout.unit[hidden].unique(return_inverse=True)
        self.register_buffer("unit", torch.full((network.size,), len(units)).masked_scatter(hidden, number))
        self.register_buffer("layer", torch.zeros_like(units).scatter(0, number, layout.layer[hidden]))
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.degenerate = len(units) == 0
        self.theta = nn.Parameter(network.init())
        self.init_keep(keep, layout.layers)
        self.optimizer = optimizer(list(self.parameters()))

    def init_keep(self, keep: float, layers: int) -> None:
        """Create `keep`, [U], from the probability of all layers."""
        self.register_buffer("keep", torch.full(self.layer.shape, keep))

    def extra_repr(self) -> str:
        return f"{len(self.layer)} hidden units, keep={float(self.keep.detach().mean()):.3g}, prior={self.prior}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        shape = (n, len(self.layer))
        return torch.rand(shape, generator=generator, device=self.theta.device, dtype=self.theta.dtype)

    # --- forward -----------------------------------------------------------------------------------------------

    def mask(self, z: Tensor) -> Tensor:
        """Return the factor of each hidden unit, 0 if a draw drops it: z [n, U] -> [n, U]."""
        return (z < self.keep).to(z.dtype)

    def weights(self, z: Tensor) -> Tensor:
        scale = nn.functional.pad(self.mask(z) / self.keep, (0, 1), value=1.0)  # last: weights that are never dropped
        return self.theta * scale[:, self.unit]

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        nll, _ = super().loss(batch, z)
        kl = self.temperature * self.divergence() / batch.size
        return nll + kl, {"nll": nll, "kl": kl}

    def divergence(self) -> Tensor:
        """Return the KL up to a constant, in nats, 0-d."""
        std = self.prior.std()
        second = (self.theta - self.prior.loc).square() / nn.functional.pad(self.keep, (0, 1), value=1.0)[self.unit]
        entropy = torch.special.entr(self.keep) + torch.special.entr(1 - self.keep)
        return (second / (2 * std.square()) + std.log()).sum() - entropy.sum()


class ConcreteDropout(Dropout):
    """Dropout with a rate that is learned for each layer.

    Attributes:
        softness: temperature of the relaxed step.
    """

    softness = 0.1

    def init_keep(self, keep: float, layers: int) -> None:
        self.logit = nn.Parameter(torch.full((layers,), math.log(keep / (1 - keep))))

    @property
    def keep(self) -> Tensor:  # type: ignore[override]
        return self.logit.sigmoid()[self.layer]

    def mask(self, z: Tensor) -> Tensor:
        return ((self.logit[self.layer] - z.logit(torch.finfo(z.dtype).eps)) / self.softness).sigmoid()

"""`dropout`, `concrete_dropout`: hidden units that each draw leaves out at random, always the same ones for one index.

    z ~ Uniform(0, 1) for every hidden unit;   unit u is kept by draw z where z_u < keep
    weights of draw z:  theta * kept[u] / keep         u: the unit that a weight multiplies
    minimise  mean over draws (-log p(y | f_z(x))) + T / size * KL
    KL ~ sum (theta - loc)^2 / (2 std^2), over keep where a unit can be dropped,  - sum_u H(keep)

Leaving out a unit is to leave out its column of the next layer's weights, so that one rule serves every network: a
convolution loses a channel, a recurrent cell the same units at every step. Biases, gains and what multiplies the
observation itself are never left out. (Gal & Ghahramani, Dropout as a Bayesian Approximation, 2016; A Theoretically
Grounded Application of Dropout in Recurrent Neural Networks, 2016.) The KL is that of a mixture of narrow Gaussians,
one at 0 and one at theta / keep, from the prior, up to a constant: the expected square of the draws' weights, which is
weight decay, less the entropy H of the masks, a constant while `keep` is fixed. The family is narrow: where there is no
data, draws spread as far as theta and `keep` let them, not as far as the prior does.

`ConcreteDropout` learns `keep` for each layer by gradient descent: with the same uniform noise the step z < keep
becomes sigmoid((logit(keep) - logit(z)) / softness) (Gal, Hron & Kendall, Concrete Dropout, 2017).
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
    """One weight vector and random masks; index z is uniform, [n, U] for U hidden units.

    Arguments:
        network: body and head; A outputs.
        keep: probability that a draw keeps a hidden unit, where it is learned: at first.
        draws: n, taught at each update.
        prior: network -> prior over its weights.
        temperature: T, multiplies the KL.
        likelihood: output -> distribution of the target.
        optimizer: parameters -> torch optimiser.
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
        self.start(keep, layout.layers)
        self.optimizer = optimizer(list(self.parameters()))

    def start(self, keep: float, layers: int) -> None:
        """Make `keep`, [U], of a number."""
        self.register_buffer("keep", torch.full(self.layer.shape, keep))

    def extra_repr(self) -> str:
        return f"{len(self.layer)} hidden units, keep={float(self.keep.detach().mean()):.3g}, prior={self.prior}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        shape = (n, len(self.layer))
        return torch.rand(shape, generator=generator, device=self.theta.device, dtype=self.theta.dtype)

    # --- forward -----------------------------------------------------------------------------------------------

    def kept(self, z: Tensor) -> Tensor:
        """How much each draw keeps of each hidden unit: z [n, U] -> [n, U]."""
        return (z < self.keep).to(z.dtype)

    def weights(self, z: Tensor) -> Tensor:
        scale = nn.functional.pad(self.kept(z) / self.keep, (0, 1), value=1.0)  # the last: never left out
        return self.theta * scale[:, self.unit]

    # --- learn -------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        nll, _ = super().loss(batch, z)
        kl = self.temperature * self.divergence() / batch.size
        return nll + kl, {"nll": nll, "kl": kl}

    def divergence(self) -> Tensor:
        """The KL up to a constant, in nats, 0-d."""
        std = self.prior.std()
        second = (self.theta - self.prior.loc).square() / nn.functional.pad(self.keep, (0, 1), value=1.0)[self.unit]
        entropy = torch.special.entr(self.keep) + torch.special.entr(1 - self.keep)
        return (second / (2 * std.square()) + std.log()).sum() - entropy.sum()


class ConcreteDropout(Dropout):
    """Dropout whose rate is learned for each layer.

    Attributes:
        softness: of the relaxed step.
    """

    softness = 0.1

    def start(self, keep: float, layers: int) -> None:
        self.logit = nn.Parameter(torch.full((layers,), math.log(keep / (1 - keep))))

    @property
    def keep(self) -> Tensor:  # type: ignore[override]
        return self.logit.sigmoid()[self.layer]

    def kept(self, z: Tensor) -> Tensor:
        return ((self.logit[self.layer] - z.logit(torch.finfo(z.dtype).eps)) / self.softness).sigmoid()

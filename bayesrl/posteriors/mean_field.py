"""`mean_field`: an independent normal for every weight, fitted by the evidence lower bound ("Bayes by backprop").

    q(theta) = Normal(mu, diag(sigma^2)),   draw z: theta = mu + sigma z
    maximise  E_q sum_i log p(y_i | f_theta(x_i)) - T KL(q || Normal(loc, diag(std^2)))

(Blundell et al., Weight Uncertainty in Neural Networks, 2015.) Supervised, `fit` draws pre-activations instead of
weights, independently for every observation: the same objective with less noise in its gradient (Kingma, Salimans &
Welling, Variational Dropout and the Local Reparameterization Trick, 2015). `learn` never does, because there a draw is
one function.

Where a wide network has few data, the KL of its thousands of weights outweighs what they say, and the optimum is close
to the prior (Coker et al., Wide Mean-Field Bayesian Neural Networks Ignore the Data, 2022): then a narrower network,
`cover="head"`, or a temperature of .1 fits better.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors.svi import IndexedNormal, Variational
from bayesrl.posteriors.types import Batch
from bayesrl.priors import FanIn, Prior


class MeanField(Variational):
    """Independent normal weights; index z is their noise, [n, C].

    Arguments:
        network: body and head; A outputs.
        prior: network -> prior over its weights.
        draws: n, taught at each update.
        init_scale: where sigma starts, as a share of the prior's standard deviation, so that every layer's output
            starts with the same relative noise whatever its width.
        cover: the weights that are random: of the whole "network", or of its "head", the others a point estimate.
        temperature: T, multiplies the KL.
        likelihood: output -> distribution of the target.
        optimizer: parameters -> torch optimiser.
    """

    def __init__(
        self,
        network: Network,
        prior: Callable[[Network], Prior] = FanIn,
        draws: int = 1,
        init_scale: float = 0.1,
        cover: str = "network",
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
        optimizer: Callable = partial(Adam, lr=5e-4),
    ) -> None:
        super().__init__(network, prior, draws, cover, temperature, likelihood)
        self.log_sigma = nn.Parameter(self.initial(init_scale).log())
        self.optimizer = optimizer(list(self.parameters()))

    @property
    def width(self) -> int:
        return len(self.log_sigma)

    def q(self, z: Tensor) -> IndexedNormal:
        shape = (len(z), 1, self.width)
        mu, sigma = self.mu[self.first :], self.log_sigma.exp()
        return IndexedNormal(mu.expand(shape), sigma.expand(shape), z[:, None]).to_event(1)

    # --- learn -------------------------------------------------------------------------------------------------

    def fit_step(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """One update with pre-activations drawn anew for every draw and observation.

        With ordinary draws where a network uses a weight several times for one input, whose noise is then not
        independent: a recurrent cell does at every time step, a convolution at every position.
        """
        try:
            out = self.local(batch.x, len(z))
        except NotLocal:
            return self.learn(batch, z)
        return self.descend(*self.loss(batch, z, out))

    def local(self, x: Tensor, n: int) -> Tensor:
        """Outputs by local reparametrisation: x [B, *] -> [n, B, *out].

        Raises:
            NotLocal: a weight is used in a way that has none.
        """
        rows = x.expand(n, *x.shape).flatten(0, 1)
        with LocalNoise(self.mu, (2 * self.log_sigma).exp(), len(rows)):
            return self.network.one(self.mu, rows).unflatten(0, (n, len(x)))


class NotLocal(Exception):
    """A weight is used several times for one input, or in an operation that is not known to be linear in it."""


class LocalNoise(TorchFunctionMode):
    """Every operation that is linear in random weights returns a draw of its output, independent for every element.

    Of h W + b the mean is h M + m, and the variance h^2 S + s, if M, m are the weights' means and S, s variances. A
    network that runs at its mean weights inside of this runs at random ones.

    Arguments:
        mean: of all weights, [P]; views of it are known by their place in its memory.
        variance: of the last C of them, [C].
        rows: how many inputs there are.
    """

    LINEAR = (F.linear, F.embedding, torch.addmm)
    ADD = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)

    def __init__(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        super().__init__()
        self.variance, self.first, self.rows = variance, len(mean) - len(variance), rows
        self.memory, self.seen = mean.untyped_storage().data_ptr(), set[int]()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        used = [a for a in (*args, *kwargs.values()) if self.random(a)]
        results = out if isinstance(out, tuple | list) else (out,)
        if not used or all(self.shared(o) or not isinstance(o, Tensor) for o in results):
            return out  # no random weights, views of them, or facts such as their shape
        places = [weight.storage_offset() for weight in used]
        once = isinstance(out, Tensor) and len(out) == self.rows and out.dim() == (3 if func is F.embedding else 2)
        if not once or self.seen.intersection(places):
            raise NotLocal
        self.seen.update(places)
        # A unit without bias whose inputs are all zero has variance 0, where the root has no slope.
        variance = self.spread(func, args, kwargs, used).clamp(min=torch.finfo(out.dtype).tiny)
        return out + variance.sqrt() * torch.randn_like(out)

    def shared(self, value: Any) -> bool:
        """Whether it is a view of weights."""
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() == self.memory

    def random(self, value: Any) -> bool:
        """Whether it is a view of random weights."""
        return self.shared(value) and value.storage_offset() + value.numel() > self.first

    def spread(self, func: Callable, args: tuple, kwargs: dict, used: list[Tensor]) -> Tensor:
        """Variance of an operation's output, or one that broadcasts to it."""
        if func is F.layer_norm:
            x, shape = args
            normal = F.layer_norm(x, shape, eps=kwargs["eps"])
            return normal.square() * self.variances(kwargs["weight"]) + self.variances(kwargs["bias"])
        if func in self.ADD:
            return self.variances(used[0])
        if func in self.LINEAR:
            return func(
                *[a.square() if _input(a) and not self.random(a) else self.variances(a) for a in args], **kwargs
            )
        raise NotLocal

    def variances(self, value: Any) -> Any:
        """Of random weights their variances, in the same view; anything else as it is."""
        if not self.random(value):
            return value
        return self.variance.as_strided(value.shape, value.stride(), value.storage_offset() - self.first)


def _input(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

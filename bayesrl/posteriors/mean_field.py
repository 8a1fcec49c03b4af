"""`mean_field`: an independent normal for every weight, fitted by the evidence lower bound ("Bayes by backprop").

    q(theta) = Normal(mu, diag(sigma^2)),   draw z: theta = mu + sigma z
    maximize  E_q sum_i log p(y_i | f_theta(x_i)) - T KL(q || Normal(loc, diag(std^2)))

(Blundell et al., Weight Uncertainty in Neural Networks, 2015.) In supervised training, `fit` samples pre-activations
instead of weights, independently for every observation: the same objective with a less noisy gradient (Kingma, Salimans
& Welling, Variational Dropout and the Local Reparameterization Trick, 2015). `learn` samples weights, because an index
must select one function.

For a wide network and few data the KL of the weights outweighs the likelihood, and the optimum is close to the prior
(Coker et al., Wide Mean-Field Bayesian Neural Networks Ignore the Data, 2022). A narrower network, `cover="head"`, or a
temperature of 0.1 then fits better.
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
    """Independent normal weights; the index z is their noise, [n, C].

    Arguments:
        network: the network whose weights are random; A outputs.
        prior: maps the network to the prior over its weights.
        draws: n, the number of draws that an update trains.
        init_scale: initial sigma, as a share of the prior's standard deviation, so that the relative noise of a
            layer's output does not depend on its width.
        cover: the random weights: those of the whole "network", or of its "head", with a point estimate of the others.
        temperature: T, the factor of the KL.
        likelihood: maps an output to the distribution of its target.
        optimizer: maps parameters to their torch optimizer.
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
        """Make one update with independent pre-activations for every draw and observation.

        A network that uses a weight several times for one input, as recurrent cells and convolutions do, has dependent
        pre-activations; it is trained with sampled weights.
        """
        try:
            out = self.local_reparameterization(batch.x, len(z))
        except NotReparameterizableError:
            return self.learn(batch, z)
        return self.descend(*self.loss(batch, z, out))

    def local_reparameterization(self, x: Tensor, n: int) -> Tensor:
        """Sample outputs by local reparameterization: x [B, *] -> [n, B, *out].

        Raises:
            NotReparameterizableError: the network uses a weight in an unsupported way.
        """
        rows = x.expand(n, *x.shape).flatten(0, 1)
        with LocalReparameterization(self.mu, (2 * self.log_sigma).exp(), len(rows)):
            return self.network.one(self.mu, rows).unflatten(0, (n, len(x)))


class NotReparameterizableError(Exception):
    """A weight is used several times for one input, or in an operation that is not known to be linear in it."""


class LocalReparameterization(TorchFunctionMode):
    """A mode in which operations that are linear in random weights sample their outputs, each element independently.

    For weights with the means M, m and the variances S, s, the output h W + b has the mean h M + m and the variance
    h^2 S + s. A network that is evaluated at its mean weights in this mode behaves as one with random weights.

    Arguments:
        mean: means of all weights, [P]; views of it are recognized by their address.
        variance: variances of the last C weights, [C].
        rows: number of inputs.
    """

    LINEAR = (F.linear, F.embedding, torch.addmm)
    ADD = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)

    def __init__(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        super().__init__()
        self.variance, self.first, self.rows = variance, len(mean) - len(variance), rows
        self.memory, self.used = mean.untyped_storage().data_ptr(), set[int]()

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        weights = [a for a in (*args, *kwargs.values()) if self.random(a)]
        results = out if isinstance(out, tuple | list) else (out,)
        if not weights or all(self.shared(o) or not isinstance(o, Tensor) for o in results):
            return out  # no random weights, a view of them, or a property such as their shape
        offsets = [weight.storage_offset() for weight in weights]
        one_use = isinstance(out, Tensor) and len(out) == self.rows and out.dim() == (3 if func is F.embedding else 2)
        if not one_use or self.used.intersection(offsets):
            raise NotReparameterizableError
        self.used.update(offsets)
        # The variance is 0 for a unit without bias and with inputs of 0, where the root is not differentiable.
        variance = self.output_variance(func, args, kwargs, weights).clamp(min=torch.finfo(out.dtype).tiny)
        return out + variance.sqrt() * torch.randn_like(out)

    def shared(self, value: Any) -> bool:
        """Return whether a value is a view of the weights."""
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() == self.memory

    def random(self, value: Any) -> bool:
        """Return whether a value is a view of random weights."""
        return self.shared(value) and value.storage_offset() + value.numel() > self.first

    def output_variance(self, func: Callable, args: tuple, kwargs: dict, weights: list[Tensor]) -> Tensor:
        """Return the variance of an operation's output, in a shape that broadcasts to it."""
        if func is F.layer_norm:
            x, shape = args
            normal = F.layer_norm(x, shape, eps=kwargs["eps"])
            return normal.square() * self.variances(kwargs["weight"]) + self.variances(kwargs["bias"])
        if func in self.ADD:
            return self.variances(weights[0])
        if func in self.LINEAR:
            return func(
                *[a.square() if _input(a) and not self.random(a) else self.variances(a) for a in args], **kwargs
            )
        raise NotReparameterizableError

    def variances(self, value: Any) -> Any:
        """Return the variances of random weights, in the same view; any other value unchanged."""
        if not self.random(value):
            return value
        return self.variance.as_strided(value.shape, value.stride(), value.storage_offset() - self.first)


def _input(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

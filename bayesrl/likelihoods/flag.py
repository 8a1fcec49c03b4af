"""A likelihood with a binary target beside the targets of another likelihood.

Shapes: n draws, B batch, K targets.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from bayesrl.likelihoods.base import Likelihood


class WithFlag(Likelihood):
    """The targets of another likelihood and a last, binary target, such as termination: y ~ Bernoulli(sigmoid f(x)).

    The logit of the flag is the first of its `size` outputs; the others are not used.

    Arguments:
        inner: the likelihood of the other targets.
    """

    linear = False

    def __init__(self, inner: Likelihood) -> None:
        super().__init__()
        if inner.discrete:
            raise ValueError(f"got {type(inner).__name__} beside a flag, wanted a likelihood of numbers: gaussian")
        self.inner, self.size = inner, inner.size

    def __repr__(self) -> str:
        return f"WithFlag({self.inner})"

    def forward(self, out: Tensor, action: Tensor | None = None) -> dist.TorchDistribution:
        if action is not None:
            raise ValueError("got actions with a flag, wanted none: the flag is a target of its own")
        return FlaggedDistribution(self.inner(out[..., : -self.size]), out[..., -self.size])

    def mean(self, out: Tensor) -> Tensor:
        return torch.cat([self.inner.mean(out[..., : -self.size]), out[..., -self.size, None].sigmoid()], -1)

    def variance(self, out: Tensor) -> Tensor:
        p = out[..., -self.size, None].sigmoid()
        return torch.cat([self.inner.variance(out[..., : -self.size]), p * (1 - p)], -1)

    def prior_mask(self, outputs: int) -> Tensor:
        """Return the mask of the inner likelihood, and 0 for the flag."""
        return torch.cat([self.inner.prior_mask(outputs - self.size), torch.zeros(self.size)])


class FlaggedDistribution(dist.TorchDistribution):
    """The distribution of K targets and a flag, with the batch shape [*, K + 1].

    Arguments:
        numbers: distribution of the targets, with the batch shape [*, K].
        logit: logit of the flag, [*].
    """

    arg_constraints: dict = {}  # noqa: RUF012

    def __init__(self, numbers: dist.TorchDistribution, logit: Tensor) -> None:
        self.numbers, self.logit = numbers, logit
        *batch, K = numbers.batch_shape
        super().__init__(torch.Size([*batch, K + 1]), validate_args=False)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> FlaggedDistribution:
        *batch, K = batch_shape
        return FlaggedDistribution(self.numbers.expand([*batch, K - 1]), self.logit.expand(*batch))

    def log_prob(self, value: Tensor) -> Tensor:
        logit, flag = torch.broadcast_tensors(self.logit, value[..., -1])
        flag = -nn.functional.binary_cross_entropy_with_logits(logit, flag, reduction="none")
        numbers = self.numbers.log_prob(value[..., :-1])
        return torch.cat([numbers, flag.expand(numbers.shape[:-1])[..., None]], -1)

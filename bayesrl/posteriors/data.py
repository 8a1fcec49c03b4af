"""Data sets as batches for a posterior, with checks of their shapes, types and values.

Shapes: N observations, n draws, B batch, K targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bayesrl.posteriors.base import Posterior
from bayesrl.posteriors.types import Batch


class Data:
    """A data set from which batches for a posterior are taken.

    Arguments:
        posterior: the posterior to train; each observation stores its tags.
        x, y: inputs and targets, [N, *].
    """

    def __init__(self, posterior: Posterior, x: Tensor, y: Tensor) -> None:
        self.posterior, self.x = posterior, x
        self.y = y[:, None] if y.dim() == 1 and y.is_floating_point() else y  # targets [N, K], class labels [N]
        self.tags = posterior.tags(len(x))
        self.size = torch.tensor(float(len(x)), device=x.device)

    def shuffled(self, batch_size: int) -> Iterator[Tensor]:
        """Yield row numbers [B] forever, each row at most once in an epoch; incomplete batches are dropped."""
        N = len(self.x)
        B = min(batch_size, N)
        while True:
            yield from torch.randperm(N, device=self.x.device)[: N // B * B].view(-1, B)

    def batch(self, index: Tensor, z: Tensor) -> Batch:
        """Return the observations with the row numbers `index` [B], for draws z [n, *]."""
        weight, shift = self.posterior.bootstrap(z, self.tags[index])
        y = self.y[index].expand(len(z), *self.y[index].shape)
        if y.is_floating_point():
            y = y + shift[..., None]
        return Batch(self.x[index], None, y, weight.to(y.dtype) if y.is_floating_point() else weight, self.size)

    def sweep(self, batch_size: int) -> list[Batch]:
        """Return the whole data set in order, with weights of 1 and n = 1."""
        out = []
        for index in torch.arange(len(self.x), device=self.x.device).split(batch_size):
            y = self.y[index][None]
            weight = torch.ones(1, len(index), device=self.x.device, dtype=y.dtype if y.is_floating_point() else None)
            out.append(Batch(self.x[index], None, y, weight, self.size))
        return out


def hold_out(x: Tensor, y: Tensor, share: float) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Split a data set at random into training data and a share of held-out data; a share of 0 keeps the order."""
    cut = round(share * len(x))
    if not 0 <= share < 1 or (share and not 1 <= cut < len(x)):
        raise ValueError(
            f"got held_out={share} of {len(x)} observations, wanted a share that leaves some on both sides"
        )
    order = (torch.randperm if share else torch.arange)(len(x), device=x.device)
    return (x[order[cut:]], y[order[cut:]]), (x[order[:cut]], y[order[:cut]])


@torch.no_grad()
def predictive_nll(posterior: Posterior, x: Tensor, y: Tensor, n: int = 100) -> float:
    """Return the mean negative log-likelihood of y [N, *] under the mixture of n draws at x [N, *], in nats."""
    y = y[:, None] if y.dim() == 1 and y.is_floating_point() else y
    total = 0.0
    for rows, targets in zip(x.split(256), y.split(256), strict=True):
        log_p = posterior.likelihood(posterior.sample(rows, n)).log_prob(targets)
        log_p = log_p.flatten(2).sum(2) if log_p.dim() > 2 else log_p
        total -= float((log_p.logsumexp(0) - math.log(n)).sum())
    return total / len(x)


def check(posterior: Posterior, x: Tensor, y: Tensor) -> None:
    """Raise a ValueError for data that a posterior cannot learn from.

    Arguments:
        posterior: the posterior to train.
        x, y: inputs and targets, [N, *].

    Raises:
        ValueError: a wrong type, shape or value.
    """
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise ValueError(f"got {type(x).__name__} and {type(y).__name__}, wanted tensors: use torch.as_tensor")
    if x.dim() == 0 or y.dim() == 0 or len(x) == 0 or len(x) != len(y):
        raise ValueError(f"got inputs {list(x.shape)} and targets {list(y.shape)}, wanted as many of both, [N, *]")
    own = next((p.dtype for p in posterior.parameters() if p.is_floating_point()), torch.float32)
    for name, value in (("inputs", x), ("targets", y)):
        if value.is_floating_point() and not value.isfinite().all():
            where = [int(i) for i in (~value.isfinite()).nonzero()[0]]
            raise ValueError(f"got {name} with {float(value[tuple(where)])} at {where}, wanted finite numbers")
        if value.is_floating_point() and value.dtype != own:
            raise ValueError(f"got {name} of {value.dtype} for a posterior of {own}, wanted the same: use {name}.to")
    try:
        with torch.no_grad():
            out = posterior(posterior.index(1, torch.Generator(device=x.device).manual_seed(0)), x[:1])
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"got inputs of shape {list(x.shape[1:])} and {x.dtype} that the network cannot take, wanted what it was "
            f"made for ({str(error).splitlines()[0]})"
        ) from error
    size, outputs = posterior.likelihood.size, out.shape[-1]
    if posterior.likelihood.discrete:
        if y.dim() != 1 or y.is_floating_point():
            raise ValueError(f"got targets {list(y.shape)} of {y.dtype}, wanted class labels [N]: use .long()")
        if int(y.min()) < 0 or int(y.max()) >= size:
            raise ValueError(f"got class labels from {int(y.min())} to {int(y.max())}, wanted 0 to {size - 1}")
        if outputs != size:
            raise ValueError(f"got a network with {outputs} outputs for {size} classes, wanted one for each")
    elif not y.is_floating_point():
        raise ValueError(
            f"got targets of {y.dtype}, wanted numbers of {own}, or classes with likelihood=Categorical(C)"
        )
    elif y.dim() > 2 or outputs != (y.shape[1] if y.dim() == 2 else 1) * size:
        raise ValueError(
            f"got targets {list(y.shape)} for a network with {outputs} outputs, {size} for each target, wanted "
            f"[N, {outputs // size}]"
        )

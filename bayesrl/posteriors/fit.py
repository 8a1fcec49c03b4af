"""Supervised use: a posterior learns a data set by mini-batches, watched on data that is held out.

The framework as a small Bayesian deep-learning library: regression and classification with any posterior, network and
likelihood. Shapes: N observations, n draws, B batch, K targets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from bayesrl.posteriors.base import Batch, Learner, Posterior


class Fit(NamedTuple):
    """What `fit` did.

    Attributes:
        updates: how many were made.
        nll: negative log-likelihood of the held-out data by update number; empty without held-out data.
        best: update whose parameters were kept, the last one without held-out data.
    """

    updates: int
    nll: dict[int, float]
    best: int


def fit(
    posterior: Learner,
    x: Tensor,
    y: Tensor,
    updates: int = 2000,
    batch_size: int = 128,
    held_out: float | tuple[Tensor, Tensor] = 0.0,
    patience: int = 10,
    every: int = 100,
    progress: bool = True,
) -> Fit:
    """Teach `posterior` a data set; deterministic after `torch.manual_seed`.

    Every observation keeps its data-randomisation tags, so that a bootstrap is one bootstrap. With held-out data,
    learning stops after `patience` looks without a better NLL of the predictive mixture, and the best parameters are
    put back. Afterwards `refresh` sees all the data once, but for what is held out. Priors and noise scales are in
    units of the targets: standardise these, and inputs.

    Arguments:
        posterior: learns in place.
        x: inputs [N, *].
        y: targets [N] or [N, K], or class numbers [N] for a categorical likelihood.
        updates: at most.
        batch_size: B, shuffled anew in every epoch; all the data where there is less.
        held_out: share of the data, at random, or other data (x, y), to watch; 0 to learn for all `updates`.
        patience: looks without improvement before stopping.
        every: updates between looks.
        progress: whether to show a bar.

    Raises:
        ValueError: shapes, types or values that cannot be learned from.
    """
    check(posterior, x, y)
    if updates < 1 or batch_size < 1 or patience < 1 or every < 1:
        raise ValueError(
            f"got updates={updates}, batch_size={batch_size}, patience={patience}, every={every}, wanted at least 1"
        )
    if isinstance(held_out, tuple):
        test = held_out
        check(posterior, *test)
    else:
        if not 0 <= held_out < 1 or (held_out and not 1 <= round(held_out * len(x)) < len(x)):
            raise ValueError(f"got held_out={held_out} of {len(x)} observations, wanted a share that leaves some both")
        order = (torch.randperm if held_out else torch.arange)(len(x), device=x.device)
        cut = round(held_out * len(x))
        test = (x[order[:cut]], y[order[:cut]])
        x, y = x[order[cut:]], y[order[cut:]]
    data = Data(posterior, x, y)
    shuffled = data.shuffled(batch_size)
    nll: dict[int, float] = {}
    best, kept, update = 0, None, 0
    with tqdm(total=updates, disable=not progress, unit=" updates", file=sys.stderr, mininterval=0.5) as bar:
        for update in range(1, updates + 1):
            z = posterior.index(posterior.draws)
            info = posterior.fit_step(data.batch(next(shuffled), z), z)
            bar.update()
            if update % every and update < updates:
                continue
            loss = float(info["loss"])
            if not math.isfinite(loss):
                raise ValueError(f"got the loss {loss} after {update} updates, wanted a finite number: lower the lr")
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            if len(test[0]):
                nll[update] = predictive_nll(posterior, *test)
                bar.set_postfix_str(f"loss {loss:.4g}, held-out NLL {nll[update]:.4g}", refresh=False)
                if kept is None or nll[update] < nll[best]:
                    best = update
                    kept = {name: value.clone() for name, value in posterior.named_parameters()}
                    kept |= {name: value.clone() for name, value in posterior.named_buffers()}
                elif update - best >= patience * every:
                    break
    if kept is not None:
        with torch.no_grad():
            for name, value in (*posterior.named_parameters(), *posterior.named_buffers()):
                value.copy_(kept[name])
    posterior.refresh(data.sweep(batch_size))
    return Fit(update, nll, best or update)


class Data:
    """A data set as batches that a posterior can be taught.

    Arguments:
        posterior: whose tags each observation keeps.
        x, y: [N, *] and [N, *].
    """

    def __init__(self, posterior: Learner, x: Tensor, y: Tensor) -> None:
        self.posterior, self.x = posterior, x
        self.y = y[:, None] if y.dim() == 1 and y.is_floating_point() else y  # targets [N, K], class numbers [N]
        self.tags = posterior.tags(len(x))
        self.size = torch.tensor(float(len(x)), device=x.device)

    def shuffled(self, batch_size: int) -> Iterator[Tensor]:
        """Indices [B] without end, each at most once in an epoch: what is left over waits for the next shuffle."""
        N = len(self.x)
        B = min(batch_size, N)
        while True:
            yield from torch.randperm(N, device=self.x.device)[: N // B * B].view(-1, B)

    def batch(self, index: Tensor, z: Tensor) -> Batch:
        """The observations `index` [B] for draws z [n, *]."""
        weight, shift = self.posterior.bootstrap(z, self.tags[index])
        y = self.y[index].expand(len(z), *self.y[index].shape)
        if y.is_floating_point():
            y = y + shift[..., None]
        return Batch(self.x[index], None, y, weight.to(y.dtype) if y.is_floating_point() else weight, self.size)

    def sweep(self, batch_size: int) -> list[Batch]:
        """All of it once, in order, every observation with weight 1, n = 1."""
        out = []
        for index in torch.arange(len(self.x), device=self.x.device).split(batch_size):
            y = self.y[index][None]
            weight = torch.ones(1, len(index), device=self.x.device, dtype=y.dtype if y.is_floating_point() else None)
            out.append(Batch(self.x[index], None, y, weight, self.size))
        return out


@torch.no_grad()
def predictive_nll(posterior: Posterior, x: Tensor, y: Tensor, n: int = 100) -> float:
    """Mean negative log-likelihood of y [N, *] under the mixture of n draws at x [N, *], in nats an observation."""
    y = y[:, None] if y.dim() == 1 and y.is_floating_point() else y
    total = 0.0
    for rows, targets in zip(x.split(256), y.split(256), strict=True):
        log_p = posterior.likelihood(posterior.sample(rows, n)).log_prob(targets)
        log_p = log_p.flatten(2).sum(2) if log_p.dim() > 2 else log_p
        total -= float((log_p.logsumexp(0) - math.log(n)).sum())
    return total / len(x)


def check(posterior: Posterior, x: Tensor, y: Tensor) -> None:
    """Refuse data that cannot be learned from, in one sentence.

    Raises:
        ValueError: which of shape, type and value is wrong.
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
            raise ValueError(f"got targets {list(y.shape)} of {y.dtype}, wanted class numbers [N]: use .long()")
        if int(y.min()) < 0 or int(y.max()) >= size:
            raise ValueError(f"got class numbers from {int(y.min())} to {int(y.max())}, wanted 0 to {size - 1}")
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

"""The contract: a posterior is a distribution over functions, addressed by an epistemic index.

Shapes: n draws, B batch, E environments, A actions. Equal indices mean the same function until the next update; that
is what makes Thompson sampling "keep an index until the episode ends" and lets draw z of a target network teach draw z
of the learner (epistemic index: Osband et al., Epistemic Neural Networks, 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

from bayesrl.likelihoods import Likelihood, Prediction
from bayesrl.network import Network

if TYPE_CHECKING:
    from bayesrl.posteriors.fit import Fit


class Batch(NamedTuple):
    """What `learn` is taught: row i of y and weight teaches draw z[i].

    Attributes:
        x: inputs [B, *].
        action: the actions whose output is taught, [B] int64, or None where the whole output is.
        y: targets [n, B, *].
        weight: how much each observation counts for each draw, [n, B]; bootstrap masks, priorities, 0 for padding.
        size: number of observations the batch stands for, a 0-d float tensor; scales likelihood against prior.
    """

    x: Tensor
    action: Tensor | None
    y: Tensor
    weight: Tensor
    size: Tensor


class Posterior(nn.Module):
    """A distribution over functions [B, *] -> [B, *out].

    Attributes:
        likelihood: from a function's output to the distribution of its target.
        draws: how many draws an update should teach at once.
        degenerate: whether it is one function by construction, so that a spread of zero is no news.
        fixed: names of buffers that no update changes; a snapshot shares them.
    """

    likelihood: Likelihood
    draws: int = 1
    degenerate: bool = False
    fixed: tuple[str, ...] = ()

    @property
    def history(self) -> int:
        """W, how many observations of an episode an input holds: its network's, or 1."""
        return getattr(getattr(self, "network", None), "history", 1)

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        """n fresh indices, [n, *], each distributed as the posterior, from `generator` or torch's global one."""
        raise NotImplementedError

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Every draw on every input: z [n, *], x [B, *] -> [n, B, *out]."""
        raise NotImplementedError

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        """Draw i on input i: z [E, *], x [E, *] -> [E, *out]."""
        raise NotImplementedError

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """The draws z [n, *] as functions of a batch each: x [n, B, *] -> [n, B, *out], draw i on batch i.

        What depends on z alone is computed here, once; they hold until the next update.
        """
        return lambda x: vmap(lambda one, rows: self(one[None], rows)[0])(z, x)

    def central(self, n: int) -> Tensor:
        """Indices [k, *], k at most n, whose functions average to the posterior mean, always the same ones.

        Exactly where there are no more than n functions, else as near as n draws do. A class whose functions are linear
        in their index says that one does; a class derived from it that changes `index` says what does then.
        """
        device = next(chain(self.parameters(), self.buffers()), torch.empty(0)).device
        z = self.index(n, Generator(device=device).manual_seed(0))
        return z if z.is_floating_point() else z.unique(dim=0)

    def center(self, x: Tensor) -> Tensor:
        """The posterior mean of the output: x [B, *] -> [B, *out]; always the same 100 draws where none is closed."""
        return self(self.central(100), x).mean(0)

    def mean(self, x: Tensor) -> Tensor:
        """The expected target: x [B, *] -> [B, K]."""
        if self.likelihood.linear:
            return self.likelihood.mean(self.center(x))
        return self.likelihood.mean(self.sample(x)).mean(0)

    def expected(self, z: Tensor, x: Tensor) -> Tensor:
        """Every draw's expected target: z [n, *], x [B, *] -> [n, B, K]."""
        return self.likelihood.mean(self(z, x))

    def sample(self, x: Tensor, n: int = 100) -> Tensor:
        """n draws, the same at every call between two updates: x [B, *] -> [n, B, *out]."""
        return self(self.index(n, Generator(device=x.device).manual_seed(0)), x)

    @torch.no_grad()
    def predict(self, x: Tensor, n: int = 100) -> Prediction:
        """Mean, epistemic and aleatoric part of the prediction at x [B, *], over n draws; 256 inputs at a time."""
        parts = [self.likelihood.split(self.sample(rows, n)) for rows in x.split(256)]
        return Prediction(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def kl(self, z: Tensor) -> Tensor:
        """KL of the weights' posterior from their prior in nats, averaged over draws z; NaN where there is none."""
        return torch.full((), torch.nan, device=z.device)

    def snapshot(self) -> Posterior:
        """A frozen copy that no later update changes: a target network, an actor."""
        optimizer = getattr(self, "optimizer", None)
        shared = {id(buffer): buffer for buffer in map(self.get_buffer, self.fixed)}
        clone = copy.deepcopy(self, {id(optimizer): None, **shared})
        return clone.requires_grad_(False)

    def tags(self, n: int) -> Tensor:
        """What data randomisation stores with each of n new observations, [n, K]; here nothing, K = 0."""
        return torch.empty(n, 0)

    def bootstrap(self, z: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
        """How tagged observations [B, K] count for draws z [n, *]: weights [n, B] and target perturbations [n, B]."""
        weight = torch.ones(len(z), len(tags), device=z.device)
        return weight, torch.zeros_like(weight)


class Learner(Posterior):
    """A posterior that learns from mini-batches.

    `learn` is a pure tensor function of parameters, optimiser state, batch and index, with constant shapes and without
    synchronisation, so that it can be captured as a graph.
    """

    optimizer: torch.optim.Optimizer

    def learn(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """One update; returns 0-d tensors: `loss`, and the terms it is made of."""
        return self.descend(*self.loss(batch, z))

    def descend(self, loss: Tensor, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the optimiser down a 0-d loss; returns what `learn` does."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The 0-d objective to minimise, per observation, and its named terms; here each draw's likelihood alone."""
        nll = -self.likelihood(self(z, batch.x), batch.action).log_prob(batch.y)
        loss = (batch.weight * nll.flatten(2).sum(2) if nll.dim() > 2 else batch.weight * nll).mean()
        return loss, {"nll": loss}

    def fit_step(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """`learn`, where targets do not depend on the draw: free to use noise that names no function."""
        return self.learn(batch, z)

    def refresh(self, batches: Sequence[Batch]) -> None:
        """What is done once with all the data, after `fit`, by posteriors that hold an exact or a local part; n = 1."""

    def fit(self, x: Tensor, y: Tensor, **options: Any) -> Fit:
        """Learn a data set, x [N, *] and y [N], [N, K] or class numbers; see `bayesrl.posteriors.fit`."""
        from bayesrl.posteriors.fit import fit

        return fit(self, x, y, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Learner:
        """Moving a learner, or changing its precision, takes the optimiser's state along."""
        super()._apply(fn, recurse)
        for state in self.optimizer.state.values() if self.optimizer is not None else ():
            state.update({name: fn(value) for name, value in state.items() if isinstance(value, Tensor)})
        return self

    def get_extra_state(self) -> dict:
        return self.optimizer.state_dict() if self.optimizer is not None else {}

    def set_extra_state(self, state: dict) -> None:
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state)


class WeightSpace(Learner):
    """A learner whose draws are weight vectors of one network: says `index` and `weights`, and is a posterior.

    Attributes:
        network: f(theta, x).
    """

    network: Network

    def weights(self, z: Tensor) -> Tensor:
        """The weight vector of each draw: z [n, *] -> [n, P]."""
        raise NotImplementedError

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network(self.weights(z), x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network.paired(self.weights(z), x)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        return partial(self.network.each, self.weights(z))

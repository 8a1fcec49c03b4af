"""Posteriors that learn, from mini-batches of an agent or from a data set.

Shapes: N observations, n draws, B batch, E environments, P weights, K targets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from bayesrl.networks.network import Network
from bayesrl.posteriors.base import Posterior
from bayesrl.posteriors.data import Data, check, predictive_nll
from bayesrl.posteriors.types import Batch, Fit


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

    def fit(
        self,
        x: Tensor,
        y: Tensor,
        updates: int = 2000,
        batch_size: int = 128,
        held_out: float | tuple[Tensor, Tensor] = 0.0,
        patience: int = 10,
        every: int = 100,
        progress: bool = True,
    ) -> Fit:
        """Learn a data set; deterministic after `torch.manual_seed`.

        Every observation keeps its data-randomisation tags, so that a bootstrap is one bootstrap. With held-out data,
        learning stops after `patience` looks without a better NLL of the predictive mixture, and the best parameters
        are put back. Afterwards `refresh` sees all the data once, but for what is held out. Priors and noise
        scales are in units of the targets: standardize these, and inputs.

        Arguments:
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
        check(self, x, y)
        if updates < 1 or batch_size < 1 or patience < 1 or every < 1:
            raise ValueError(
                f"got updates={updates}, batch_size={batch_size}, patience={patience}, every={every}, wanted at least 1"
            )
        if isinstance(held_out, tuple):
            test = held_out
            check(self, *test)
        else:
            if not 0 <= held_out < 1 or (held_out and not 1 <= round(held_out * len(x)) < len(x)):
                raise ValueError(
                    f"got held_out={held_out} of {len(x)} observations, wanted a share that leaves some both"
                )
            order = (torch.randperm if held_out else torch.arange)(len(x), device=x.device)
            cut = round(held_out * len(x))
            test = (x[order[:cut]], y[order[:cut]])
            x, y = x[order[cut:]], y[order[cut:]]
        data = Data(self, x, y)
        shuffled = data.shuffled(batch_size)
        nll: dict[int, float] = {}
        best, kept, update = 0, None, 0
        with tqdm(total=updates, disable=not progress, unit=" updates", file=sys.stderr, mininterval=0.5) as bar:
            for update in range(1, updates + 1):
                z = self.index(self.draws)
                info = self.fit_step(data.batch(next(shuffled), z), z)
                bar.update()
                if update % every and update < updates:
                    continue
                loss = float(info["loss"])
                if not math.isfinite(loss):
                    raise ValueError(
                        f"got the loss {loss} after {update} updates, wanted a finite number: lower the lr"
                    )
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                if len(test[0]):
                    nll[update] = predictive_nll(self, *test)
                    bar.set_postfix_str(f"loss {loss:.4g}, held-out NLL {nll[update]:.4g}", refresh=False)
                    if kept is None or nll[update] < nll[best]:
                        best = update
                        kept = {name: value.clone() for name, value in self.named_parameters()}
                        kept |= {name: value.clone() for name, value in self.named_buffers()}
                    elif update - best >= patience * every:
                        break
        if kept is not None:
            with torch.no_grad():
                for name, value in (*self.named_parameters(), *self.named_buffers()):
                    value.copy_(kept[name])
        self.refresh(data.sweep(batch_size))
        return Fit(update, nll, best or update)

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

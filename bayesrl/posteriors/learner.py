"""Posteriors that learn from mini-batches, of an agent or of a data set.

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
from bayesrl.posteriors.data import Data, check, hold_out, predictive_nll
from bayesrl.posteriors.types import Batch, Fit


class Learner(Posterior):
    """A posterior that learns from mini-batches.

    `learn` is a pure tensor function of parameters, optimizer state, batch and index, with constant shapes and without
    synchronization, so that it can be captured as a graph.
    """

    optimizer: torch.optim.Optimizer

    def learn(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """Make one update.

        Arguments:
            batch: observations, and the targets of each draw.
            z: indices of the draws to train, [n, *].

        Returns:
            0-d tensors by name, `loss` and the terms of its sum.
        """
        return self.descend(*self.loss(batch, z))

    def descend(self, loss: Tensor, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make one optimizer step on a 0-d loss; return the metrics of `learn`."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def loss(self, batch: Batch, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the 0-d objective per observation and its terms by name; by default the likelihood of each draw."""
        nll = -self.likelihood(self(z, batch.x), batch.action).log_prob(batch.y)
        loss = (batch.weight * nll.flatten(2).sum(2) if nll.dim() > 2 else batch.weight * nll).mean()
        return loss, {"nll": loss}

    def fit_step(self, batch: Batch, z: Tensor) -> dict[str, Tensor]:
        """Make one update of `fit`, where all draws have the same targets; a subclass may use other noise than z."""
        return self.learn(batch, z)

    def refresh(self, batches: Sequence[Batch]) -> None:
        """Recompute exact or local parts of the posterior from all the data, at the end of `fit`; n = 1."""

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
        """Train on a data set; the result is deterministic after `torch.manual_seed`.

        With held-out data, training stops after `patience` evaluations without a better NLL of the predictive mixture,
        and the best parameters are restored. Every observation keeps its tags for data randomization, so that all
        epochs see the same bootstrap sample. At the end `refresh` is called with all the training data. The scales of
        priors and noise are in units of the targets, so standardize inputs and targets.

        Arguments:
            x: inputs, [N, *].
            y: targets, [N] or [N, K], or class labels [N] int64 for a categorical likelihood.
            updates: maximal number of updates.
            batch_size: B, at most N; batches are shuffled in every epoch.
            held_out: random share of the data to hold out, or a pair (x, y) of other data; 0 for none.
            patience: evaluations without improvement before training stops.
            every: updates between evaluations.
            progress: whether to show a progress bar.

        Returns:
            The number of updates, the NLL of held-out data, and the update with the final parameters.

        Raises:
            ValueError: data with a wrong type, shape or value, or a loss that is not finite.
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
            (x, y), test = hold_out(x, y, held_out)
        data = Data(self, x, y)
        shuffled = data.shuffled(batch_size)
        nll: dict[int, float] = {}
        best, best_state, update = 0, None, 0
        with tqdm(total=updates, disable=not progress, unit=" updates", file=sys.stderr, mininterval=0.5) as bar:
            for update in range(1, updates + 1):
                z = self.index(self.draws)
                info = self.fit_step(data.batch(next(shuffled), z), z)
                bar.update()
                if update % every and update < updates:
                    continue
                loss = float(info["loss"])
                if not math.isfinite(loss):
                    got = f"got the loss {loss} after {update} updates"
                    raise ValueError(f"{got}, wanted a finite number: lower the lr")
                bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
                if len(test[0]):
                    nll[update] = predictive_nll(self, *test)
                    bar.set_postfix_str(f"loss {loss:.4g}, held-out NLL {nll[update]:.4g}", refresh=False)
                    if best_state is None or nll[update] < nll[best]:
                        best, tensors = update, (*self.named_parameters(), *self.named_buffers())
                        best_state = {name: value.clone() for name, value in tensors}
                    elif update - best >= patience * every:
                        break
        if best_state is not None:
            self._restore(best_state)
        self.refresh(data.sweep(batch_size))
        return Fit(update, nll, best or update)

    @torch.no_grad()
    def _restore(self, state: dict[str, Tensor]) -> None:
        """Copy values into parameters and buffers, by name."""
        for name, value in (*self.named_parameters(), *self.named_buffers()):
            value.copy_(state[name])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Learner:
        """Move or convert the optimizer's state together with the parameters."""
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
    """A learner whose draws are weight vectors of one network; a subclass defines `index` and `weights`.

    Attributes:
        network: f(theta, x).
    """

    network: Network

    def weights(self, z: Tensor) -> Tensor:
        """Return the weight vector of each draw: z [n, *] -> [n, P]."""
        raise NotImplementedError

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network(self.weights(z), x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network.paired(self.weights(z), x)

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        return partial(self.network.each, self.weights(z))

"""The base class: a posterior is a distribution over functions, addressed by an epistemic index.

Until the next update an index z always selects the same function. Thompson sampling therefore holds one index for an
episode, and draw z of a target network provides the targets of draw z of the online network (Osband et al., Epistemic
Neural Networks, 2023).

Shapes: n draws, B batch, E environments, A actions, K targets, W window.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain

import torch
from torch import Generator, Tensor, nn
from torch.func import vmap

from bayesrl.likelihoods import Likelihood, Prediction


class Posterior(nn.Module):
    """A distribution over functions [B, *] -> [B, *out].

    Attributes:
        likelihood: maps a function's output to the distribution of its target.
        draws: number of draws that an update trains at once.
        degenerate: whether the posterior is a single function by construction, without epistemic uncertainty.
        fixed: names of buffers that no update changes; a snapshot shares their memory.
    """

    likelihood: Likelihood
    draws: int = 1
    degenerate: bool = False
    fixed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return one line: the class, its size, the draws of an update, and the settings of `extra_repr`."""
        weights = self.network.size if hasattr(self, "network") else sum(p.numel() for p in self.parameters())
        draws = f"{self.draws} draw{'s' * (self.draws > 1)} an update" if hasattr(self, "learn") else ""
        return f"{type(self).__name__}({', '.join(filter(None, (f'{weights:,} weights', draws, self.extra_repr())))})"

    @property
    def history(self) -> int:
        """W, the number of observations in an input: the network's, or 1."""
        return getattr(getattr(self, "network", None), "history", 1)

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n indices.

        Arguments:
            n: number of draws.
            generator: source of random numbers; torch's global one by default.

        Returns:
            Indices z, [n, *], whose functions are distributed as the posterior.
        """
        raise NotImplementedError

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Evaluate every draw on every input: z [n, *], x [B, *] -> [n, B, *out]."""
        raise NotImplementedError

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        """Evaluate draw i on input i: z [E, *], x [E, *] -> [E, *out]."""
        raise NotImplementedError

    def functions(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the draws as one function that evaluates draw i on batch i.

        Everything that depends on z alone is computed once, here. The result is valid until the next update.

        Arguments:
            z: indices, [n, *].

        Returns:
            A function x [n, B, *] -> [n, B, *out].
        """
        return lambda x: vmap(lambda one, rows: self(one[None], rows)[0])(z, x)

    def central(self, n: int) -> Tensor:
        """Return at most n indices whose functions average to the posterior mean, the same ones at every call.

        The average is exact if there are no more than n functions, and a Monte Carlo estimate otherwise. A class whose
        functions are linear in their index overrides this to return a single one.

        Returns:
            Indices z, [k, *] with k <= n.
        """
        device = next(chain(self.parameters(), self.buffers()), torch.empty(0)).device
        z = self.index(n, Generator(device=device).manual_seed(0))
        return z if z.is_floating_point() else z.unique(dim=0)

    def center(self, x: Tensor) -> Tensor:
        """Return the posterior mean of the output: x [B, *] -> [B, *out]; by default an average of 100 fixed draws."""
        return self(self.central(100), x).mean(0)

    def mean(self, x: Tensor) -> Tensor:
        """Return the expected target: x [B, *] -> [B, K]."""
        if self.likelihood.linear:
            return self.likelihood.mean(self.center(x))
        return self.likelihood.mean(self.sample(x)).mean(0)

    def expected(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the expected target under every draw: z [n, *], x [B, *] -> [n, B, K]."""
        return self.likelihood.mean(self(z, x))

    def sample(self, x: Tensor, n: int = 100) -> Tensor:
        """Evaluate n fixed draws, the same ones at every call: x [B, *] -> [n, B, *out]."""
        return self(self.index(n, Generator(device=x.device).manual_seed(0)), x)

    @torch.no_grad()
    def predict(self, x: Tensor, n: int = 100) -> Prediction:
        """Predict the targets at x, with their epistemic and aleatoric uncertainty.

        Arguments:
            x: inputs, [B, *]; they are evaluated 256 at a time.
            n: number of draws.
        """
        parts = [self.likelihood.split(self.sample(rows, n)) for rows in x.split(256)]
        return Prediction(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def kl(self, z: Tensor) -> Tensor:
        """Return KL(posterior || prior) of the weights in nats, averaged over draws z; NaN where it is not defined."""
        return torch.full((), torch.nan, device=z.device)

    def snapshot(self) -> Posterior:
        """Return a frozen copy that later updates do not change, such as a target network."""
        optimizer = getattr(self, "optimizer", None)
        shared = {id(buffer): buffer for buffer in map(self.get_buffer, self.fixed)}
        clone = copy.deepcopy(self, {id(optimizer): None, **shared})
        return clone.requires_grad_(False)

    def tags(self, n: int) -> Tensor:
        """Draw the random numbers that n new observations store for `bootstrap`, [n, L]; none by default, L = 0."""
        return torch.empty(n, 0)

    def bootstrap(self, z: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights and target perturbations of observations for draws (data randomization).

        Arguments:
            z: indices, [n, *].
            tags: what `tags` stored with each observation, [B, L].

        Returns:
            Weights [n, B], by default 1, and perturbations that are added to the targets, [n, B], by default 0.
        """
        weight = torch.ones(len(z), len(tags), device=z.device)
        return weight, torch.zeros_like(weight)

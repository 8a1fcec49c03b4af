"""The contract: a posterior is a distribution over functions, addressed by an epistemic index.

Shapes: n draws, B batch, E environments, A actions. Equal indices mean the same function until the next update; that
is what makes Thompson sampling "keep an index until the episode ends" and lets draw z of a target network teach draw z
of the learner (epistemic index: Osband et al., Epistemic Neural Networks, 2023).
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
        likelihood: from a function's output to the distribution of its target.
        draws: how many draws an update should teach at once.
        degenerate: whether it is one function by construction, so that a spread of zero is no news.
        fixed: names of buffers that no update changes; a snapshot shares them.
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

"""Stochastic variational inference in Pyro without the per-step overhead of `pyro.infer.SVI`.

Pyro stays the definition: a model and a guide, with names, plates and scales. What changes is the evaluation: one trace
each, the KL in closed form, no validation and no device synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence


class IndexedNormal(dist.Normal):
    """A normal whose reparameterised draw uses given noise: equal noise, equal draw. The index of a guide's weights."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.noise = noise

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> IndexedNormal:
        return IndexedNormal(*(t.expand(batch_shape) for t in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.loc + self.scale * self.noise


def elbo(model: Callable, guide: Callable, *args) -> tuple[Tensor, dict[str, Tensor]]:
    """The evidence lower bound with analytic KL, a 0-d tensor, and its terms `nll` and `kl` (ELBO = -nll - kl).

    Equal to minus `pyro.infer.TraceMeanField_ELBO().differentiable_loss` for guides whose every site has a known KL to
    the model's (Kingma & Welling, 2014).
    """
    nll: Tensor | float = 0.0
    kl: Tensor | float = 0.0
    with pyro.validation_enabled(False):
        q = poutine.trace(guide).get_trace(*args)
        p = poutine.trace(poutine.replay(model, trace=q)).get_trace(*args)
        # Pyro declares every site's `fn` a plain function; a sample site's is a distribution.
        guided: Mapping[str, Any] = q.nodes
        sites: Mapping[str, Any] = p.nodes
        for name, site in sites.items():
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            if site["is_observed"]:
                nll = nll - (site["scale"] * site["fn"].log_prob(site["value"])).sum()
            else:
                kl = kl + (guided[name]["scale"] * kl_divergence(guided[name]["fn"], site["fn"])).sum()
    return -(nll + kl), {"nll": nll, "kl": kl}  # type: ignore[dict-item, return-value]

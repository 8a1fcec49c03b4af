"""`nuts`: exact draws of a small network's posterior, the reference that approximations are measured against.

    U(theta) = -sum_i log p(y_i | f_theta(x_i)) - log p(theta)
    draws of  p(theta | data)^(1 / T), proportional to exp(-U(theta) / T),  by Hamiltonian dynamics on theta that turn
    back where they would return; steps and scales adapted during warm-up, then fixed

(Hoffman & Gelman, The No-U-Turn Sampler, 2014; Pyro's.) Sampled are eps = (theta - loc) / std, which the prior makes
Normal(0, I). Chains that have mixed agree: `chains(x)` gives their function values for R-hat and the effective sample
size, which mean something for functions, where single weights may be exchanged for others.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from pyro.infer import MCMC
from pyro.infer import NUTS as Kernel
from torch import Generator, Tensor, nn

from bayesrl.likelihoods import Gaussian, Likelihood
from bayesrl.networks.network import Network
from bayesrl.posteriors.base import Posterior
from bayesrl.posteriors.data import check
from bayesrl.priors import FanIn, Prior

LARGEST = 10_000  # weights, and observations


class NUTS(Posterior):
    """Draws of the whole network's weights; index z is a draw's number, [n, 1] int64.

    Before `fit` they are draws of the prior. It needs all the data at every step and is no `Learner`. Parameters of the
    likelihood and of the prior stay what they are.

    Arguments:
        network: body and head; A outputs.
        chains: independent ones, run after each other.
        warmup: transitions of each chain that adapt it and are forgotten.
        samples: S, draws kept of each chain.
        prior: network -> prior over its weights.
        temperature: T, of the posterior.
        likelihood: output -> distribution of the target.
    """

    def __init__(
        self,
        network: Network,
        chains: int = 4,
        warmup: int = 500,
        samples: int = 500,
        prior: Callable[[Network], Prior] = FanIn,
        temperature: float = 1.0,
        likelihood: Likelihood = Gaussian(0.1),
    ) -> None:
        super().__init__()
        if chains < 1 or warmup < 1 or samples < 4 or not temperature > 0:
            raise ValueError(
                f"got chains={chains}, warmup={warmup}, samples={samples}, temperature={temperature}, wanted one "
                "chain, one transition of warm-up, 4 samples or more, and a positive temperature"
            )
        if network.size > LARGEST:
            raise ValueError(f"got a network of {network.size} weights, wanted {LARGEST} or fewer: use SGMCMC")
        self.network, self.shape, self.warmup, self.likelihood = network, (chains, samples), warmup, likelihood
        self.prior, self.temperature = prior(network), temperature
        noise = torch.randn(chains * samples, network.size)
        self.theta = nn.Parameter(self.prior.loc + self.prior.std() * noise, requires_grad=False)

    def extra_repr(self) -> str:
        return f"chains={self.shape[0]}, samples={self.shape[1]}, prior={self.prior}, temperature={self.temperature:g}"

    # --- index -------------------------------------------------------------------------------------------------

    def index(self, n: int, generator: Generator | None = None) -> Tensor:
        """Stratified: any successive draws, as many as there are, name each once."""
        rounds = torch.rand(-(-n // len(self.theta)), len(self.theta), generator=generator, device=self.theta.device)
        return rounds.argsort(1).flatten()[:n, None]

    # --- forward -----------------------------------------------------------------------------------------------

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network(self.theta[z[:, 0]], x)

    def paired(self, z: Tensor, x: Tensor) -> Tensor:
        return self.network.paired(self.theta[z[:, 0]], x)

    def center(self, x: Tensor) -> Tensor:
        return self.network(self.theta, x).mean(0)

    def chains(self, x: Tensor) -> Tensor:
        """Every draw in the order it was made: x [B, *] -> [chains, S, B, *out]."""
        return self.network(self.theta, x).unflatten(0, self.shape)

    # --- fit ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, progress: bool = True) -> list[int]:
        """Draw from the posterior of a data set; deterministic after `torch.manual_seed`.

        Returns how many transitions of each chain diverged after warm-up, [chains]; any says that draws may be biased.

        Arguments:
            x: inputs [N, *].
            y: targets [N] or [N, K], or class numbers [N] int64 for a categorical likelihood.
            progress: whether to show a bar for each chain.

        Raises:
            ValueError: data that cannot be learned from, or too much of it.
        """
        check(self, x, y)
        if len(x) > LARGEST:
            raise ValueError(f"got {len(x)} observations, wanted {LARGEST} or fewer: use SGMCMC")
        y = y[:, None] if y.dim() == 1 and y.is_floating_point() else y
        loc, std = self.prior.loc, self.prior.std().detach()

        def potential(site: dict[str, Tensor]) -> Tensor:
            eps = site["eps"]
            out = self.network.one(loc + std * eps, x)[None]
            log_p = self.likelihood(out).log_prob(y[None]).sum()
            return (0.5 * eps.square().sum() - log_p) / self.temperature

        divergences = []
        for chain in self.theta.view(*self.shape, -1):
            start = {"eps": (chain[0] - loc) / std}
            mcmc = MCMC(Kernel(potential_fn=potential), len(chain), self.warmup, start, disable_progbar=not progress)
            with pyro.validation_enabled(False), torch.enable_grad():
                mcmc.run()
            chain.copy_(loc + std * mcmc.get_samples()["eps"])
            divergences.append(len(mcmc.diagnostics()["divergences"]["chain 0"]))
        return divergences

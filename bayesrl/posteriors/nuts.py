"""`NUTS`: exact samples of a small network's posterior, a reference for the approximate methods.

    U(theta) = -sum_i log p(y_i | f_theta(x_i)) - log p(theta)
    target:  p(theta | data)^(1 / T), proportional to exp(-U(theta) / T)

Pyro draws the samples, by Hamiltonian dynamics that stop at a U-turn, with step sizes and scales adapted during warm-up
(Hoffman & Gelman, The No-U-Turn Sampler, 2014). The sampled variable is eps = (theta - loc) / std, with the
prior Normal(0, I). `chains(x)` returns function values for R-hat and the effective sample size; weights do not suit
them, because hidden units can be permuted.
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

LARGEST = 10_000  # limit of the numbers of weights and of observations


class NUTS(Posterior):
    """Samples of all weights of a network; the index z is a sample's number, [n, 1] int64.

    Before `fit` they are samples of the prior. The method needs all the data at every step, so that it is not a
    `Learner`. Parameters of the likelihood and of the prior do not change.

    Arguments:
        network: the network whose weights are random; A outputs.
        chains: number of independent chains, which run one after the other.
        warmup: transitions of each chain for adaptation, which are discarded.
        samples: S, the number of samples of each chain.
        prior: maps the network to the prior over its weights.
        temperature: T of the target.
        likelihood: maps an output to the distribution of its target.
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
        """Draw stratified indices: successive ones, as many as there are samples, contain every sample once."""
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
        """Evaluate every sample in the order of its chain: x [B, *] -> [chains, S, B, *out]."""
        return self.network(self.theta, x).unflatten(0, self.shape)

    # --- fit ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, progress: bool = True) -> list[int]:
        """Sample the posterior of a data set; the result is deterministic after `torch.manual_seed`.

        Arguments:
            x: inputs, [N, *].
            y: targets, [N] or [N, K], or class labels [N] int64 for a categorical likelihood.
            progress: whether to show a progress bar for each chain.

        Returns:
            The number of divergent transitions of each chain after warm-up; samples may be biased if any diverged.

        Raises:
            ValueError: data with a wrong type, shape or value, or more observations than the method can use.
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

"""Are the uncertainties right? Coverage of what happened by what was predicted, before it was learned from.

Shapes: n draws, E environments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mixture_interval(draws: Tensor, noise: Tensor | float, level: float = 0.9) -> Tensor:
    """Central interval of an equal mixture of Normal(draw, noise^2): draws [n, *] -> [2, *].

    Quantiles of the draws each spread by 40 equally likely standard normal values; exact as both counts grow.
    """
    p = (torch.arange(40, device=draws.device, dtype=draws.dtype) + 0.5) / 40
    spread = torch.special.ndtri(p).view(-1, *(1 for _ in draws.shape)) * noise
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], device=draws.device, dtype=draws.dtype)
    return (draws + spread).flatten(0, 1).quantile(tails, 0)


class ReturnCalibration(nn.Module):
    """Does the 90 % band of the return, predicted as an episode begins, cover the return that follows?

    The band is the mixture over posterior draws of the value at the first observation, widened by a return noise that
    is learned from earlier episodes: the mean squared error of the predictive mean less the epistemic variance, with a
    forgetting of 1/50 an episode. Truncated episodes have no realised return; they are left out and counted.

    Arguments:
        num_envs: E.
        window: episodes the coverage is averaged over.
    """

    value: Tensor
    variance: Tensor
    band: Tensor
    noise: Tensor
    hits: Tensor
    counts: Tensor

    def __init__(self, num_envs: int, window: int = 100) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((num_envs,), torch.nan))
        self.register_buffer("variance", torch.zeros(num_envs))
        self.register_buffer("band", torch.full((2, num_envs), torch.nan))
        self.register_buffer("noise", torch.zeros(()))  # variance of the return around the value
        self.register_buffer("hits", torch.full((window,), torch.nan))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # scored, left out

    def predict(self, env: Tensor, draws: Tensor) -> None:
        """Values draws [n, k] of the episodes that begin in environments env [k]."""
        self.value[env] = draws.mean(0)
        self.variance[env] = draws.var(0, correction=0)
        self.band[:, env] = mixture_interval(draws, self.noise_std)

    def score(self, env: int, discounted: float, truncated: bool) -> None:
        """The discounted return of the episode that ended in environment `env`."""
        if truncated or not self.value[env].isfinite():
            self.counts[1] += int(truncated)
            return
        self.hits[self.counts[0] % len(self.hits)] = float(self.band[0, env] <= discounted <= self.band[1, env])
        excess = (discounted - self.value[env]).square() - self.variance[env]
        rate = max(1 / (int(self.counts[0]) + 1), 1 / 50)
        self.noise += rate * (excess - self.noise)
        self.counts[0] += 1

    @property
    def noise_std(self) -> Tensor:
        """Standard deviation of the return around the value, 0-d, in return units."""
        return self.noise.clamp(min=0).sqrt()

    @property
    def coverage(self) -> float:
        """Share of the last `window` scored episodes whose return lay in its band; NaN before the first."""
        return float(self.hits.nanmean())

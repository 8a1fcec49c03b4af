"""Calibration of predicted returns, updated as episodes end.

Shapes: n draws, E environments.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bayesrl.metrics.calibration import mixture_quantiles, quantile_ece


class ReturnCalibration(nn.Module):
    """Compare each episode's return with the distribution that was predicted at its first observation.

    The prediction is the mixture over posterior draws of the value at the first observation, widened by a return noise
    that is estimated from earlier episodes: the mean squared error of the predictive mean minus the epistemic variance,
    averaged with a rate of at least 1/50 per episode. The prediction is stored as its quantiles 0.05, 0.10, ..., 0.95;
    the 90 % band lies between the outermost two. A truncated episode has no complete return: it is counted, not scored.

    Arguments:
        num_envs: E.
        window: number of the latest episodes that the statistics cover.
    """

    value: Tensor
    variance: Tensor
    quantiles: Tensor
    noise: Tensor
    pits: Tensor
    squares: Tensor
    counts: Tensor

    def __init__(self, num_envs: int, window: int = 100) -> None:
        super().__init__()
        self.register_buffer("value", torch.full((num_envs,), torch.nan))
        self.register_buffer("variance", torch.zeros(num_envs))
        self.register_buffer("quantiles", torch.full((19, num_envs), torch.nan))
        self.register_buffer("noise", torch.zeros(()))  # variance of the return around the value
        self.register_buffer("pits", torch.full((window,), torch.nan))
        self.register_buffer("squares", torch.full((2, window), torch.nan))  # squared errors, observed and predicted
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))  # episodes that were scored and that were not

    def predict(self, env: Tensor, draws: Tensor) -> None:
        """Store the predictions of episodes that begin: value draws [n, k] in environments env [k]."""
        self.value[env] = draws.mean(0)
        self.variance[env] = draws.var(0, correction=0)
        levels = torch.arange(1, 20, device=draws.device) / 20
        self.quantiles[:, env] = mixture_quantiles(draws, self.noise_std, levels)

    def score(self, env: int, discounted: float, truncated: bool) -> None:
        """Score the discounted return of the episode that ended in environment `env`."""
        if truncated or not self.value[env].isfinite():
            self.counts[1] += int(truncated)
            return
        predicted = self.quantiles[:, env]
        rank = ((predicted < discounted).sum() + (predicted <= discounted).sum()) / 2
        slot = self.counts[0] % len(self.pits)
        self.pits[slot] = (rank + 0.5) / 20
        error = (discounted - self.value[env]).square()
        self.squares[:, slot] = torch.stack([error, self.variance[env] + self.noise.clamp(min=0)])
        excess = error - self.variance[env]
        rate = max(1 / (int(self.counts[0]) + 1), 1 / 50)
        self.noise += rate * (excess - self.noise)
        self.counts[0] += 1

    @property
    def noise_std(self) -> Tensor:
        """Standard deviation of the return around the value, 0-d, in return units."""
        return self.noise.clamp(min=0).sqrt()

    @property
    def coverage(self) -> float:
        """Share of the last `window` scored episodes with a return inside the 90 % band; NaN before the first."""
        return float((self.scored - 0.5).abs().lt(0.475).float().mean())

    @property
    def error(self) -> tuple[float, float]:
        """Root mean squared error over the last scored episodes and its predicted value, both in return units.

        The two agree for a calibrated posterior; the first is larger for an overconfident one. NaN before the first
        scored episode.
        """
        error, predicted = self.squares.nanmean(1).sqrt().tolist()
        return error, predicted

    @property
    def scored(self) -> Tensor:
        """PIT values of the last `window` scored episodes, in 20 bins; uniform if calibrated."""
        return self.pits[self.pits.isfinite()]

    @property
    def ece(self) -> float:
        """Quantile ECE of the last `window` scored episodes; NaN before the first."""
        return float(quantile_ece(self.scored, levels=20)) if len(self.scored) else math.nan

"""Diagnostics of posterior inference: simulation-based calibration, Pareto-smoothed importance sampling, R-hat, ESS.

    sbc_ranks, sbc_chi2            exact posterior: the rank of the truth among posterior draws is uniform
    psis                           good approximation: k-hat of the importance weights p / q below 0.7
    rhat, ess_bulk, ess_tail       mixed chains: R-hat below 1.01, and an ESS above 100 per chain

Definitions: Talts et al. (Validating Bayesian Inference Algorithms with Simulation-Based Calibration, 2018); Vehtari et
al. (Pareto Smoothed Importance Sampling, 2024); Vehtari et al. (Rank-Normalization, Folding, and Localization: An
Improved R-hat, 2021).

Shapes: n draws; * is any shape, whose elements are treated separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from pyro.ops.stats import fit_generalized_pareto
from torch import Tensor

from bayesrl.metrics.checks import check_values

Data = TypeVar("Data")

# --- simulation-based calibration ------------------------------------------------------------------------------------


def sbc_ranks(
    prior: Callable[[], Tensor],
    simulator: Callable[[Tensor], Data],
    posterior: Callable[[Data], Tensor],
    repetitions: int,
) -> Tensor:
    """Compute ranks of the truth among posterior draws, on simulated data sets.

    Arguments:
        prior: returns one draw of continuous quantities, [*].
        simulator: maps such a draw to a data set.
        posterior: maps a data set to n independent draws of the same quantities, [n, *].
        repetitions: number of data sets.

    Returns:
        Ranks, [repetitions, *] int64, uniform on 0..n for an exact posterior.
    """
    if repetitions < 1:
        raise ValueError(f"got repetitions={repetitions}, wanted at least 1")
    ranks = []
    for _ in range(repetitions):
        truth = prior()
        draws = posterior(simulator(truth))
        check_values("truth", truth)
        check_values("draws", draws, dims=1)
        if draws.shape[1:] != truth.shape:
            raise ValueError(f"got draws {list(draws.shape)} of a truth {list(truth.shape)}, wanted [n, *] of [*]")
        ranks.append((draws < truth).sum(0))
    return torch.stack(ranks)


def sbc_chi2(ranks: Tensor, draws: int, bins: int = 20) -> Tensor:
    """Compute Pearson's chi-squared statistic of ranks against the uniform distribution.

    For uniform ranks the mean is bins - 1 and the variance 2 (bins - 1); the p-value is
    gammaincc((bins - 1) / 2, chi2 / 2).

    Arguments:
        ranks: ranks among n draws, [repetitions, *] int64, with 5 or more repetitions per bin.
        draws: n.
        bins: number of bins, which divides n + 1.

    Returns:
        The statistic, [*].
    """
    if bins < 2 or (draws + 1) % bins:
        raise ValueError(f"got {draws} draws and {bins} bins, wanted 2 or more bins that divide draws + 1")
    if ranks.dim() < 1 or len(ranks) < 5 * bins or ranks.min() < 0 or ranks.max() > draws:
        raise ValueError(f"got ranks {list(ranks.shape)}, wanted {5 * bins} or more, each in 0..{draws}")
    index = ranks * bins // (draws + 1)
    counts = (index[..., None] == torch.arange(bins, device=ranks.device)).sum(0)
    expected = len(ranks) / bins
    return (counts - expected).square().sum(-1) / expected


# --- importance sampling ---------------------------------------------------------------------------------------------


class PSIS(NamedTuple):
    """Importance weights with a smoothed tail.

    Attributes:
        log_weights: normalized log-weights, so that weights sum to 1 over draws, [n, *].
        khat: tail index of the raw weights, [*]. Above min(1 - 1 / log10(n), 0.7) neither the weights nor the
            approximation are reliable; -inf if the largest weights are all equal, +inf if fewer than five weights
            are in the tail.
    """

    log_weights: Tensor
    khat: Tensor


def psis(log_weights: Tensor) -> PSIS:
    """Smooth the importance weights p / q of draws from q.

    A generalized Pareto distribution is fitted to the min(n / 5, 3 sqrt(n)) largest weights, which are replaced by its
    quantiles, truncated at the largest raw weight.

    Arguments:
        log_weights: log p(draw) - log q(draw) up to a constant, [n, *].
    """
    check_values("log_weights", log_weights, dims=1, finite=False)
    n = len(log_weights)
    if n < 25:
        raise ValueError(f"got {n} draws, wanted at least 25: k-hat is fitted to the largest fifth")
    if not log_weights.amax(0).isfinite().all():
        raise ValueError("got log_weights whose largest is infinite, wanted a finite one: some draw must have p > 0")
    columns = log_weights.double().reshape(n, -1).unbind(1)
    smoothed, khat = zip(*(_smooth(x) for x in columns), strict=True)
    weights, indices = torch.stack(smoothed, 1).view_as(log_weights), torch.stack(khat).view(log_weights.shape[1:])
    return PSIS(weights.to(log_weights.dtype), indices.to(log_weights.dtype))


def _smooth(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth one set of log-weights: x [n] float64 -> normalized log-weights [n] and k-hat, 0-d."""
    x = x - x.max()
    ordered, order = x.sort()
    size = math.ceil(min(len(x) / 5, 3 * len(x) ** 0.5))
    cutoff = ordered[-size - 1].exp().clamp(min=torch.finfo(x.dtype).tiny)
    tail = ordered.exp() - cutoff
    tail = tail[tail > 0]
    size = len(tail)
    if 0 < size < 5:
        return x.log_softmax(0), x.new_tensor(math.inf)
    if size == 0 or tail[0] == tail[-1]:
        return x.log_softmax(0), x.new_tensor(-math.inf)
    k, scale = fit_generalized_pareto(tail.cpu())  # it computes on the CPU
    p = (torch.arange(size, device=x.device, dtype=x.dtype) + 0.5) / size
    quantiles = scale * torch.expm1(-k * torch.log1p(-p)) / k + cutoff
    return x.scatter(0, order[-size:], quantiles.log().clamp(max=0)).log_softmax(0), x.new_tensor(k)


# --- Markov chains ---------------------------------------------------------------------------------------------------


def rhat(chains: Tensor) -> Tensor:
    """Compute the rank-normalized split R-hat: chains [chains, draws, *] -> [*], NaN for constant values.

    R-hat is the square root of the total over the within-chain variance of normal scores, over half chains. The result
    is the larger one of the bulk R-hat and of the folded R-hat, which detects chains that differ in scale.
    """
    _chains(chains)
    folded = (chains - _quantile(chains, 0.5)).abs()
    return torch.maximum(_rhat(_normal_scores(_split(chains))), _rhat(_normal_scores(_split(folded))))


def ess_bulk(chains: Tensor) -> Tensor:
    """Compute the effective sample size of normal scores, for means: chains [chains, draws, *] -> [*]."""
    _chains(chains)
    return _ess(_normal_scores(_split(chains)))


def ess_tail(chains: Tensor) -> Tensor:
    """Compute the smaller effective sample size of the 5 % and 95 % quantiles: chains [chains, draws, *] -> [*]."""
    _chains(chains)
    low, high = (_ess(_split((chains <= _quantile(chains, p)).to(chains.dtype))) for p in (0.05, 0.95))
    return torch.fmin(low, high)


def _chains(chains: Tensor) -> None:
    check_values("chains", chains, dims=2)
    if chains.shape[1] < 4:
        raise ValueError(
            f"got {chains.shape[1]} draws a chain, wanted at least 4: chains [chains, draws, *] are halved"
        )


def _quantile(chains: Tensor, p: float) -> Tensor:
    """Interpolate order statistics over all chains; `torch.quantile` accepts no more than 16 million values."""
    ordered = chains.flatten(0, 1).sort(0).values
    at = p * (len(ordered) - 1)
    return ordered[int(at)].lerp(ordered[math.ceil(at)], at - int(at))


def _split(chains: Tensor) -> Tensor:
    """Return halves of chains as chains, without the middle draw of an odd number."""
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]])


def _normal_scores(chains: Tensor) -> Tensor:
    """Return Phi^-1((rank - 3/8) / (n + 1/4)) of the ranks over all chains, with average ranks of ties."""
    flat = chains.flatten(0, 1).movedim(0, -1).contiguous()
    ordered = flat.sort(-1).values
    rank = (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1).to(flat.dtype) / 2
    score = torch.special.ndtri((rank - 0.375) / (flat.shape[-1] + 0.25))
    return score.movedim(-1, 0).view_as(chains)


def _rhat(chains: Tensor) -> Tensor:
    draws = chains.shape[1]
    within = chains.var(1).mean(0)
    return ((draws - 1) / draws + chains.mean(1).var(0) / within).sqrt()


def _ess(chains: Tensor) -> Tensor:
    """Compute draws / (-1 + 2 sum of autocorrelations) by Geyer's initial monotone sequence: [chains, draws, *] -> [*].

    Autocorrelations relate to the variance within and between chains. Those of the lags 2k and 2k + 1 are summed in
    pairs up to the first pair that is not positive; each pair is limited by the one before.
    """
    m, draws = chains.shape[:2]
    centered = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centered, 2 * draws, dim=1).abs().square()
    covariance = torch.fft.irfft(spectrum, 2 * draws, dim=1)[:, :draws].mean(0) / draws
    total = covariance[0] + chains.mean(1).var(0)
    rho = 1 - (covariance[0] * (draws / (draws - 1)) - covariance) / total
    rho = torch.cat([total[None] / total, rho[1:]])  # 1, or NaN where all draws are equal
    pairs = max(1, (draws - 1) // 2)
    even, odd = rho[: 2 * pairs].unflatten(0, (pairs, 2)).unbind(1)
    alive = ((even + odd)[:-1] > 0).cumprod(0)
    pairs_sum = ((even + odd).cummin(0).values[:-1] * alive).sum(0)
    last = even.gather(0, alive.sum(0, keepdim=True))[0].clamp(min=0)
    return m * draws / (2 * pairs_sum + last - 1).clamp(min=1 / math.log10(m * draws))

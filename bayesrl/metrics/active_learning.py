"""Active learning: choose the inputs of a pool to label next, by the epistemic uncertainty of a posterior.

    highest     the k largest epistemic uncertainties: variance over draws, or for classes the mutual information of
                label and draw, "BALD" (Houlsby et al., Bayesian Active Learning for Classification, 2011)
    query       a greedy choice of the set with the most informative labels,
                    i_j = argmax_i sum_k log(1 + C_kk(x_i, x_i | x_i1 ... x_ij-1) / noise_k(x_i)) / 2

C is the covariance over draws of the expected targets, conditioned on the labels of the inputs chosen before as if all
were jointly Gaussian, so that near-duplicates are not chosen together (as in BatchBALD: Kirsch et al., 2019). For one
Gaussian target this is greedy D-optimal design, with at least 1 - 1/e of the optimal set's information (Krause, Singh &
Guestrin, Near-Optimal Sensor Placements in Gaussian Processes, 2008).

Shapes: n draws, N inputs of a pool, k queries, K targets (C classes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrl.posteriors.base import Posterior


def highest(posterior: Posterior, pool: Tensor, k: int, n: int = 100) -> Tensor:
    """Return the k inputs of a pool with the largest epistemic uncertainty.

    Arguments:
        posterior: the posterior whose uncertainty counts.
        pool: inputs, [N, *].
        k: number of inputs to choose.
        n: number of draws.

    Returns:
        Distinct row numbers of the pool, [k] int64, the largest uncertainty first.
    """
    _check(pool, k, n)
    return posterior.predict(pool, n).epistemic.reshape(len(pool), -1).sum(1).topk(k).indices


@torch.no_grad()
def query(posterior: Posterior, pool: Tensor, k: int, n: int = 100) -> Tensor:
    """Return the k inputs of a pool whose labels are jointly most informative, by greedy choice.

    Arguments:
        posterior: the posterior to learn about.
        pool: inputs, [N, *].
        k: number of inputs to choose.
        n: number of draws.

    Returns:
        Distinct row numbers of the pool, [k] int64, in the order of choice.
    """
    _check(pool, k, n)
    likelihood = posterior.likelihood
    draws, noise = [], []
    for rows in pool.split(256):
        out = posterior.sample(rows, n)
        draws.append(likelihood.mean(out))
        noise.append(likelihood.variance(out).mean(0))
    return greedy(torch.cat(draws, 1), torch.cat(noise), k)


def greedy(draws: Tensor, noise: Tensor, k: int) -> Tensor:
    """Return the choice of `query`.

    A label of column v of the centered draws F changes their covariance F^T F / n to that of the projected draws
    F - b v v^T F with b = 1 / (d + sqrt(d n noise)), d = v^T v + n noise.

    Arguments:
        draws: expected targets, [n, N, K].
        noise: variance of the labels' noise, [N, K].
        k: number of inputs to choose.

    Returns:
        Distinct row numbers, [k] int64.
    """
    F = draws - draws.mean(0)
    noise = noise.clamp(min=torch.finfo(noise.dtype).tiny)
    free = torch.ones(len(noise), dtype=torch.bool, device=noise.device)
    chosen = []
    for _ in range(k):
        gain = (F.square().mean(0) / noise).log1p().sum(-1)
        i = gain.where(free, -torch.inf).argmax()
        free[i] = False
        chosen.append(i)
        for c in range(F.shape[-1]):
            v, n_noise = F[:, i, c], len(F) * noise[i, c]
            d = v.square().sum() + n_noise
            F = F - v[:, None, None] * torch.einsum("n,nbk->bk", v, F) / (d + (d * n_noise).sqrt())
    return torch.stack(chosen)


def _check(pool: Tensor, k: int, n: int) -> None:
    if not 1 <= k <= len(pool) or n < 2:
        raise ValueError(
            f"got k={k}, n={n} for a pool of {len(pool)}, wanted k from 1 to {len(pool)} and n of 2 or more"
        )

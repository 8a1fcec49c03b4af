"""Active learning: which inputs of a pool to label next, by what a posterior does not know of them.

    highest     the k greatest epistemic parts: variance over draws, or for classes the mutual information between label
                and draw, "BALD" (Houlsby et al., Bayesian Active Learning for Classification, 2011)
    query       greedily the set whose labels tell most of the draws together,
                    i_j = argmax_i sum_k log(1 + C_kk(x_i, x_i | x_i1 ... x_ij-1) / noise_k(x_i)) / 2

C is the covariance over draws of the expected targets, conditioned on the labels of the inputs already picked as if
all were jointly Gaussian; so near-copies, whose labels would tell the same, are not picked together (as by BatchBALD:
Kirsch et al., 2019). For one Gaussian target it is greedy D-optimal design, which has 1 - 1/e of the best set's
information or more (Krause, Singh & Guestrin, Near-Optimal Sensor Placements in Gaussian Processes, 2008).

Shapes: n draws, N inputs of a pool, k queries, K targets (C classes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrl.posteriors.base import Posterior


def highest(posterior: Posterior, pool: Tensor, k: int, n: int = 100) -> Tensor:
    """The k inputs of pool [N, *] with the greatest epistemic part, best first: [k] int64, distinct."""
    _check(pool, k, n)
    return posterior.predict(pool, n).epistemic.reshape(len(pool), -1).sum(1).topk(k).indices


@torch.no_grad()
def query(posterior: Posterior, pool: Tensor, k: int, n: int = 100) -> Tensor:
    """The k inputs of pool [N, *] whose labels tell most together, the first pick first: [k] int64, distinct."""
    _check(pool, k, n)
    likelihood = posterior.likelihood
    draws, noise = [], []
    for rows in pool.split(256):
        out = posterior.sample(rows, n)
        draws.append(likelihood.mean(out))
        noise.append(likelihood.variance(out).mean(0))
    return greedy(torch.cat(draws, 1), torch.cat(noise), k)


def greedy(draws: Tensor, noise: Tensor, k: int) -> Tensor:
    """The picks of `query`: expected targets [n, N, K], their labels' noise variance [N, K] -> [k].

    A label of column v of the centred draws F makes the covariance F^T F / n one of projected draws, F - b v v^T F with
    b = 1 / (d + sqrt(d n noise)), d = v^T v + n noise.
    """
    F = draws - draws.mean(0)
    noise = noise.clamp(min=torch.finfo(noise.dtype).tiny)
    free = torch.ones(len(noise), dtype=torch.bool, device=noise.device)
    picked = []
    for _ in range(k):
        gain = (F.square().mean(0) / noise).log1p().sum(-1)
        i = gain.where(free, -torch.inf).argmax()
        free[i] = False
        picked.append(i)
        for c in range(F.shape[-1]):
            v, n_noise = F[:, i, c], len(F) * noise[i, c]
            d = v.square().sum() + n_noise
            F = F - v[:, None, None] * torch.einsum("n,nbk->bk", v, F) / (d + (d * n_noise).sqrt())
    return torch.stack(picked)


def _check(pool: Tensor, k: int, n: int) -> None:
    if not 1 <= k <= len(pool) or n < 2:
        raise ValueError(
            f"got k={k}, n={n} for a pool of {len(pool)}, wanted k from 1 to {len(pool)} and n of 2 or more"
        )

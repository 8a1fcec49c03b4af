"""Prequential scores of one-step predictions, on transitions that have not been learned from yet.

(Dawid, Present Position and Potential Developments: Statistical Theory, the Prequential Approach, 1984.) Shapes: n
draws, B transitions, K targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayesrl.metrics.calibration import gaussian_pit, mixture_crps, mixture_nll, quantile_ece
from bayesrl.posteriors import Batch, Posterior


@torch.no_grad()
def score(posterior: Posterior, batch: Batch, n: int = 50) -> dict[str, Tensor]:
    """Score one-step predictions, in units of the standardized targets.

    Arguments:
        posterior: a posterior with the likelihood `WithFlag`.
        batch: transitions with the targets [1, B, K + 1], the flag last.
        n: number of draws.

    Returns:
        0-d tensors by name. `nll` is that of the mixture over draws, summed over targets and averaged over transitions.
        `crps`, `coverage_90` and `ece` are over transitions and all targets but the flag, where each draw is a normal
        with its mean and variance; `epistemic_std` and `aleatoric_std` are root mean squares over the same. For
        predictions that are not finite, `nll` and `crps` are infinite and the others absent.
    """
    likelihood, out, y = posterior.likelihood, posterior.sample(batch.x, n), batch.y[0]
    mean, std = likelihood.mean(out)[..., :-1], likelihood.variance(out)[..., :-1].sqrt()
    log_p = likelihood(out).log_prob(y).sum(-1)
    if not (mean.isfinite().all() and std.isfinite().all()):
        worst = mean.new_tensor(torch.inf)
        return {"nll": worst, "crps": worst}
    values = gaussian_pit(mean, std, y[:, :-1]).mean(0)
    return {
        "nll": mixture_nll(log_p).mean(),
        "crps": mixture_crps(mean, std, y[:, :-1]).mean(),
        "coverage_90": ((values >= 0.05) & (values <= 0.95)).to(values.dtype).mean(),
        "ece": quantile_ece(values),
        "epistemic_std": mean.var(0, correction=0).mean().sqrt(),
        "aleatoric_std": std.square().mean().sqrt(),
    }

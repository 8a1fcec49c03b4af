"""The repr of a posterior and of its parts is one line with its size and its settings."""

from __future__ import annotations

import pytest
import torch

from bayesrl.likelihoods import Categorical, Gaussian, Heteroscedastic, Histogram, StudentT, WithFlag
from bayesrl.networks import mlp
from bayesrl.posteriors import NUTS, SGMCMC, Ensemble, FullRank, Hypermodel, LaplaceDiagonal, Point
from bayesrl.posteriors.sgmcmc import SGHMC
from bayesrl.priors import ARD, FanIn, Isotropic, PerLayer

NETWORK = mlp((4,), 2, hidden=[8])  # 5 x 8 + 9 x 2 = 58 weights


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (NETWORK, "Network(58 weights, 8 features, 2 outputs)"),
        (Hypermodel(NETWORK), "Hypermodel(58 weights, 20 draws an update, index_dim=4, prior_scale=0.3)"),
        (Ensemble(NETWORK, 3), "Ensemble(58 weights, 3 draws an update, prior_scale=0.3, mask=0.5)"),
        (Point(NETWORK), "Point(58 weights, 1 draw an update)"),
        (
            FullRank(NETWORK, temperature=0.5),
            "FullRank(58 weights, 1 draw an update, 18 random, prior=FanIn(gain=1.0), temperature=0.5)",
        ),
        (
            LaplaceDiagonal(NETWORK, Isotropic),
            "LaplaceDiagonal(58 weights, 1 draw an update, 58 random, prior=Isotropic(scale=1.0), temperature=1)",
        ),
        (
            SGMCMC(NETWORK, optimizer=SGHMC),
            "SGMCMC(58 weights, 10 draws an update, SGHMC, slots=1, prior=FanIn(gain=1.0), temperature=1)",
        ),
        (
            NUTS(NETWORK, chains=2, samples=5),
            "NUTS(58 weights, chains=2, samples=5, prior=FanIn(gain=1.0), temperature=1)",
        ),
        (Gaussian(0.2), "Gaussian(sigma=0.2)"),
        (StudentT(), "StudentT(df=4.0, scale=0.1)"),
        (Categorical(3), "Categorical(classes=3)"),
        (Histogram(), "Histogram(low=-5, high=5, bins=51)"),
        (WithFlag(Heteroscedastic()), "WithFlag(Heteroscedastic(min_sigma=0.001, max_sigma=10, beta=0.0))"),
        (FanIn(NETWORK, 2.0), "FanIn(gain=2.0)"),
        (ARD(NETWORK), "ARD(gain=1.0)"),
        (PerLayer(NETWORK, [1.0, 0.5]), "PerLayer(scales=[1.0, 0.5])"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_repr_is_one_line(made: object, text: str) -> None:
    assert repr(made) == text


def test_a_snapshot_has_a_repr_too() -> None:
    torch.manual_seed(0)
    posterior = SGMCMC(NETWORK, optimizer=SGHMC)
    assert repr(posterior.snapshot()) == repr(posterior)

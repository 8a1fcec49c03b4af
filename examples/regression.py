"""Fit posteriors to a data set with a gap, and compare what they know about the gap.

    python examples/regression.py --steps 1000

The data are a noisy sine on [-2, -0.5] and [0.5, 2]. The first three columns are epistemic standard deviations: a good
posterior is nearly sure where there are data, less so in the gap, and least so far away. The last column is the
negative log-likelihood of new points, where lower is better.
"""

import argparse
from functools import partial

import torch
from torch import Tensor

from bayesrl.likelihoods import Gaussian
from bayesrl.networks import mlp
from bayesrl.optim import Adam
from bayesrl.posteriors import Ensemble, Hypermodel, MeanField

NOISE = 0.1
POSTERIORS = {
    "hypermodel": partial(Hypermodel, prior_scale=1.0),
    "ensemble": partial(Ensemble, prior_scale=1.0),
    "mean_field": partial(MeanField, temperature=0.1),
}


def sample(n: int) -> tuple[Tensor, Tensor]:
    """Return inputs [n, 1] with a gap around 0, and noisy targets [n, 1]."""
    x = 0.5 + 1.5 * torch.rand(n, 1)
    x = torch.where(torch.rand(n, 1) < 0.5, x, -x)
    return x, torch.sin(3 * x) + NOISE * torch.randn(n, 1)


def negative_log_likelihood(mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    return -torch.distributions.Normal(mean, variance.sqrt()).log_prob(y).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="gradient updates for each posterior")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)  # small networks are fastest with one
    torch.manual_seed(0)
    x, y = sample(100)
    new_x, new_y = sample(1000)
    places = torch.tensor([[-1.2], [0.0], [4.0]])
    print(f"{'posterior':12}{'std on data':>14}{'in the gap':>14}{'far away':>14}{'NLL':>10}")
    for name, make in POSTERIORS.items():
        posterior = make(mlp((1,), 1), likelihood=Gaussian(NOISE), optimizer=partial(Adam, lr=2e-3))
        posterior.fit(x, y, updates=steps)
        _, epistemic, _ = posterior.predict(places)
        mean, between, noise = posterior.predict(new_x)
        stds = "".join(f"{std:14.3f}" for std in epistemic[:, 0].sqrt().tolist())
        print(f"{name:12}{stds}{negative_log_likelihood(mean, between + noise, new_y):10.2f}")


if __name__ == "__main__":
    main()

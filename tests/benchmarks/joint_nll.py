"""How right a posterior is where the truth is known: `python tests/benchmarks/joint_nll.py 10:100 2:20 [NAME ...]`.

In the manner of The Neural Testbed (Osband et al., 2022): a teacher, a random ReLU network D-50-50-1 of unit size,
gives N noisy targets, sd 0.3, at inputs from Normal(0, I_D). The same network with a posterior is taught them for 1,000
updates, and predicts the targets of tau inputs jointly,

    -log mean_z prod_t p(y_t | f_z(x_t)),

less what the teacher itself would give, in nats: 0 cannot be beaten on average. Inputs are tau new ones (tau = 1, 10),
or tau = 10 out of two new ones, each again and again with fresh noise: "dyadic", which asks for correlations where ten
inputs in many dimensions have few (Osband et al., Evaluating High-Order Predictive Distributions, 2022). From 1,000
draws and 100 sets of inputs; mean and standard deviation over seeds 100-109, each a teacher with its data.

An update's cost is that of CPU time, as a multiple of `point`'s. A problem D:N takes 5 to 7 minutes of CPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from regularization import POSTERIORS, SEEDS, SIGMA, UPDATES
from torch import Tensor

from bayesrl.likelihoods import Gaussian
from bayesrl.metrics.calibration import gaussian_nll, joint_nll
from bayesrl.networks import mlp
from bayesrl.priors import FanIn

DRAWS, SETS, TAU = 1000, 100, 10


def teacher(D: int) -> Callable[[Tensor], Tensor]:
    """A function of the `FanIn` prior, scaled to variance 1 over its inputs: [N, D] -> [N]."""
    network = mlp((D,), 1, hidden=[50, 50])
    theta = FanIn(network).std() * torch.randn(network.size)
    out = network.one(theta, torch.randn(10_000, D))
    return lambda x: ((network.one(theta, x) - out.mean()) / out.std())[:, 0]


def excess(f: Tensor, mean: Tensor) -> float:
    """Joint NLL of noisy targets under draws [n, SETS, tau], less that under the truth [SETS, tau], in nats a set."""
    y = mean + SIGMA * torch.randn(mean.shape)
    return float((joint_nll(-gaussian_nll(f, SIGMA, y)) - gaussian_nll(mean, SIGMA, y).sum(-1)).mean())


@torch.no_grad()
def score(make: Callable, D: int, N: int, seed: int) -> tuple[float, float, float, float]:
    """Excess at one input, at ten, dyadic; and the CPU seconds of fitting."""
    torch.manual_seed(seed)
    truth, x, new = teacher(D), torch.randn(N, D), torch.randn(SETS * TAU, D)
    posterior = make(mlp((D,), 1, hidden=[50, 50]), likelihood=Gaussian(SIGMA))
    begin = time.process_time()
    with torch.enable_grad():
        posterior.fit(x, truth(x) + SIGMA * torch.randn(N), updates=UPDATES, progress=False)
    seconds = time.process_time() - begin
    f, mean = posterior.sample(new, DRAWS).view(DRAWS, SETS, TAU), truth(new).view(SETS, TAU)
    pair = torch.randint(2, (SETS, TAU))
    dyadic = f.gather(2, pair.expand_as(f)), mean.gather(1, pair)
    return excess(f[..., :1], mean[:, :1]), excess(f, mean), excess(*dyadic), seconds


def main() -> None:
    torch.set_num_threads(1)
    problems, names = ([word for word in sys.argv[1:] if (":" in word) == yes] for yes in (True, False))
    for problem in problems or ["10:100"]:
        D, N = map(int, problem.split(":"))
        print(f"\n| D = {D}, N = {N} | tau = 1 | tau = 10 | tau = 10, dyadic | an update |\n|---|---|---|---|---|")
        base = 0.0
        for name in ["point", *names] if names else POSTERIORS:
            make = POSTERIORS[name]
            scores = list(zip(*(score(make, D, N, seed) for seed in SEEDS), strict=True))
            seconds = statistics.median(scores[-1])
            base = base or seconds
            columns = [f"{statistics.mean(s):.2f} ± {statistics.stdev(s):.2f}" for s in scores[:-1]]
            print(f"| {name} | {' | '.join(columns)} | {seconds / base:.1f} |", flush=True)


if __name__ == "__main__":
    main()

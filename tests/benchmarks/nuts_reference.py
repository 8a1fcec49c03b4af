"""How far each posterior is from the exact one.

    python tests/benchmarks/nuts_reference.py FOLDER FIRST-LAST [NAME ...]

Data sets FIRST to LAST: 40 noisy observations of sin(3 x) on both sides of a gap; an MLP with 50 hidden units, sigma =
0.2, double precision. The reference is NUTS with four chains, whose draws are kept in FOLDER and taken from it again.
Every other posterior has the same likelihood and, where it takes one over weights, the same prior; those with frozen
prior functions have them of standard deviation 1, about that of the reference's prior.

Printed for each, over 400 draws: the mean 1-Wasserstein distance of f(x) from the reference's on the data, and in the
gap and just outside; the epistemic standard deviation on the data and far away as a multiple of the reference's; and
the ratio of these two, above 1 where distance makes it more uncertain than it should. Means over the data sets, with
their standard deviations.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bayesrl.posteriors as posteriors
from bayesrl.likelihoods import Gaussian
from bayesrl.metrics.diagnostics import ess_bulk, rhat
from bayesrl.networks import mlp
from bayesrl.networks.network import Network
from bayesrl.optim import Adam
from bayesrl.posteriors import NUTS, Posterior
from bayesrl.posteriors.sgmcmc import PSGLD, SGHMC, SGLD, AdamLangevin

SIGMA = 0.2
ADAM = {"optimizer": partial(Adam, lr=5e-3)}
CHAINS = {"chains": 20, "slots": 5, "thin": 1000}
POSTERIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "point": ("Point", ADAM),
    "ensemble": ("Ensemble", ADAM | {"members": 20, "prior_scale": 1.0}),
    "hypermodel": ("Hypermodel", ADAM | {"prior_scale": 1.0}),
    "mean_field": ("MeanField", ADAM),
    "low_rank": ("LowRank", ADAM),
    "full_rank, network": ("FullRank", ADAM | {"cover": "network"}),
    "last_layer": ("LastLayer", ADAM),
    "laplace, diagonal": ("LaplaceDiagonal", ADAM),
    "laplace, last layer": ("Laplace", ADAM),
    "dropout": ("Dropout", ADAM),
    "concrete_dropout": ("ConcreteDropout", ADAM),
    "sgld": ("SGMCMC", CHAINS | {"optimizer": partial(SGLD, lr=1e-3)}),
    "psgld": ("SGMCMC", CHAINS | {"optimizer": partial(PSGLD, lr=1e-3)}),
    "sghmc": ("SGMCMC", CHAINS | {"optimizer": partial(SGHMC, lr=3e-4, friction=0.03)}),
    "adam_langevin": ("SGMCMC", CHAINS | {"optimizer": partial(AdamLangevin, lr=1e-3)}),
}
UPDATES = 5000
SIDES = ((-1.2, -0.4), (0.4, 1.2))
ON, AROUND, FAR = (
    torch.cat([torch.linspace(low, high, 6, dtype=torch.float64) for low, high in spans])[:, None]
    for spans in (SIDES, ((-2.0, -1.3), (-0.3, 0.3), (1.3, 2.0)), ((-4.0, -3.0), (3.0, 4.0)))
)
INPUTS = torch.cat([ON, AROUND, FAR])


def data(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(SIDES, dtype=torch.float64).repeat_interleave(20, 0).unbind(1)
    x = low + (high - low) * torch.rand(40, generator=generator, dtype=torch.float64)
    y = torch.sin(3 * x) + SIGMA * torch.randn(40, generator=generator, dtype=torch.float64)
    return x[:, None], y


def network() -> Network:
    return mlp((1,), 1, hidden=[50], prior=[50])


def reference(file: Path, seed: int) -> Tensor:
    """Functions of NUTS at the inputs, sampled or from the file: [chains, draws, inputs]."""
    torch.manual_seed(0)
    posterior = NUTS(network(), warmup=200, samples=200, likelihood=Gaussian(SIGMA)).double()
    if not file.exists():
        begin = time.process_time()
        divergences = posterior.fit(*data(seed))
        state = posterior.state_dict()
        torch.save({"state": state, "divergences": divergences, "seconds": time.process_time() - begin}, file)
    kept = torch.load(file)
    posterior.load_state_dict(kept["state"])
    f = posterior.chains(INPUTS)[..., 0]
    print(
        f"data set {seed}: {f.shape[0]} chains of {f.shape[1]}, R-hat of f at most {rhat(f).max():.3f}, ESS at least "
        f"{ess_bulk(f).min():.0f}, divergences {kept['divergences']}, {kept['seconds']:.0f} s of CPU",
        flush=True,
    )
    return f


def fitted(name: str, seed: int) -> Posterior:
    """The posterior of that name, taught a data set."""
    kind, options = POSTERIORS[name]
    make: Callable = getattr(posteriors, kind)
    torch.manual_seed(1)
    posterior = make(network(), likelihood=Gaussian(SIGMA), **options).double()
    posterior.fit(*data(seed), updates=UPDATES, progress=False)
    return posterior


def distance(f: Tensor, g: Tensor) -> Tensor:
    """1-Wasserstein distance of each column's draws, by their quantiles: [n, inputs] and [m, inputs] -> [inputs]."""
    levels = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    return (f.quantile(levels, 0) - g.quantile(levels, 0)).abs().mean(0)


def compared(f: Tensor, exact: Tensor) -> list[float]:
    """The columns of the table: draws [n, inputs] against the reference's."""
    parts = [len(ON), len(AROUND), len(FAR)]
    on, around, _ = (float(part.mean()) for part in distance(f, exact).split(parts))
    (near, _, far), (exact_near, _, exact_far) = (
        [float(part.mean()) for part in draws.std(0).split(parts)] for draws in (f, exact)
    )
    near, far = near / exact_near, far / exact_far
    return [on, around, near, far, far / near]


def row(name: str, numbers: list[list[float]]) -> str:
    """A line of the table, of each data set's numbers."""
    columns = zip(*numbers, strict=True)
    spread = statistics.stdev if len(numbers) > 1 else lambda _: 0.0
    return f"| {name} | {' | '.join(f'{statistics.mean(c):.3f} ± {spread(c):.3f}' for c in columns)} |"


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    folder, which, *names = sys.argv[1:]
    first, _, last = which.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    chains = {seed: reference(Path(folder) / f"nuts_{seed}.pt", seed) for seed in seeds}
    print("\n| posterior | W1 on the data | W1 around it | sd on the data | sd far away | ratio |\n" + "|---" * 6 + "|")
    halves = [compared(f[::2].flatten(0, 1), f[1::2].flatten(0, 1)) for f in chains.values()]
    print(row("NUTS, two chains against the other two", halves), flush=True)
    for name in names or POSTERIORS:
        numbers = []
        for seed, f in chains.items():
            with torch.enable_grad():
                posterior = fitted(name, seed)
            numbers.append(compared(posterior.sample(INPUTS, 400)[..., 0], f.flatten(0, 1)))
        print(row(name, numbers), flush=True)


if __name__ == "__main__":
    main()

"""Milliseconds an action of planning costs, and how they grow with each factor.

    python tests/benchmarks/planning.py [--actions 30] [--eager]

CEM in worlds of a posterior over networks 4-64-64-10 with ReLU (three numbers observed, one of action; mean-field, its
draws' means), captured unless --eager, one thread. The first row is 100 candidates x 5 particles x 5 iterations x
horizon 20; in each other row one factor is doubled. Medians of CPU time; compiling is not counted.
"""

from __future__ import annotations

import argparse
import math
import time
from statistics import median

import torch

from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.networks import mlp
from bayesrl.posteriors import MeanField
from bayesrl.rl.types import EnvSpec
from bayesrl.world_models.dynamics import Dynamics, signature
from bayesrl.world_models.mpc import MPC
from bayesrl.world_models.planners import CEM
from bayesrl.world_models.propagation import TSinf

SPEC = EnvSpec((3,), torch.float32, 1, bounds=((-2.0,), (2.0,)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", type=int, default=30)
    parser.add_argument("--eager", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    likelihood = WithFlag(Heteroscedastic())
    (width,), outputs = signature(SPEC)
    posterior = MeanField(mlp((width,), outputs, size=2, hidden=[64, 64]), likelihood=likelihood)
    first = {"candidates": 100, "particles": 5, "iterations": 5, "horizon": 20}
    print(f"{'':24} {'ms an action':>12} {'ratio':>6} {'compiled in s':>14}")
    base = 0.0
    for factor in ("", *first):
        size = first | ({factor: 2 * first[factor]} if factor else {})
        planner = CEM(size["horizon"], size["candidates"], size["iterations"])
        mpc = MPC(SPEC, Dynamics(SPEC, posterior), planner, TSinf())
        z, obs, start = posterior.index(size["particles"]), torch.randn(1, 3), torch.tensor([False])
        begin = time.perf_counter()
        if not args.eager:
            mpc.capture(z, False, math.inf, lambda text: None)
        compiled, times = time.perf_counter() - begin, []
        for _ in range(args.actions):
            begin = time.process_time()
            mpc.act(z, obs, start, noisy=False)
            times.append(1e3 * (time.process_time() - begin))
        base = base or median(times)
        name = f"twice the {factor}" if factor else "100 x 5 x 5 x 20"
        print(f"{name:24} {median(times):12.1f} {median(times) / base:6.2f} {compiled:14.0f}", flush=True)


if __name__ == "__main__":
    main()

"""Regret of a network's posterior beside exact posterior sampling, where states are few.

    python tests/benchmarks/tabular_regret.py river_swim|deep_sea FIGURE.svg [--seeds 100-109] [--episodes 300]

RiverSwim, six states, episodes of 120 steps, or DeepSea-8: cumulative regret, the sum over episodes of the optimal
expected return less the return that was had, with `tabular_psrl`, which knows that states are few and what its priors
are, and with `bayes_dqn`, hypermodel and epsilon-greedy `point`. Writes a figure, mean over seeds with 95 % bootstrap
bands, and prints the regret at the end, mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from bayesrl.envs.tasks.river_swim import river
from bayesrl.experiment import config as cfg
from bayesrl.experiment.build import build_agent, environments
from bayesrl.metrics.bootstrap import mean, resamples
from bayesrl.plotting.charts import Line, lines
from bayesrl.training.rollout import Rollout

STEPS = 120  # of an episode of RiverSwim
AGENTS = {
    "tabular_psrl": ["agent=tabular_psrl"],
    "hypermodel": ["agent.n_step=1", "prior_scale=1.0"],
    "point": ["agent.n_step=1", "posterior=point"],
}


def optimum() -> float:
    """Expected return of the best policy over an episode of RiverSwim, by dynamic programming."""
    P, R = river(6)
    value = np.zeros(len(R))
    for _ in range(STEPS):
        value = (R + P @ value).max(1)
    return float(value[0])


# Words of the environment, of networks in it, and the best expected return.
ENVIRONMENTS = {
    "river_swim": (["env=river_swim"], [], optimum()),
    "deep_sea": (["env=deep_sea", "env.kwargs.size=8"], ["agent.learning_starts=128"], 0.99),
}


def returns(words: list[str], episodes: int) -> list[float]:
    """Of the first training episodes of a run."""
    config = cfg.load(words)
    device = torch.device("cpu")
    torch.manual_seed(config.seed)
    envs, _ = environments(config, 1, config.env.vectorization, config.agent.discount, device)
    agent = build_agent(config, envs.spec, device)
    if hasattr(agent, "capture"):
        agent.capture(say=lambda line: None)
    rollout, out = Rollout(agent, envs, config.replay_ratio), list[float]()
    while len(out) < episodes:
        rollout.step()
        out += [episode.ret for episode in envs.finished]
    return out[:episodes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("environment", choices=ENVIRONMENTS)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--seeds", default="100-109", help="first-last, both included")
    parser.add_argument("--episodes", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    counts = resamples([len(seeds)], 2000, np.random.default_rng(0))
    shown_at = np.unique(np.linspace(1, options.episodes, min(100, options.episodes)).astype(int))
    words, tuned, best = ENVIRONMENTS[options.environment]
    drawn = {}
    for number, (agent, own) in enumerate(AGENTS.items()):
        given = [*words, *own, *(tuned if number else ())]
        had = np.array([returns([*given, f"seed={seed}"], options.episodes) for seed in seeds])
        regret = (best - had).cumsum(1)
        print(f"{agent}: {regret[:, -1].mean():.1f} +- {regret[:, -1].std(ddof=1):.1f}", flush=True)
        drawn[agent] = Line(shown_at.astype(float), mean(regret[:, shown_at - 1], counts), number)
    options.figure.write_text(lines("episodes", f"regret, of {best:.3g} an episode", drawn))


if __name__ == "__main__":
    main()

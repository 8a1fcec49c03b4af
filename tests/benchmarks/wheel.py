"""Cumulative regret on the wheel bandit, in percent of the uniform policy's.

    python tests/benchmarks/wheel.py --posterior last_layer --delta 0.5 0.9 0.95 0.99 --contexts 80000 --seeds 100-109

Environments, agent and settings are those of `experiment=wheel`; further words, such as likelihood.sigma=0.1, change
them. For comparison, NeuralLinear's mean regrets after 80,000 contexts are 0.95, 4.65, 9.56 and 49.6 % at delta 0.5,
0.9, 0.95 and 0.99 (Riquelme et al., Deep Bayesian Bandits Showdown, 2018).
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from bayesrl.envs import WheelVector
from bayesrl.experiment import config as cfg
from bayesrl.experiment.build import build_agent, environments
from bayesrl.training.rollout import Rollout


def play(words: list[str], contexts: int) -> tuple[float, float]:
    """One run: regret in percent of the uniform policy's, and seconds."""
    config = cfg.load(words)
    torch.manual_seed(config.seed)
    device = torch.device("cpu")
    envs, _ = environments(config, config.env.num_envs, "native", config.agent.discount, device)
    agent = build_agent(config, envs.spec, device)
    if config.capture:
        agent.capture()  # type: ignore[attr-defined]
    rollout = Rollout(agent, envs, config.replay_ratio)
    begin = time.perf_counter()
    while rollout.transitions < contexts:
        rollout.step()
    wheel = envs.env.unwrapped
    assert isinstance(wheel, WheelVector)
    return wheel.relative_regret, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posterior", default="last_layer")
    parser.add_argument("--delta", type=float, nargs="+", default=[0.5, 0.9, 0.95, 0.99])
    parser.add_argument("--contexts", type=int, default=80_000)
    parser.add_argument("--seeds", default="0-4", help="first-last, both included")
    options, words = parser.parse_known_args()
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    for delta in options.delta:
        regrets = []
        for seed in range(int(first), int(last or first) + 1):
            setting = [f"env.kwargs.delta={delta}", f"seed={seed}", f"posterior={options.posterior}"]
            regret, seconds = play(["experiment=wheel", *setting, *words], options.contexts)
            regrets.append(regret)
            print(f"delta {delta}, seed {seed}: {regret:.2f} % in {seconds:.0f} s", flush=True)
        spread = statistics.stdev(regrets) if len(regrets) > 1 else 0.0
        print(f"delta {delta}: {statistics.mean(regrets):.2f} +- {spread:.2f} % over {len(regrets)} seeds", flush=True)


if __name__ == "__main__":
    main()

"""What one update costs beside plain DQN updates: `python tests/benchmarks/update_cost.py [posterior ...]`.

MLP 4-128-128-2, batch 128, double Q, Polyak target, replay sampling included, every other setting its default; all
posteriors of the configuration unless some are named. CPU time of one thread; rounds are interleaved, so that a machine
that slows down slows them all; medians over rounds, of each round's ratios.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import pyro
import torch
from hydra import initialize_config_module
from peers import interleaved, plain, plain_compiled, ratio, stable_baselines3
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor

from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.compilation.capture import capture
from bayesrl.experiment import config
from bayesrl.experiment.build import build_agent
from bayesrl.posteriors import Batch
from bayesrl.rl.td import bellman
from bayesrl.rl.types import EnvSpec, Transition

ROUNDS, UPDATES = 15, 40


def filled(posterior: str) -> BayesDQN:
    """An agent with 1,000 random transitions."""
    settings = config.load([f"posterior={posterior}", "agent.capacity=2000", "agent.n_step=1"])
    agent = build_agent(settings, EnvSpec((4,), torch.float32, 2), torch.device("cpu"))
    valid = torch.ones(1, dtype=torch.bool)
    for _ in range(1000):
        done = torch.rand(1) < 0.05
        agent.observe(
            Transition(
                torch.randn(1, 4), torch.randint(2, (1,)), torch.randn(1), done, ~valid, torch.randn(1, 4), valid
            )
        )
    return agent


def stock() -> Callable[[], None]:
    """The hypermodel taught by `pyro.infer.SVI.step` with Pyro's own optimizer and ELBO."""
    agent = filled("hypermodel")
    posterior = agent.posterior

    def guide(batch: Batch, z: Tensor) -> None:
        pyro.module("posterior", posterior)
        posterior.guide(batch, z)

    svi = SVI(posterior.model, guide, pyro.optim.Adam({"lr": 5e-4}), TraceMeanField_ELBO())

    def update() -> None:
        z = posterior.index(posterior.draws)
        sample = agent.replay.gather(agent.replay.index(128))
        x, after = agent.normalizer.obs(sample.obs), agent.normalizer.obs(sample.next_obs)
        with torch.no_grad():
            value = agent.value(posterior.expected(z, after), agent.target.expected(z, after), None)
            y = bellman(sample.reward / agent.normalizer.scale, sample.discount, value)
        svi.step(Batch(x, sample.action, y, sample.weight.expand(len(z), -1), sample.size), z)
        with torch.no_grad():
            agent.target_update(agent.target.parameters(), posterior.parameters())

    return update


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with initialize_config_module("bayesrl.configs", version_base="1.3"):
        names = sys.argv[1:] or config.groups()["posterior"]
    peer = stable_baselines3()
    peer.learn(1000)
    made: dict[str, Callable] = {
        "Stable-Baselines3 DQN": lambda: peer.train(1, 128),
        "plain torch double DQN, eager": plain(),
        "plain torch double DQN, captured": plain_compiled(),
    }
    for name in names:
        made[f"{name}, eager"] = filled(name).learn
        agent = filled(name)
        example = agent.replay.index(128), agent.posterior.index(agent.posterior.draws)
        agent.step = capture(agent.update, agent, *example, name=name)
        made[f"{name}, captured"] = agent.learn
    made["hypermodel, pyro.infer.SVI.step"] = stock()
    seconds = interleaved(made, ROUNDS, UPDATES)
    bases = list(made)[:3]
    print("| update | CPU ms | of Stable-Baselines3's | of plain, eager | of plain, captured |\n|---|---|---|---|---|")
    for name, values in seconds.items():
        ratios = " | ".join(f"{ratio(values, seconds[base]):.2f}" for base in bases)
        print(f"| {name} | {statistics.median(values) * 1e3:.2f} | {ratios} |")


if __name__ == "__main__":
    main()

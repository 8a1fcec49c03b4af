"""What one update costs, in plain hand-written DQN updates: `python tests/benchmarks/update_cost.py [posterior ...]`.

MLP 4-128-128-2, batch 128, double Q, Polyak target, replay sampling included, every other setting its default; all
posteriors of the configuration unless some are named. One thread; rounds are interleaved, so that a machine that slows
down slows them all; medians over rounds.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable

import pyro
import torch
from hydra import initialize_config_module
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn

from bayesrl import config
from bayesrl.agent import EnvSpec, Transition
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.launch import build_agent
from bayesrl.posteriors import Batch
from bayesrl.td import bellman

ROUNDS, UPDATES = 15, 40


def plain() -> Callable[[], None]:
    """A double-DQN update written by hand in plain torch, in the manner of single-file implementations."""
    q = nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
    target, optimizer = copy.deepcopy(q), None
    optimizer = torch.optim.Adam(q.parameters(), lr=5e-4)
    obs, after = torch.randn(1000, 4), torch.randn(1000, 4)
    action, reward, ended = torch.randint(2, (1000, 1)), torch.randn(1000), torch.rand(1000) < 0.05

    def update() -> None:
        i = torch.randint(1000, (128,))
        with torch.no_grad():
            best = q(after[i]).argmax(1, keepdim=True)
            y = reward[i] + 0.99 * ~ended[i] * target(after[i]).gather(1, best)[:, 0]
        loss = nn.functional.mse_loss(q(obs[i]).gather(1, action[i])[:, 0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(target.parameters(), q.parameters(), strict=True):
                old.lerp_(new, 0.01)

    return update


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
    """The hypermodel taught by `pyro.infer.SVI.step` with Pyro's own optimiser and ELBO."""
    agent = filled("hypermodel")
    posterior = agent.posterior

    def guide(batch: Batch, z: Tensor) -> None:
        pyro.module("posterior", posterior)
        posterior.guide(batch, z)

    svi = SVI(posterior.model, guide, pyro.optim.Adam({"lr": 5e-4}), TraceMeanField_ELBO())

    def update() -> None:
        z = posterior.index(posterior.draws)
        sample = agent.replay.gather(agent.replay.index(128))
        x, after = agent.scaling.obs(sample.obs), agent.scaling.obs(sample.next_obs)
        with torch.no_grad():
            value = agent.value(posterior.expected(z, after), agent.target.expected(z, after), None)
            y = bellman(sample.reward / agent.scaling.scale, sample.discount, value)
        svi.step(Batch(x, sample.action, y, sample.weight.expand(len(z), -1), sample.size), z)
        with torch.no_grad():
            agent.tracking(agent.target.parameters(), posterior.parameters())

    return update


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with initialize_config_module("bayesrl.configs", version_base="1.3"):
        names = sys.argv[1:] or config.groups()["posterior"]
    made: dict[str, Callable] = {"plain torch double DQN, eager": plain()}
    for name in names:
        made[f"{name}, eager"] = filled(name).learn
        captured = filled(name)
        captured.capture()
        made[f"{name}, captured"] = captured.learn
    made["hypermodel, pyro.infer.SVI.step"] = stock()
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for update in made.values():
        for _ in range(3):
            update()
    for _ in range(ROUNDS):
        for name, update in made.items():
            begin = time.perf_counter()
            for _ in range(UPDATES):
                update()
            seconds[name].append((time.perf_counter() - begin) / UPDATES)
    base = statistics.median(seconds["plain torch double DQN, eager"])
    print("| update | ms, median | ratio |\n|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {median * 1e3:.2f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()

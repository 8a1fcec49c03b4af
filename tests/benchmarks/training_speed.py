"""Transitions per CPU second of training on CartPole-v1: `python tests/benchmarks/training_speed.py [rounds]`.

MLP 128-128, batch 128, one update for each transition, whatever the number of environments; after the first 600
transitions. Ours with the monitor that a run has. One thread; every round gives each its turn of 400 transitions;
medians over rounds, of each round's ratios. Compiling is not counted; the docs say what it takes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from peers import cleanrl, ratio, stable_baselines3

from bayesrl.experiment import config
from bayesrl.experiment.build import build_agent, environments
from bayesrl.training.monitor import Monitor
from bayesrl.training.rollout import Rollout

TURN = 400
Train = Callable[[int], None]  # so many transitions more


def theirs(num_envs: int) -> Train:
    model = stable_baselines3(num_envs)
    return lambda steps: model.learn(steps, reset_num_timesteps=False)


def single_file() -> Train:
    loop = cleanrl()

    def train(steps: int) -> None:
        for _ in range(steps):
            next(loop)

    return train


def ours(num_envs: int, captured: bool, *words: str) -> Train:
    settings = config.load([f"env.num_envs={num_envs}", *words])
    device = torch.device("cpu")
    envs, _ = environments(settings, num_envs, "auto", 0.99, device)
    agent = build_agent(settings, envs.spec, device)
    if captured:
        agent.capture()  # type: ignore[attr-defined]
    rollout, monitor = Rollout(agent, envs), Monitor(num_envs, 0)

    def train(steps: int) -> None:
        end = rollout.transitions + steps
        while rollout.transitions < end:
            monitor.before(agent, envs)
            rollout.step()
            monitor.after(envs)

    return train


def main(rounds: str = "5") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made: dict[str, Train] = {
        "Stable-Baselines3 DQN": theirs(1),
        "plain torch DQN in CleanRL's manner": single_file(),
        "Stable-Baselines3 DQN, 8 environments": theirs(8),
        "hypermodel, eager": ours(1, False),
        "hypermodel, captured": ours(1, True),
        "hypermodel, 8 environments, captured": ours(8, True),
    }
    for train in made.values():
        train(600)
    rates: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(int(rounds)):
        for name, train in made.items():
            begin = time.process_time()
            train(TURN)
            rates[name].append(TURN / (time.process_time() - begin))
    bases = list(made)[:2]
    print("| training | transitions per CPU second | of Stable-Baselines3's | of CleanRL's |\n|---|---|---|---|")
    for name, values in rates.items():
        ratios = " | ".join(f"{ratio(values, rates[base]):.2f}" for base in bases)
        print(f"| {name} | {statistics.median(values):,.0f} | {ratios} |")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What acting costs, every environment by a draw of its own: `python tests/benchmarks/acting_cost.py [posterior ...]`.

Beside a plain forward of the same MLP 4-128-128-2 with the greatest output chosen, for as many environments. Episodes
last 100 steps, so that now and then a draw is made. CPU time of one thread, rounds interleaved, medians.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from peers import interleaved, network, ratio

from bayesrl.compilation.capture import capture as compiled
from bayesrl.experiment import config
from bayesrl.experiment.build import build_agent
from bayesrl.rl.types import EnvSpec

ROUNDS, REPEAT, SIZES = 15, 50, (1, 8, 64, 256)


def forward(obs: torch.Tensor) -> Callable:
    q = network()

    @torch.no_grad()
    def act() -> torch.Tensor:
        return q(obs).argmax(1)

    return act


def acting(posterior: str, obs: torch.Tensor, captured: bool) -> Callable:
    settings = config.load([f"posterior={posterior}", "agent.capacity=10000", f"env.num_envs={len(obs)}"])
    agent = build_agent(settings, EnvSpec((4,), torch.float32, 2, len(obs)), torch.device("cpu"))
    agent.act(obs, torch.ones(len(obs), dtype=torch.bool))
    if captured:
        example = agent.exploration.noise(agent.posterior, torch.ones(len(obs), dtype=torch.bool))  # type: ignore[attr-defined]
        agent.choose = compiled(agent.decide, agent, obs, *example, name=posterior)  # type: ignore[attr-defined]
    starts = iter(torch.rand(100_000, len(obs)) < 0.01)
    return lambda: agent.act(obs, next(starts))


def main(*names: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| environments | acting | CPU us | of a plain forward |\n|---|---|---|---|")
    for E in SIZES:
        obs = torch.randn(E, 4)
        calls = {"plain forward": forward(obs)}
        for name in names or ("hypermodel", "mean_field", "ensemble"):
            for captured in (False, True):
                calls[f"{name}, {'captured' if captured else 'eager'}"] = acting(name, obs, captured)
        seconds = interleaved(calls, ROUNDS, REPEAT)
        for name, values in seconds.items():
            share = ratio(values, seconds["plain forward"])
            print(f"| {E} | {name} | {statistics.median(values) * 1e6:.0f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How cost grows: `python tests/benchmarks/growth.py FIGURE.svg [capture]`, a table and the figure.

Of the default hypermodel: an update against draws, width and replay size, acting and storing against environments; each
with the exponent of its growth over the last step. CPU time of one thread, rounds interleaved, medians.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from peers import interleaved

from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.compilation.capture import capture as compiled
from bayesrl.experiment import config
from bayesrl.experiment.build import build_agent
from bayesrl.plotting.svg import Curve, curves
from bayesrl.rl.types import EnvSpec, Transition

ROUNDS = 7
AXES: dict[str, tuple[int, ...]] = {
    "draws": (1, 3, 10, 30, 100),
    "width": (32, 64, 128, 256, 512),
    "replay size": (1_000, 10_000, 100_000, 1_000_000),
    "environments": (1, 8, 64, 512, 4096, 65_536),
}


def agent(*words: str, num_envs: int = 1) -> BayesDQN:
    settings = config.load([*words, f"env.num_envs={num_envs}"])
    return build_agent(settings, EnvSpec((4,), torch.float32, 2, num_envs), torch.device("cpu"))  # type: ignore[return-value]


def step(E: int) -> Transition:
    false = torch.zeros(E, dtype=torch.bool)
    return Transition(
        torch.randn(E, 4), torch.randint(2, (E,)), torch.randn(E), false, false, torch.randn(E, 4), ~false
    )


def update(captured: bool, *words: str, rows: int = 1000) -> Callable:
    made = agent("agent.capacity=1000000" if rows > 1000 else "agent.capacity=1000", *words)
    made.replay.columns["reward"].normal_()
    made.replay.columns["obs"].normal_()
    made.replay.columns["valid"].fill_(1)
    made.replay.rows = rows
    if captured:
        made.step = compiled(
            made.update, made, made.replay.index(128), made.posterior.index(made.posterior.draws), name="the update"
        )
    return made.learn


def rollout(captured: bool, E: int) -> Callable:
    """An action for each environment, and what followed stored."""
    made, given = agent(f"agent.capacity={max(1000, 4 * E)}", num_envs=E), step(E)
    made.act(given.obs, ~given.terminated)
    if captured:
        noise = made.exploration.noise(made.posterior, given.valid)
        made.choose = compiled(made.decide, made, given.obs, *noise, name="acting")
    starts = torch.rand(E) < 0.01

    def call() -> None:
        made.act(given.obs, starts)
        made.observe(given)

    return call


def main(figure: str, mode: str = "eager") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    captured, panels = mode == "capture", []
    make: dict[str, Callable[[int], Callable]] = {
        "draws": lambda n: update(captured, f"posterior.draws={n}"),
        "width": lambda n: update(captured, f"network.hidden=[{n},{n}]"),
        "replay size": lambda n: update(captured, rows=n),
        "environments": lambda n: rollout(captured, n),
    }
    print("| | | CPU ms | growth |\n|---|---|---|---|")
    for axis, sizes in AXES.items():
        seconds = interleaved({str(n): make[axis](n) for n in sizes}, ROUNDS, 5 if axis == "environments" else 20)
        cost = [statistics.median(values) for values in seconds.values()]
        for i, n in enumerate(sizes):
            power = math.log(cost[i] / cost[i - 1]) / math.log(n / sizes[i - 1]) if i else math.nan
            print(f"| {axis} | {n:,} | {cost[i] * 1e3:.3f} | {f'{power:.2f}' if i else ''} |", flush=True)
        panels.append((axis, sizes, cost))
    for axis, sizes, cost in panels:
        line = {mode: torch.tensor(cost).mul(1e3).log10()}
        text = curves(torch.tensor(sizes).log10(), f"log10 of {axis}", [Curve("log10 of CPU ms", line)])
        Path(figure).with_stem(f"{Path(figure).stem}_{axis.replace(' ', '_')}").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])

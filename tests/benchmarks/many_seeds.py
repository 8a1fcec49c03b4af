"""Many seeds at once against one by one: `python tests/benchmarks/many_seeds.py [posterior [seeds ...]]`.

The update: CPU time for each seed of `bayesrl.stacking.Stacked`, arguments stacked and results taken apart included,
and its ratio to the captured update of one agent, with the network and batch of the defaults and with small ones
(32-32, batch 32, 5 draws). One thread; rounds are interleaved; medians over rounds, of the ratios too.

Training: CPU time of `python -m bayesrl.train seeds=S capture=true` for a transition of a seed, and its ratio to that
of one run; CartPole-v1, nothing logged or saved in between. What `MORE` transitions of all seeds together add to
`SHORT` of each, so that starting and compiling are not counted.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from bayesrl import config
from bayesrl.agent import EnvSpec, Transition
from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.building import build_agent
from bayesrl.capture import Captured
from bayesrl.stacking import Stacked

ROUNDS, UPDATES = 15, 10
SHORT, MORE = 600, 16_000
SIZES = {"128-128": [], "32-32": ["network.hidden=[32,32]", "agent.batch_size=32", "posterior.draws=5"]}
COMMAND = [sys.executable, "-m", "bayesrl.train", "capture=true"]
QUIET = ["log.every=10000000", "log.draw=0", "checkpoint.every=10000000", "eval.every=0", "eval.final_episodes=1"]


def filled(words: list[str]) -> BayesDQN:
    """An agent with 1,000 random transitions."""
    agent = build_agent(
        config.load(["agent.capacity=2000", *words]), EnvSpec((4,), torch.float32, 2), torch.device("cpu")
    )
    valid = torch.ones(1, dtype=torch.bool)
    for _ in range(1000):
        obs, after, reward, done = torch.randn(1, 4), torch.randn(1, 4), torch.randn(1), torch.rand(1) < 0.05
        agent.observe(Transition(obs, torch.randint(2, (1,)), reward, done, ~valid, after, valid))
    return agent  # type: ignore[return-value]


def given(agent: BayesDQN) -> tuple[Tensor, Tensor]:
    return agent.replay.index(agent.batch_size), agent.posterior.index(agent.posterior.draws)


def update(words: list[str], S: int) -> tuple[float, float]:
    """CPU ms a seed, and its ratio to the captured update of one agent."""
    agents, alone = [filled(words) for _ in range(S)], filled(words)
    one = Captured(alone.update, alone, *given(alone))
    many = Stacked([agent.update for agent in agents], agents, [given(agent) for agent in agents])
    one.compile()
    many.compile()
    drawn = [given(agent) for agent in agents]
    calls: dict[str, Callable[[], object]] = {
        "many": lambda: many.parts(*map(torch.stack, zip(*drawn, strict=True))),
        "one": lambda: one(*drawn[0]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(UPDATES):
                call()
            seconds[name].append((time.process_time() - begin) / UPDATES)
    ratio = statistics.median(a / S / b for a, b in zip(seconds["many"], seconds["one"], strict=True))
    return statistics.median(seconds["many"]) / S * 1e3, ratio


def trained(words: list[str], S: int, steps: int) -> float:
    """CPU seconds of the command."""
    with tempfile.TemporaryDirectory() as place:
        many = [f"seeds={S}"] if S > 1 else []
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [*COMMAND, *words, *QUIET, *many, f"steps={steps}", f"run_dir={place}/run"], check=True, capture_output=True
        )
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def main(posterior: str = "hypermodel", *counts: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seeds = [int(count) for count in counts] or [4, 16]
    print("| network | seeds | update, ms a seed | ratio | training, ms a transition | ratio |\n" + "|---" * 6 + "|")
    for size, extra in SIZES.items():
        words = [f"posterior={posterior}", *extra]
        cost = {}
        for S in (1, *seeds):
            trained(words, S, SHORT)  # compiles, which the cache on disk then holds
            cost[S] = (trained(words, S, SHORT + MORE // S) - trained(words, S, SHORT)) / MORE
        for S in seeds:
            ms, ratio = update(words, S)
            row = f"| {size} | {S} | {ms:.3f} | {ratio:.2f} | {cost[S] * 1e3:.3f} | {cost[S] / cost[1]:.2f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

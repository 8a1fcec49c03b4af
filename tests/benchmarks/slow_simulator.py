"""Learning beside a slow simulator: `python tests/benchmarks/slow_simulator.py [sleep] [burn] [uneven]`.

Eight environments of 5 ms a step in worker processes, and the captured update of the default agent (hypermodel, MLP
128-128, batch 128, 20 draws). Wall time of a step of all eight with so many updates owed to it: stepping alone (acting
and storing included, no update), learning alone (those updates), one after the other, and overlapped; the last two also
as ratios to the longer of the first two. sleep: the simulator waits for something outside this machine; burn: it
computes, so that eight compete with learning for the cores; uneven: it sleeps for an exponential time of mean 5 ms, and
stepping waits for the slowest. Rounds are interleaved; medians over rounds, of the ratios too. One thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

from bayesrl.agents.bayes_dqn import BayesDQN
from bayesrl.envs import make
from bayesrl.experiment import config
from bayesrl.experiment.build import build_agent
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter

ROUNDS, STEPS, E, PAUSE = 9, 20, 8, 5e-3


class Simulator(gym.Env):
    """Four random numbers, one second after another."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(2)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def see(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def step(self, action):
        self.t += 1
        if self.kind == "burn":
            end = time.process_time() + PAUSE
            while time.process_time() < end:
                pass
        else:
            time.sleep(PAUSE if self.kind == "sleep" else self.np_random.exponential(PAUSE))
        return self.see(), 1.0, self.t == 200, False, {}


def parts(agent: BayesDQN, envs: VectorEnvAdapter, ratio: float) -> dict[str, Callable[[], object]]:
    """What is timed: name -> one step, or the updates of one."""
    rollouts = {
        name: Rollout(agent, envs, replay_ratio, overlap)
        for name, replay_ratio, overlap in (
            ("stepping alone", 0.0, False),
            ("one after the other", ratio, False),
            ("overlapped", ratio, True),
        )
    }

    def learn() -> None:
        for _ in range(round(ratio * E)):
            agent.learn()

    return {"learning alone": learn, **{name: rollout.step for name, rollout in rollouts.items()}}


def measure(made: dict[str, Callable[[], object]]) -> list[str]:
    """The cells of a row."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, part in made.items():
            begin = time.perf_counter()
            for _ in range(STEPS):
                part()
            seconds[name].append((time.perf_counter() - begin) / STEPS)
    longer = list(map(max, seconds["stepping alone"], seconds["learning alone"]))
    cells = []
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, longer, strict=True))
        cells.append(f"{statistics.median(values) * 1e3:.2f} ms" + f", {ratio:.2f}" * (not name.endswith("alone")))
    return cells


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = config.load([f"env.num_envs={E}", "agent.learning_starts=160"])
    agent = None
    print(
        "| simulator | updates a step | learning | stepping | one after the other | overlapped |\n" + "|---" * 6 + "|"
    )
    for kind in sys.argv[1:] or ("sleep", "burn", "uneven"):
        envs = VectorEnvAdapter(make(Simulator, E, {"kind": kind}, vectorization="async")[0], 0.99)
        envs.reset(seed=0)
        if agent is None:
            agent = build_agent(settings, envs.spec, torch.device("cpu"))
            fill = Rollout(agent, envs, 0.0)
            for _ in range(30):
                fill.step()
            agent.capture()  # type: ignore[attr-defined]
            agent.learn()
        for updates in (2, 4, 8, 16):
            cells = measure(parts(agent, envs, updates / E))  # type: ignore[arg-type]
            print(f"| {kind} | {updates} | {' | '.join(cells)} |", flush=True)
        envs.env.close()


if __name__ == "__main__":
    main()

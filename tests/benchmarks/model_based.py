"""Model-based agents against the planner that knows the true world, from the same starts.

    python tests/benchmarks/model_based.py TASK [--seeds 100-109] [--steps 400] [--at 200,400] [--until RETURN]
        [--explore thompson,mean,optimism] [words of bayesrl.train]
    TASK: pendulum, pendulum_reward_known, noisy_pendulum, balance (the agent is told when a pole has fallen),
    balance_end_learned, swing_up, sparse_swing_up (it is told what is paid), sparse_swing_up_reward_learned,
    mountain_car

Environments, agent and settings are those of the experiments, `pendulum`'s that of `model_based`;
further words, such as agent=pets, change them. Evaluates greedily after --at transitions, again and again; the true
planner searches with the same planner in the true dynamics, noise apart, and is evaluated in the same environments
under the same seeds. --until stops a seed's training at the first episode with so much return. --explore tells ways to
act while learning, to be compared seed by seed: in one drawn world an episode (`psrl`), for the mean over worlds
(`pets`), or as if what worlds disagree on would turn out as wished (`pets` with `Hallucinated`, beta = 1).

A line for each seed and way: each training episode's return and the transitions at its end, the greedy returns, the
true planner's. Then means over seeds, at how many seeds the greedy return is within 5 and 10 % of the true planner's
or better, and by how much the first way is above each other one, seed against seed, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from bayesrl.envs import CartPoleSwingUp, ContinuousCartPole, SparseCartPoleSwingUp
from bayesrl.envs.tasks.tensor_classic import TensorContinuousMountainCar, TensorPendulum
from bayesrl.envs.vector.tensor_env import State, TensorEnv
from bayesrl.experiment import config as cfg
from bayesrl.experiment.build import build_agent, environments
from bayesrl.metrics.bootstrap import mean, resamples
from bayesrl.rl.agent import Agent
from bayesrl.training.evaluation import evaluate
from bayesrl.training.rollout import Rollout
from bayesrl.world_models.dynamics import WorldStep
from bayesrl.world_models.planners import Plan, Planner
from bayesrl.world_models.propagation import TSinf, returns


def turned(obs: Tensor) -> State:
    """Cosine, sine and angular velocity as the angle and that."""
    cos, sin, spin = obs.unbind(-1)
    return torch.atan2(sin, cos), spin


def swung(obs: Tensor) -> State:
    """Position, velocity, cosine, sine and angular velocity with the angle itself."""
    x, speed, cos, sin, spin = obs.unbind(-1)
    return x, speed, torch.atan2(sin, cos), spin


def paid(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Pendulum's reward, of where a step began."""
    angle, spin = turned(obs)
    return -(angle.square() + 0.1 * spin.square() + 0.001 * (2 * action[..., 0].clamp(-1, 1)).square())


def numbers(obs: Tensor) -> State:
    return obs.unbind(-1)


TASKS: dict[str, tuple[type[TensorEnv], Callable[[Tensor], State], list[str]]] = {
    "pendulum": (TensorPendulum, turned, ["experiment=model_based"]),
    "pendulum_reward_known": (
        TensorPendulum,
        turned,
        ["experiment=model_based", "agent.dynamics.reward={_target_:__main__.paid,_partial_:true}"],
    ),
    "noisy_pendulum": (TensorPendulum, turned, ["experiment=model_based", "env=noisy_pendulum"]),
    "balance": (ContinuousCartPole, numbers, ["experiment=balance"]),
    "balance_end_learned": (ContinuousCartPole, numbers, ["experiment=balance", "agent.dynamics.terminated=null"]),
    "swing_up": (CartPoleSwingUp, swung, ["experiment=swing_up"]),
    "sparse_swing_up": (SparseCartPoleSwingUp, swung, ["experiment=sparse_swing_up"]),
    "sparse_swing_up_reward_learned": (
        SparseCartPoleSwingUp,
        swung,
        [
            "experiment=sparse_swing_up",
            "agent.dynamics.reward=null",
            "agent.dynamics.reward_scale=0.1",
            "agent.updates=500",
        ],
    ),
    "mountain_car": (TensorContinuousMountainCar, numbers, ["experiment=mountain_car"]),
}
EXPLORE = {
    "thompson": ["agent=psrl"],
    "mean": ["agent=pets"],
    "optimism": [
        "agent=pets",
        "agent.propagation._target_=bayesrl.world_models.propagation.Hallucinated",
        "++agent.propagation.beta=1.0",
    ],
}  # fmt: skip


class World:
    """The true dynamics of an environment as a world, undisturbed: obs [n, B, D], action [n, B, A]."""

    count = 0

    def __init__(self, env: TensorEnv, state: Callable[[Tensor], State]) -> None:
        self.env, self.state = env, state

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> WorldStep:
        n, B, _ = obs.shape
        still = obs.new_full((n * B, self.env.step_noise), 0.5)
        state, reward, ended = self.env.dynamics(self.state(obs.flatten(0, 1)), action.flatten(0, 1), still)
        return WorldStep(*(x.unflatten(0, (n, B)) for x in (self.env.observe(state), reward, ended.to(obs.dtype))))


class Knowing(Agent):
    """Plans in the true world; a search goes on from the plan of the step before."""

    def __init__(self, world: World, planner: Planner) -> None:
        super().__init__()
        self.world, self.planner = world, planner
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def predict(self, obs: Tensor, state: Plan | None = None, episode_start=None, mask=None) -> tuple[Tensor, Plan]:
        self.world.count = len(obs)
        shift = torch.zeros(self.planner.horizon, len(obs), dtype=torch.int64)
        plan = (
            self.planner.initial(len(obs), 1, obs) if state is None else self.planner.warm_start(state, episode_start)
        )
        for eps in self.planner.noise(len(obs), 1, obs, self.generator):
            plan = self.planner.improve(lambda x: returns(self.world, TSinf(), obs, x, None, shift), plan, eps)
        return plan.best[:, 0], plan


class Run(NamedTuple):
    """What came of one seed.

    Attributes:
        told: return of each training episode and the transitions at its end, spelled.
        transitions: of training.
        greedy: the agent's returns, of each evaluation.
        knowing: the true planner's.
    """

    told: list[str]
    transitions: int
    greedy: list[float]
    knowing: float


def run(task: str, words: list[str], seed: int, steps: int, at: list[int], until: float, episodes: int) -> Run:
    """Train, and evaluate after `at` transitions; once at the end if that is empty."""
    env, state, own = TASKS[task]
    config = cfg.load([*own, *words, f"seed={seed}"])
    device = torch.device("cpu")
    envs, _ = environments(config, 1, config.env.vectorization, 1.0, device)
    test_envs, _ = environments(config, max(1, episodes), config.env.vectorization, 1.0, device)
    envs.reset(seed=seed)
    torch.manual_seed(seed)
    agent = build_agent(config, envs.spec, device)
    agent.capture(say=lambda line: None)  # type: ignore[attr-defined]
    rollout, told, greedy, best = Rollout(agent, envs), list[str](), list[float](), -math.inf
    while rollout.transitions < steps and best < until:
        rollout.step()
        for episode in envs.finished:
            best = max(best, episode.ret)
            told.append(f"{episode.ret:.0f} ({rollout.transitions})")
            print(f"seed {seed}: {told[-1]}", file=sys.stderr)
        if episodes and rollout.transitions in at:
            greedy.append(evaluate(agent, test_envs, episodes, seed).mean)
    if not episodes:
        return Run(told, rollout.transitions, [], math.nan)
    if not at:
        greedy.append(evaluate(agent, test_envs, episodes, seed).mean)
    planner = Knowing(World(env(), state), instantiate(config.planner))
    knowing = evaluate(planner, test_envs, episodes, seed).mean  # type: ignore[arg-type]
    return Run(told, rollout.transitions, greedy, knowing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", default="0-4", help="first-last, both included")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--at", default="", help="transitions after which to evaluate, 200,400; the end by default")
    parser.add_argument("--until", type=float, default=math.inf, help="return of a training episode that is enough")
    parser.add_argument("--episodes", type=int, default=3, help="of an evaluation; 0 for none, and no true planner")
    parser.add_argument("--explore", default="thompson", help=f"ways to act while learning: {','.join(EXPLORE)}")
    options, words = parser.parse_known_args()
    ways = options.explore.split(",")
    if not set(ways) <= set(EXPLORE):
        parser.error(f"got --explore {options.explore}, wanted some of {','.join(EXPLORE)}")
    if options.at and options.until < math.inf:
        parser.error("got --at and --until, which may stop before that: give one of them")
    torch.set_num_threads(1)
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    at = [int(number) for number in options.at.split(",") if number]
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for seed in seeds:
        for way in ways:
            began = time.process_time()
            each = run(
                options.task, [*EXPLORE[way], *words], seed, options.steps, at, options.until, options.episodes
            )  # fmt: skip
            runs[way].append(each)
            print(
                f"{options.task} {way} seed {seed}: training {' '.join(each.told)}; greedy "
                f"{' '.join(f'{value:.1f}' for value in each.greedy)}; true planner {each.knowing:.1f} "
                f"({time.process_time() - began:.0f} s)",
                flush=True,
            )
    counts = resamples([len(seeds)], 2000, np.random.default_rng(0))
    scores = {}
    for way, of in runs.items():
        knowing = np.array([each.knowing for each in of])[:, None]
        scores[way] = np.array([[*each.greedy, each.transitions] for each in of])  # [seeds, evaluations + 1]
        *greedy, transitions = scores[way].mean(0)
        print(
            f"mean over seeds, {way}: greedy {' '.join(f'{value:.1f}' for value in greedy)}; true planner "
            f"{knowing.mean():.1f}; transitions {transitions:.0f}"
        )
        for share in (0.05, 0.1) if options.episodes else ():
            within = (scores[way][:, :-1] >= knowing - share * abs(knowing)).sum(0)
            print(f"within {share:.0%} of the true planner: {' '.join(map(str, within))} of {len(of)} seeds")
    for way in ways[1:]:
        value, low, high = mean(scores[ways[0]] - scores[way], counts)
        spelled = [f"{v:.1f} [{a:.1f}, {b:.1f}]" for v, a, b in zip(value, low, high, strict=True)]
        print(f"{ways[0]} less {way}: greedy {' '.join(spelled[:-1])}; transitions {spelled[-1]}")


if __name__ == "__main__":
    main()

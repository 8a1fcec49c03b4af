"""Model-based agents against the planner that knows the true world, from the same starts.

    python tests/benchmarks/model_based.py TASK [--seeds 100-109] [--steps 400] [--at 200,400] [words of bayesrl.train]
    TASK: pendulum, noisy_pendulum, pendulum_reward_known (the agent is told what is paid), balance (it is told when a
    pole has fallen), balance_end_learned, swing_up, sparse_swing_up, mountain_car

Environments, agent and settings are those of the experiments `model_based`, `balance`, `swing_up` and `mountain_car`;
further words, such as agent=pets, change them. Evaluates greedily after --at transitions, again and again; the true
planner searches with the same planner in the true dynamics, noise apart, and is evaluated in the same environments
under the same seeds. A line a seed: each training episode's return and the transitions at its end, the greedy returns,
the true planner's; then their means over seeds, and at how many seeds the greedy return is within 5 and 10 % of the
true planner's or better.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from bayesrl import config as cfg
from bayesrl.building import build_agent, environments
from bayesrl.envs import CartPoleSwingUp, ContinuousCartPole, SparseCartPoleSwingUp
from bayesrl.envs.tensor_classic import TensorContinuousMountainCar, TensorPendulum
from bayesrl.envs.tensor_env import State, TensorEnv
from bayesrl.evaluation import evaluate
from bayesrl.planning import Plan, Planner
from bayesrl.propagation import TSinf, returns
from bayesrl.rollout import Rollout
from bayesrl.worlds import Imagined


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


SPARSE = [
    "env=sparse_swing_up", "planner.horizon=50", "prior_scale=0.2", "agent.dynamics.reward_scale=5.0", "agent.every=50",
]  # fmt: skip
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
    "sparse_swing_up": (SparseCartPoleSwingUp, swung, ["experiment=swing_up", *SPARSE]),
    "mountain_car": (TensorContinuousMountainCar, numbers, ["experiment=mountain_car"]),
}


class World:
    """The true dynamics of an environment as a world, undisturbed: obs [n, B, D], action [n, B, A]."""

    count = 0

    def __init__(self, env: TensorEnv, state: Callable[[Tensor], State]) -> None:
        self.env, self.state = env, state

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Imagined:
        n, B, _ = obs.shape
        still = obs.new_full((n * B, self.env.step_noise), 0.5)
        state, reward, ended = self.env.dynamics(self.state(obs.flatten(0, 1)), action.flatten(0, 1), still)
        return Imagined(*(x.unflatten(0, (n, B)) for x in (self.env.observe(state), reward, ended.to(obs.dtype))))


class Knowing(nn.Module):
    """Plans in the true world; a search goes on from the plan of the step before."""

    plan: Plan | None = None

    def __init__(self, world: World, planner: Planner) -> None:
        super().__init__()
        self.world, self.planner = world, planner
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        self.world.count = len(obs)
        shift = torch.zeros(self.planner.horizon, len(obs), dtype=torch.int64)
        plan = self.planner.begin(len(obs), 1, obs) if self.plan is None else self.planner.later(self.plan, start)
        for eps in self.planner.noise(len(obs), 1, obs, self.generator):
            plan = self.planner.improve(lambda x: returns(self.world, TSinf(), obs, x, None, shift), plan, eps)
        self.plan = plan
        return plan.best[:, 0]

    def greedy(self, seen: Tensor, mask: Tensor | None = None) -> Tensor:
        return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", default="0-4", help="first-last, both included")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--at", default="", help="transitions after which to evaluate, 200,400; at the end by default")
    parser.add_argument("--episodes", type=int, default=3)
    options, words = parser.parse_known_args()
    torch.set_num_threads(1)
    env, state, own = TASKS[options.task]
    first, _, last = options.seeds.partition("-")
    at = [int(number) for number in (options.at or str(options.steps)).split(",")]
    rows = []
    for seed in range(int(first), int(last or first) + 1):
        began = time.process_time()
        config = cfg.load([*own, f"seed={seed}", *words])
        device = torch.device("cpu")
        envs, _ = environments(config, 1, config.env.vectorization, 1.0, device)
        test_envs, _ = environments(config, options.episodes, config.env.vectorization, 1.0, device)
        envs.reset(seed=seed)
        torch.manual_seed(seed)
        agent = build_agent(config, envs.spec, device)
        agent.capture(say=lambda line: None)  # type: ignore[attr-defined]
        rollout, told, learned = Rollout(agent, envs), [], []
        while rollout.transitions < options.steps:
            rollout.step()
            for episode in envs.finished:
                told.append(f"{episode.ret:.0f} ({rollout.transitions})")
                print(f"seed {seed}: {told[-1]}", file=sys.stderr)
            if rollout.transitions in at:
                learned.append(evaluate(agent, test_envs, options.episodes, seed).mean)
        planner = Knowing(World(env(), state), instantiate(config.planner))
        knowing = evaluate(planner, test_envs, options.episodes, seed).mean  # type: ignore[arg-type]
        rows.append((*learned, knowing))
        greedy = " ".join(f"{each:.1f}" for each in learned)
        print(
            f"{options.task} seed {seed}: training {' '.join(told)}; greedy {greedy}; true planner {knowing:.1f} "
            f"({time.process_time() - began:.0f} s)",
            flush=True,
        )
    *learned, knowing = (statistics.mean(each) for each in zip(*rows, strict=True))
    print(f"mean: greedy {' '.join(f'{each:.1f}' for each in learned)}; true planner {knowing:.1f}")
    for share in (0.05, 0.1):
        within = [sum(row[i] >= row[-1] - share * abs(row[-1]) for row in rows) for i in range(len(at))]
        print(f"within {share:.0%} of the true planner: {' '.join(map(str, within))} of {len(rows)} seeds")


if __name__ == "__main__":
    main()

"""Model-based agents against the planner that knows the true world, from the same starts.

    python tests/benchmarks/model_based.py TASK [--seeds 0 1 2] [--agent psrl] [--steps 400]
    TASK: pendulum, noisy_pendulum, cartpole, cartpole_end_known (the agent is told when a pole has fallen)

Trains as `python -m bayesrl.train` does and evaluates greedily; the true planner searches with the same planner in the
true dynamics, noise apart, and is evaluated in the same environments under the same seeds. A line a seed: each
training episode's return, the greedy return, the true planner's.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial

import torch
from torch import Tensor, nn

from bayesrl.agents.pets import PETS
from bayesrl.agents.psrl import PSRL
from bayesrl.device_environments import DeviceEnvironments
from bayesrl.dynamics import Dynamics
from bayesrl.environments import Environments
from bayesrl.envs import make
from bayesrl.envs.tensor_env import TensorEnv
from bayesrl.evaluation import evaluate
from bayesrl.likelihoods import Heteroscedastic, WithFlag
from bayesrl.network import mlp
from bayesrl.optim import Adam
from bayesrl.planning import ImprovedCEM, Planner
from bayesrl.posteriors import Hypermodel
from bayesrl.propagation import TSinf, returns
from bayesrl.rollout import Rollout
from bayesrl.worlds import Imagined

AGENTS = {"psrl": PSRL, "pets": PETS}


class Pendulum:
    """The true pendulum as a world: obs [n, B, 3], action [n, B, 1]."""

    count = 0

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Imagined:
        cos, sin, spin = obs.unbind(-1)
        angle, torque = torch.atan2(sin, cos), 2 * action[..., 0].clamp(-1, 1)
        reward = -(angle.square() + 0.1 * spin.square() + 0.001 * torque.square())
        spin = (spin + (15 * sin + 3 * torque) * 0.05).clamp(-8, 8)
        angle = angle + 0.05 * spin
        return Imagined(torch.stack([angle.cos(), angle.sin(), spin], -1), reward, torch.zeros_like(reward))


class CartPole:
    """The true cart and pole as a world: obs [n, B, 4], action [n, B, 1]."""

    count = 0

    def step(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Imagined:
        x, speed, angle, spin = obs.unbind(-1)
        push = (10 * action[..., 0].clamp(-1, 1) + 0.05 * spin.square() * angle.sin()) / 1.1
        bend = (9.8 * angle.sin() - angle.cos() * push) / (0.5 * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
        pull = push - 0.05 * bend * angle.cos() / 1.1
        after = torch.stack([x + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * spin, spin + 0.02 * bend], -1)
        return Imagined(after, torch.ones_like(x), fallen(after).float())


def fallen(next_obs: Tensor) -> Tensor:
    return (next_obs[..., 0].abs() > 2.4) | (next_obs[..., 2].abs() > 12 * math.pi / 180)


TASKS = {
    "pendulum": ("Pendulum-v1", Pendulum, 100),
    "noisy_pendulum": ("bayesrl/NoisyPendulum-v0", Pendulum, 100),
    "cartpole": ("bayesrl/ContinuousCartPole-v0", CartPole, 1),
    "cartpole_end_known": ("bayesrl/ContinuousCartPole-v0", CartPole, 1),
}


class Knowing(nn.Module):
    """Plans in the true world, from a plan that it keeps."""

    def __init__(self, world: Pendulum | CartPole, planner: Planner) -> None:
        super().__init__()
        self.world, self.planner = world, planner
        self.generator = torch.Generator().manual_seed(0)

    def see(self, obs: Tensor, start: Tensor, seen: Tensor | None = None) -> Tensor:
        return obs

    @torch.no_grad()
    def greedy(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        self.world.count = len(obs)
        shift = torch.zeros(self.planner.horizon, len(obs), dtype=torch.int64)
        plan = self.planner.begin(len(obs), 1, obs)
        for eps in self.planner.noise(len(obs), 1, obs, self.generator):
            plan = self.planner.improve(lambda x: returns(self.world, TSinf(), obs, x, None, shift), plan, eps)
        return plan.best[:, 0]


def begun(name: str, count: int) -> Environments:
    env = make(name, count)[0]
    return DeviceEnvironments(env) if isinstance(env, TensorEnv) else Environments(env)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--agent", choices=AGENTS, default="psrl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--every", type=int, default=None, help="transitions between fits inside an episode")
    parser.add_argument("--episodes", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    name, world, learning_starts = TASKS[args.task]
    for seed in args.seeds:
        began = time.perf_counter()
        envs, test_envs = begun(name, 1), begun(name, args.episodes)
        envs.reset(seed=seed)
        torch.manual_seed(seed)
        shape, outputs = PSRL.signature(envs.spec)
        network = mlp(shape, outputs, size=2, hidden=[64, 64], activation=nn.SiLU)
        likelihood, optimizer = WithFlag(Heteroscedastic()), partial(Adam, lr=3e-3)
        posterior = Hypermodel(network, draws=8, likelihood=likelihood, optimizer=optimizer)
        known = partial(Dynamics, terminated=fallen if args.task == "cartpole_end_known" else None)
        fits = {"updates": args.updates, "learning_starts": learning_starts, "every": args.every}
        agent = AGENTS[args.agent](envs.spec, posterior, ImprovedCEM(), known, **fits)
        rollout, told = Rollout(agent, envs), []
        while rollout.transitions < args.steps:
            rollout.step()
            told += [f"{episode.ret:.0f}" for episode in envs.finished]
        learned = evaluate(agent, test_envs, args.episodes, seed).returns
        knowing = evaluate(Knowing(world(), ImprovedCEM()), test_envs, args.episodes, seed).returns  # type: ignore
        print(
            f"{args.task} {args.agent} seed {seed}: training {' '.join(told)}; after {rollout.transitions} transitions "
            f"greedy {learned.mean():.1f}, true planner {knowing.mean():.1f} ({time.perf_counter() - began:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()

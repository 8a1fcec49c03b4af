"""Train an agent on an environment of your own, and deploy its policy with a rule for handing over.

    python examples/own_environment.py --steps 6000

The environment is a tank that has to be kept half full while a random amount flows out. The deployed policy says with
every action how unsure it is of its value, in units of return. Where it is more unsure than in 95 % of the states that
it met after training, a simple rule takes over.
"""

import argparse

import gymnasium as gym
import numpy as np

import bayesrl


class Tank(gym.Env):
    """Keep a tank half full. Observation: its level [1], 0 to 1. Actions: valve closed, half open, open."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.level, self.time = self.np_random.uniform(0.25, 0.75), 0
        return self.observe(), {}

    def step(self, action):
        inflow, outflow = 0.05 * action, self.np_random.uniform(0.0, 0.1)
        self.level = float(np.clip(self.level + inflow - outflow, 0.0, 1.0))
        self.time += 1
        empty = self.level == 0.0
        return self.observe(), 1.0 - 2.0 * abs(self.level - 0.5), empty, self.time == 50, {}

    def observe(self):
        return np.array([self.level], np.float32)


def fallback(obs: np.ndarray) -> int:
    """Open the valve below half, and close it above."""
    return 2 if obs[0] < 0.5 else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000, help="transitions to train on")
    parser.add_argument("--run-dir", default=None, help="where to write the run; default: a fresh directory in runs/")
    words = parser.parse_args()

    settings = {"eval.final_episodes": 20}
    result = bayesrl.Trainer(Tank, steps=words.steps, run_dir=words.run_dir, settings=settings).train()
    print(f"greedy return after training: {result.summary['eval_return_mean']:.1f} of at most 50")

    policy, env = result.policy, Tank()
    obs, _ = env.reset(seed=0)
    uncertainties = []
    for _ in range(200):  # what is usual, in states that it meets
        action, uncertainty = policy(obs)
        uncertainties.append(float(uncertainty))
        obs, _, terminated, truncated, _ = env.step(int(action))
        if terminated or truncated:
            obs, _ = env.reset()
            policy.reset()
    limit = np.quantile(uncertainties, 0.95)

    handed_over, total = 0, 0.0
    obs, _ = env.reset(seed=1)
    policy.reset()
    terminated = truncated = False
    while not (terminated or truncated):
        action, uncertainty = policy(obs)
        if uncertainty > limit:
            action, handed_over = fallback(obs), handed_over + 1
        obs, reward, terminated, truncated, _ = env.step(int(action))
        total += reward
    print(f"deployed: return {total:.1f}, handed over at {handed_over} of {env.time} steps")
    print(f"(where the uncertainty was above {limit:.2f})")


if __name__ == "__main__":
    main()

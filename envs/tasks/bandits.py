"""Contextual bandits: an agent observes a context and pulls an arm; every step ends an episode.

    linear      x ~ N(0, I_d),   r | x, a ~ N(x^T w_a, noise^2)                (Agrawal & Goyal, Thompson Sampling for
                                                                Contextual Bandits with Linear Payoffs, 2013)
    logistic    x ~ N(0, I_d),   r | x, a ~ Bernoulli(1 / (1 + exp(-x^T w_a))) (Chapelle & Li, An Empirical Evaluation
                                                                of Thompson Sampling, 2011)

The weights w_a are drawn once, uniformly on the unit sphere, so that each x^T w_a is standard normal over contexts.
Regret is the exact expected one: max_b E[r | x, b] - E[r | x, a]. For comparison, the expected regret of the uniform
policy at the same context, max_b E[r | x, b] - mean_b E[r | x, b], is reported beside it.

Shapes: E environments, A arms, d components of a context.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy import ndarray
from numpy.random import Generator


class Problem(ABC):
    """A distribution of contexts, and of rewards for each arm.

    Arguments:
        space: of contexts, [d] float32.
        arms: A.
    """

    def __init__(self, space: Box, arms: int) -> None:
        self.space, self.arms = space, arms

    @abstractmethod
    def contexts(self, rng: Generator, count: int) -> ndarray:
        """Return new contexts, [E, d] float32."""

    @abstractmethod
    def means(self, context: ndarray) -> ndarray:
        """Return the expected reward of every arm: [E, d] -> [E, A] float64."""

    @abstractmethod
    def rewards(self, mean: ndarray, rng: Generator) -> ndarray:
        """Return rewards with expectation `mean`: [E] -> [E] float64."""

    def pull(self, context: ndarray, arm: ndarray, rng: Generator) -> tuple[ndarray, ndarray, ndarray]:
        """Return rewards, regrets and the uniform policy's expected regrets [E] of arms [E] in contexts [E, d]."""
        if ((arm < 0) | (arm >= self.arms)).any():
            last = self.arms - 1
            raise ValueError(f"got actions {arm}, wanted 0 to {last} from every environment; sample them")
        means = self.means(context)
        best, mean = means.max(1), means[np.arange(len(arm)), arm]
        return self.rewards(mean, rng), best - mean, best - means.mean(1)


class Bandit(gym.Env):
    """A bandit whose episodes are one step, which returns its context again and the regret in its info.

    Arguments:
        problem: distribution of contexts and rewards.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, problem: Problem) -> None:
        self.problem, self.over = problem, True
        self.observation_space, self.action_space = problem.space, Discrete(problem.arms)
        self.context = np.zeros((1, *problem.space.shape), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.context, self.over = self.problem.contexts(self.np_random, 1), False
        return self.context[0].copy(), {}

    def step(self, action: int) -> tuple[ndarray, float, bool, bool, dict]:
        if self.over:
            raise ValueError("got a step outside an episode, wanted reset first; call reset() after every step")
        reward, regret, uniform = self.problem.pull(self.context, np.array([action]), self.np_random)
        self.over = True
        info = {"regret": float(regret[0]), "uniform_regret": float(uniform[0])}
        return self.context[0].copy(), float(reward[0]), True, False, info

    def get_state(self) -> dict:
        return {"context": self.context, "over": self.over}

    def set_state(self, state: dict) -> None:
        self.context, self.over = state["context"], state["over"]


class BanditVector(VectorEnv):
    """E bandits of one problem in one array; each step returns the rewards and the next contexts.

    Arguments:
        num_envs: E.
        problem: distribution of contexts and rewards.

    Attributes:
        regret, uniform_regret: regret since reset of the chosen arms and, in expectation, of the uniform policy, [E].
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, problem: Problem) -> None:
        self.num_envs, self.problem = num_envs, problem
        self.single_observation_space, self.single_action_space = problem.space, Discrete(problem.arms)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.context = np.zeros((num_envs, *problem.space.shape), dtype=np.float32)
        self.regret, self.uniform_regret = np.zeros(num_envs), np.zeros(num_envs)

    @property
    def relative_regret(self) -> float:
        """Return the cumulative regret of all environments in percent of the uniform policy's; NaN before a step."""
        uniform = float(self.uniform_regret.sum())
        return 100 * float(self.regret.sum()) / uniform if uniform else math.nan

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.context = self.problem.contexts(self.np_random, self.num_envs)
        self.regret, self.uniform_regret = np.zeros(self.num_envs), np.zeros(self.num_envs)
        return self.context.copy(), {}

    def step(self, actions: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray, dict]:
        arms, before, ended = np.asarray(actions).reshape(self.num_envs), self.context, np.ones(self.num_envs, bool)
        reward, regret, uniform = self.problem.pull(before, arms, self.np_random)
        self.regret, self.uniform_regret = self.regret + regret, self.uniform_regret + uniform
        self.context = self.problem.contexts(self.np_random, self.num_envs)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i, context in enumerate(before):
            final_obs[i] = context
        infos = {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": {
                "regret": regret, "_regret": ended.copy(),
                "uniform_regret": uniform, "_uniform_regret": ended.copy(),
            },
            "_final_info": ended.copy(),
        }  # fmt: skip
        return self.context.copy(), reward, ended, np.zeros_like(ended), infos

    def get_state(self) -> dict:
        return {"context": self.context, "regret": self.regret, "uniform_regret": self.uniform_regret}

    def set_state(self, state: dict) -> None:
        self.context, self.regret, self.uniform_regret = state["context"], state["regret"], state["uniform_regret"]


# --- linear and logistic -------------------------------------------------------------------------------------------


class Linear(Problem):
    """The linear problem: r ~ N(x^T w_a, noise^2), x ~ N(0, I_d).

    Attributes:
        weights: w, [A, d].
    """

    def __init__(self, arms: int, dim: int, noise: float, task_seed: int) -> None:
        if arms < 2 or dim < 1 or noise < 0:
            raise ValueError(
                f"got arms={arms}, dim={dim}, noise={noise}, wanted at least 2 arms, dim 1 and noise 0; "
                "10 arms in 10 dimensions are usual"
            )
        super().__init__(Box(-np.inf, np.inf, (dim,), np.float32), arms)
        self.noise, weights = noise, np.random.default_rng(task_seed).standard_normal((arms, dim))
        self.weights = weights / np.linalg.norm(weights, axis=1, keepdims=True)

    def contexts(self, rng: Generator, count: int) -> ndarray:
        return rng.standard_normal((count, *self.space.shape), dtype=np.float32)

    def means(self, context: ndarray) -> ndarray:
        return context @ self.weights.T

    def rewards(self, mean: ndarray, rng: Generator) -> ndarray:
        return mean + self.noise * rng.standard_normal(len(mean))


class Logistic(Linear):
    """The logistic problem: r ~ Bernoulli(sigmoid(x^T w_a)), x ~ N(0, I_d)."""

    def __init__(self, arms: int, dim: int, task_seed: int) -> None:
        super().__init__(arms, dim, 0.0, task_seed)

    def means(self, context: ndarray) -> ndarray:
        return 1 / (1 + np.exp(-super().means(context)))

    def rewards(self, mean: ndarray, rng: Generator) -> ndarray:
        return (rng.random(len(mean)) < mean).astype(np.float64)


class LinearBandit(Bandit):
    """A bandit whose expected rewards are linear in the context, with Gaussian noise.

    Arguments:
        arms: number of arms, A.
        dim: number of components of a context, d.
        noise: standard deviation of a reward.
        task_seed: seed of the weights; `reset` seeds contexts and rewards.
    """

    def __init__(self, arms: int = 10, dim: int = 10, noise: float = 0.5, task_seed: int = 0) -> None:
        super().__init__(Linear(arms, dim, noise, task_seed))


class LinearBanditVector(BanditVector):
    """E linear bandits with the same weights; the arguments are those of LinearBandit."""

    def __init__(
        self, num_envs: int = 1, arms: int = 10, dim: int = 10, noise: float = 0.5, task_seed: int = 0
    ) -> None:
        super().__init__(num_envs, Linear(arms, dim, noise, task_seed))


class LogisticBandit(Bandit):
    """A bandit whose rewards are 0 or 1, with log odds that are linear in the context.

    Arguments:
        arms: number of arms, A.
        dim: number of components of a context, d.
        task_seed: seed of the weights; `reset` seeds contexts and rewards.
    """

    def __init__(self, arms: int = 10, dim: int = 10, task_seed: int = 0) -> None:
        super().__init__(Logistic(arms, dim, task_seed))


class LogisticBanditVector(BanditVector):
    """E logistic bandits with the same weights; the arguments are those of LogisticBandit."""

    def __init__(self, num_envs: int = 1, arms: int = 10, dim: int = 10, task_seed: int = 0) -> None:
        super().__init__(num_envs, Logistic(arms, dim, task_seed))

"""A report on an environment before training in it: spaces, rules, seeding, speed and vectorization."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from bayesrl.envs.actions import actions
from bayesrl.envs.checker.check import STEPS, check
from bayesrl.envs.spaces import observation_layout
from bayesrl.envs.state import save_state
from bayesrl.envs.vector.make import make, step_time
from bayesrl.envs.vector.single import EnvId, single
from bayesrl.envs.wrappers import Wrapped

REASONS = {
    "native": "the environment brings a vector version of its own",
    "device": "it is written in tensors",
    "sync": "in this process, where a step is too short, or cores too few, to pay for workers",
    "async": "in worker processes, which a step is long enough to pay for",
}


def report(
    env_id: EnvId,
    num_envs: int = 1,
    kwargs: dict | None = None,
    imports: Sequence[str] = (),
    vectorization: str = "auto",
) -> Iterator[tuple[str, str]]:
    """Yield (topic, finding) pairs one by one, so that those before an error are printed.

    Arguments:
        env_id, kwargs, imports: as `single` takes them.
        num_envs, vectorization: as `make` takes them.

    Raises:
        EnvError: a rule is broken, or the environment cannot be made.
    """
    with contextlib.closing(single(env_id, kwargs, imports)) as env:
        yield "made of", str(env)
        yield "observations", str(env.observation_space)
        yield "actions", str(env.action_space)
        check(env)
        yield "rules", "followed in two random episodes"
        shape, dtype, categories = observation_layout(env.observation_space)
        among = f", each the index of a one among {categories}" if categories else ""
        yield "agents see", f"{list(shape)} {dtype}{among}"
        yield "action masks", "in info" if "action_mask" in env.reset()[1] else "none"
        yield (
            "seeding",
            (
                "the same seed gives the same episode"
                if is_reproducible(env)
                else "the same seed gives different episodes: draw every random number from self.np_random"
            ),
        )
        yield "a step", f"{1e6 * step_time(env):.3g} us"
    envs, chosen = make(env_id, num_envs, kwargs, imports, vectorization)
    with contextlib.closing(envs):
        why = REASONS[chosen] if vectorization == "auto" else "as asked"
        if isinstance(env_id, Wrapped) and env_id.passes_over(num_envs, kwargs or {}):
            why = "its own vector version is passed over, because a wrapper is of one environment"
        yield "vectorized", f"{chosen}, num_envs={num_envs}: {why}"
        yield "autoreset", envs.metadata["autoreset_mode"].name
        envs.reset(seed=0)
        yield (
            "resuming",
            (
                "bit for bit"
                if save_state(envs) is not None
                else "begins new episodes, as its state cannot be read; get_state() and set_state(state) provide it"
            ),
        )


def is_reproducible(env: gym.Env) -> bool:
    """Return whether the same seed gives the same episode, of up to `STEPS` random actions."""
    return data_equivalence(_episode(env), _episode(env))


def _episode(env: gym.Env) -> list:
    rng, chosen = np.random.default_rng(0), actions(env.action_space)
    obs, info = env.reset(seed=0)
    trajectory: list = [obs]
    for _ in range(STEPS):
        obs, reward, terminated, truncated, info = env.step(chosen.sample(rng, info))
        trajectory += [obs, float(reward), bool(terminated), bool(truncated)]
        if terminated or truncated:
            break
    return trajectory

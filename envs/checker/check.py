"""A check of one environment before training: whether it follows Gymnasium's rules and an agent can learn in it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Dict, Tuple

from bayesrl.envs.actions import actions
from bayesrl.envs.checker import rules
from bayesrl.envs.errors import EnvError, require_env
from bayesrl.envs.spaces import observation_layout

EPISODES, STEPS = 2, 25


def check(env: gym.Env) -> None:
    """Check the spaces of an environment and what it returns in two short random episodes; leave it reset.

    Raises:
        EnvError: the first rule that is broken.
    """
    check_spaces(env)
    rng, chosen = np.random.default_rng(0), actions(env.action_space)
    for seed in range(EPISODES):
        info = _reset(env, seed=seed)
        for _ in range(STEPS):
            ended, info = _step(env, chosen.sample(rng, info))
            if ended:
                break
    _reset(env)


def check_spaces(env: gym.Env) -> None:
    """Check that both spaces exist and are of a kind that agents can use, and that reset takes a seed.

    Raises:
        EnvError: the first rule that is broken.
    """
    require_env(env)
    for name in ("observation_space", "action_space"):
        space = getattr(env, name, None)
        if not isinstance(space, gym.Space):
            raise EnvError(f"{name}: got {space!r}, wanted a gymnasium.Space; set self.{name} in __init__")
    try:
        actions(env.action_space)
    except ValueError as error:
        raise EnvError(f"action_space: {error}") from error
    try:
        observation_layout(env.observation_space)
    except ValueError as error:
        raise EnvError(f"observation_space: {error}") from error
    try:
        inspect.signature(env.unwrapped.reset).bind(seed=0, options=None)
    except TypeError as error:
        raise EnvError(
            f"reset: got a signature that takes no seed or options ({error}), wanted reset(self, *, seed=None, "
            "options=None); change it and call super().reset(seed=seed) first"
        ) from error


# --- calls ---------------------------------------------------------------------------------------------------------


def _reset(env: gym.Env, seed: int | None = None) -> dict:
    call = f"reset(seed={seed})"
    result = _call(call, lambda: env.reset(seed=seed))
    _apply(call, rules.pair, result)
    obs, info = result
    _apply(f"{call} info", rules.is_dict, info)
    _observation(call, env.observation_space, obs)
    _mask(call, env.action_space, info)
    return info


def _step(env: gym.Env, action: object) -> tuple[bool, dict]:
    call = f"step({action})"
    result = _call(call, lambda: env.step(action))
    _apply(call, rules.five, result)
    obs, reward, terminated, truncated, info = result
    _apply(f"{call} reward", rules.number, reward)
    _apply(f"{call} terminated", rules.boolean, terminated)
    _apply(f"{call} truncated", rules.boolean, truncated)
    _apply(f"{call} info", rules.is_dict, info)
    _observation(call, env.observation_space, obs)
    ended = bool(terminated or truncated)
    if not ended:
        _mask(call, env.action_space, info)
    return ended, info


def _call(call: str, function: Callable):
    try:
        return function()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise EnvError(
            f"{call}: got {type(error).__name__}: {error}, wanted no exception; correct the environment at "
            f"{place.filename}, line {place.lineno}"
        ) from error


def _apply(where: str, rule: Callable, *values) -> None:
    if fault := rule(*values):
        raise EnvError(f"{where}: {fault}")


def _mask(call: str, space: gym.Space, info: dict) -> None:
    chosen = actions(space)
    if chosen.bounds is None:
        _apply(f"{call} info['action_mask']", rules.mask, chosen.count, info)


def _observation(call: str, space: gym.Space, obs) -> None:
    for path, part, value in _leaves(f"{call} observation", space, obs):
        for rule in next(table for kind, table in rules.OBSERVATION if isinstance(part, kind)):
            _apply(path, rule, part, value)


def _leaves(path: str, space: gym.Space, value) -> Iterator[tuple]:
    """Yield (path, space, value) of each array or number in a possibly nested observation."""
    if isinstance(space, Dict):
        _apply(path, rules.keys, space, value)
        for key in space:
            yield from _leaves(f"{path}[{key!r}]", space[key], value[key])
    elif isinstance(space, Tuple):
        _apply(path, rules.length, space, value)
        for i, part in enumerate(space):
            yield from _leaves(f"{path}[{i}]", part, value[i])
    else:
        yield path, space, value

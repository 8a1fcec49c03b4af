"""Errors that are raised where an environment breaks its contract."""

from __future__ import annotations

import gymnasium as gym


class EnvError(ValueError):
    """An environment that cannot be made or trained in; the message says what was got, what was wanted, what to do."""


def is_env(env: object) -> None:
    """An instance of gymnasium.Env."""
    if not isinstance(env, gym.Env):
        wanted = "wanted an instance of gymnasium.Env"
        raise EnvError(f"got {env!r} of type {type(env)}, {wanted}; derive it from gymnasium.Env, not from gym.Env")

"""Errors that are raised where an environment breaks its contract."""

from __future__ import annotations

import gymnasium as gym


class EnvError(ValueError):
    """Raised where an environment cannot be made or trained in; the message says the remedy."""


def require_env(env: object) -> None:
    """Raise EnvError unless `env` is an instance of gymnasium.Env."""
    if not isinstance(env, gym.Env):
        wanted = "wanted an instance of gymnasium.Env"
        raise EnvError(f"got {env!r} of type {type(env)}, {wanted}; derive it from gymnasium.Env, not from gym.Env")

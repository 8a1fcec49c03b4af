"""Environments inside wrappers, and the wrappers that Gymnasium lacks.

Running statistics are no wrapper's: every copy of an environment, and those of evaluation, would go by its own. The
agent standardizes observations and scales returns itself, by statistics that are saved with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from numpy import ndarray

from bayesrl.envs.errors import EnvError, require_env
from bayesrl.envs.vector.make import takes
from bayesrl.envs.vector.single import EnvId, find, guarded, name_of, single, tensor_version


@dataclass(frozen=True)
class Wrapped:
    """Argument of `single` and `make` in place of an id: the environment inside wrappers, each copy inside its own.

    Its own vector version, if any, is passed over, because a wrapper is of one environment.

    Attributes:
        env_id, imports: as `single` takes them.
        wrappers: innermost first.
    """

    env_id: EnvId
    wrappers: Sequence[Callable[[gym.Env], gym.Env]]
    imports: Sequence[str] = ()

    def __call__(self, **kwargs: Any) -> gym.Env:
        env = single(self.env_id, kwargs, self.imports)
        for wrapper in self.wrappers:
            env = self._inside(wrapper, env)
        return env

    def passes_over(self, num_envs: int, kwargs: dict) -> bool:
        """Return whether the environment has a vector version of its own, which would be used without wrappers."""
        spec, creator = find(self.env_id, self.imports)
        return tensor_version(spec, creator) is not None or (spec is not None and takes(spec, num_envs, kwargs))

    def _inside(self, wrapper: Callable[[gym.Env], gym.Env], env: gym.Env) -> gym.Env:
        known = wrapper.func if isinstance(wrapper, partial) else wrapper
        kwargs = wrapper.keywords if isinstance(wrapper, partial) else {}
        env = guarded(partial(wrapper, env), f"the wrapper {name_of(known)}", known, kwargs)
        require_env(env)
        if isinstance(env, NormalizeObservation | NormalizeReward):
            raise EnvError(
                f"got the wrapper {name_of(known)}, wanted none with running statistics, by which evaluation would "
                "judge otherwise than training; leave it out: the agent standardizes observations and scales returns "
                "itself, and saves its statistics"
            )
        return env

    def __repr__(self) -> str:
        return name_of(self.env_id)


class FrameStack(gym.ObservationWrapper):
    """The last k observations as one, along the last axis: [D] -> [k D], [H, W] -> [H, W, k], [H, W, C] -> [H, W, k C].

    Oldest first; an episode's first observation stands for those before it.

    Arguments:
        env: with a Box as its observation space.
        frames: k.
    """

    def __init__(self, env: gym.Env, frames: int = 4) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Box) or len(space.shape) == 0:
            raise ValueError(f"got observation space {space}, wanted a Box with an axis to stack along")
        if frames < 1:
            raise ValueError(f"got frames={frames}, wanted at least 1; 4 is usual")
        self.frames: deque[ndarray] = deque(maxlen=frames)
        low, high = (self._joined([bound] * frames) for bound in (space.low, space.high))
        self.observation_space = Box(low, high, dtype=space.dtype)  # type: ignore[arg-type]

    def reset(self, **arguments: Any) -> tuple[ndarray, dict]:
        self.frames.clear()
        return super().reset(**arguments)

    def observation(self, observation: ndarray) -> ndarray:
        self.frames.append(np.array(observation))
        missing = self.frames.maxlen - len(self.frames)  # type: ignore[operator]
        return self._joined([self.frames[0]] * missing + list(self.frames))

    @staticmethod
    def _joined(frames: list[ndarray]) -> ndarray:
        return np.stack(frames, -1) if frames[0].ndim == 2 else np.concatenate(frames, -1)


class ScaleReward(gym.RewardWrapper):
    """Rewards times a factor; returns, those of evaluation too, are in the new unit.

    Arguments:
        env: any.
        factor: finite and not 0.
    """

    def __init__(self, env: gym.Env, factor: float) -> None:
        super().__init__(env)
        if not np.isfinite(factor) or factor == 0:
            raise ValueError(f"got factor={factor}, wanted a finite number other than 0")
        self.factor = factor

    def reward(self, reward: SupportsFloat) -> float:
        return self.factor * float(reward)

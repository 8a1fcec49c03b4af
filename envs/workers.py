"""Environments in worker processes: what each builds, how its errors name it, and how a dead one is found."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState


class WorkerError(RuntimeError):
    """An exception of one environment, here or in a worker: its index, id, pid and traceback are in the message."""


@dataclass(frozen=True)
class Creator:
    """Builds environment `index`, here or in a worker; plain data, so that every start method can send it.

    Attributes:
        single: (env_id, kwargs, imports) -> gym.Env.
        name: of the environment, in words.
    """

    single: Callable[..., gym.Env]
    index: int
    name: str
    env_id: Any
    kwargs: dict
    imports: Sequence[str]

    def __call__(self) -> gym.Env:
        return Named(self.single(self.env_id, self.kwargs, self.imports), self.index, self.name)


class Named(gym.Wrapper):
    """Lets an exception say which environment it came from; as plain text, which every process can read."""

    def __init__(self, env: gym.Env, index: int, name: str) -> None:
        super().__init__(env)
        self.index, self.name = index, name

    def reset(self, **arguments):
        return self._call("reset", lambda: self.env.reset(**arguments))

    def step(self, action):
        return self._call("step", lambda: self.env.step(action))

    def _call(self, call: str, function: Callable):
        try:
            return function()
        except Exception as error:
            raise WorkerError(
                f"{call} of environment {self.index} ({self.name}, pid {os.getpid()}) raised "
                f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
            ) from error


class Workers(AsyncVectorEnv):
    """Gymnasium's, which raises all errors of a step as one, and closes also where a worker has died."""

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        # Gymnasium's own prints each traceback as a format string, and fails on those with a % in them.
        errors = sorted((self.error_queue.get() for ok in successes if not ok), key=lambda error: error[0])
        messages = []
        for index, kind, value, trace in errors:
            self.parent_pipes[index].close()
            self.parent_pipes[index] = None  # type: ignore[call-overload]  # as Gymnasium's own does
            named = f"environment {index} (pid {self.processes[index].pid}) raised {kind.__name__}: {value}\n\n{trace}"
            messages.append(str(value) if kind is WorkerError else named)
        if messages:
            self._state = AsyncState.DEFAULT
            raise WorkerError("\n".join(messages))

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        idle = self._state is AsyncState.DEFAULT
        if describe_dead_worker(self, timeout=0 if idle else 0.5):
            self._state, terminate = AsyncState.DEFAULT, True
        super().close_extras(timeout, terminate)


def describe_dead_worker(vec_env: VectorEnv, timeout: float = 0.5) -> str | None:
    """Which worker processes ended without being asked to, or None; ask when a step failed with a closed pipe.

    Arguments:
        timeout: seconds to wait for a first end, because a pipe closes before its process has ended.
    """
    vec_env = vec_env.unwrapped
    if not isinstance(vec_env, AsyncVectorEnv) or vec_env.closed:
        return None
    workers = vec_env.processes
    ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(timeout=1)  # its pipes close a moment before it has an exit code
    dead = [
        f"environment {i} ({getattr(creator, 'name', 'unnamed')}, pid {worker.pid}) {_ending(worker.exitcode)}"
        for i, (worker, creator) in enumerate(zip(workers, vec_env.env_fns, strict=True))
        if worker.exitcode is not None
    ]
    return "; ".join(dead) or None


def _ending(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was killed by {signal.Signals(-exitcode).name}"
